//! The rule language: reads a policy text into rules, or says all that is wrong with it.
//!
//! ```text
//! VERB [PORTS] [to TARGETS] [except TARGETS] [OPTION ...]
//! ```
//!
//! One rule a line; `;` also ends a rule; `#` starts a comment. Nothing is skipped: a word that is not understood is a
//! fault. The cost is linear in the text's length, since anybody who may create a pod may write one.

mod dead;
mod hidden;
pub mod label;
mod number;
mod options;
pub mod ports;
mod statement;
pub mod targets;

use std::collections::{HashMap, HashSet, VecDeque};

use super::fault::{Collector, Complaint, Faults, quoted};
use super::lexer::{self, Place};
use super::rule::Rule;

/// Reads the text called `source`. The rules come sorted by priority, then as written.
///
/// # Errors
/// All faults of the text, one at most for each rule.
pub fn parse(source: &str, text: &str) -> Result<Vec<Rule>, Faults> {
    let mut faults = Collector::default();
    let mut rules = Vec::new();
    let mut names = Names::default();
    for statement in lexer::statements(text) {
        let parsed = statement::parse(&statement);
        match parsed.and_then(|(rule, name)| names.take(&rule, name).map(|()| rule)) {
            Ok(rule) => rules.push(rule),
            Err(problem) => faults.add(source, problem.place, problem.complaint),
        }
    }
    for (place, complaint) in
        lexer::lines(text).filter_map(|(number, line)| hidden::first(number, line))
    {
        faults.add(source, place, complaint);
    }
    for problem in names.taken_for_lines() {
        faults.add(source, problem.place, problem.complaint);
    }
    rules.sort_by_key(|rule| rule.priority);
    faults.finish(rules)
}

/// Where each rule of a valid text stands, from its verb to its last word. `rules` are what [`parse`] made of it; they are
/// sorted by priority, then as written.
pub fn places<'t>(text: &'t str, rules: &[Rule]) -> Vec<Place<'t>> {
    let mut written: HashMap<(usize, String), VecDeque<Place<'t>>> = HashMap::new();
    for statement in lexer::statements(text) {
        let first = statement.first();
        let whole = Place {
            width: statement.text().chars().count(),
            end: statement.last().end,
            ..first
        };
        let key = (first.line, statement.text().to_owned());
        written.entry(key).or_default().push_back(whole);
    }
    let mut place = |rule: &Rule| {
        let places = written.get_mut(&(rule.line, rule.text.clone()))?;
        places.pop_front()
    };
    let line = |rule: &Rule| {
        let (number, line) = lexer::lines(text).nth(rule.line - 1).unwrap_or((1, ""));
        lexer::whole_line(number, line)
    };
    rules
        .iter()
        .map(|rule| place(rule).unwrap_or_else(|| line(rule)))
        .collect()
}

/// What is wrong, and where.
#[derive(Debug)]
struct Problem<'a> {
    place: Place<'a>,
    complaint: Complaint,
}

/// The names given in one text.
#[derive(Debug, Default)]
struct Names<'a> {
    given: HashMap<String, Place<'a>>,
    /// Lines of rules without a name, which are called after them.
    unnamed_lines: HashSet<usize>,
}

impl<'a> Names<'a> {
    /// Notes a rule's name, which stands at `place`.
    fn take(&mut self, rule: &Rule, place: Option<Place<'a>>) -> Result<(), Problem<'a>> {
        let (Some(name), Some(place)) = (&rule.name, place) else {
            self.unnamed_lines.insert(rule.line);
            return Ok(());
        };
        if let Some(first) = self.given.get(name) {
            let message = format!(
                "the name {} is already used in line {}",
                quoted(name),
                first.line
            );
            return Err(Problem {
                place,
                complaint: Complaint::new(message),
            });
        }
        self.given.insert(name.clone(), place);
        Ok(())
    }

    /// Names such as `3`, when line 3 has a rule without a name: logs could not tell them apart.
    fn taken_for_lines(&self) -> Vec<Problem<'a>> {
        let mut problems: Vec<Problem<'a>> = self
            .given
            .iter()
            .filter(|(name, _)| {
                name.parse()
                    .is_ok_and(|line: usize| self.unnamed_lines.contains(&line))
            })
            .map(|(name, place)| Problem {
                place: *place,
                complaint: Complaint::new(format!(
                    "the name {} is what the rule in line {name} is called, which has none",
                    quoted(name)
                )),
            })
            .collect();
        problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
        problems
    }
}

#[cfg(test)]
mod tests;
