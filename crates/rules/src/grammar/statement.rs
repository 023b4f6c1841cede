//! One rule: the order of its parts.

use super::options::{self, Options};
use super::{Problem, dead, ports, targets};
use crate::fault::{Complaint, quoted};
use crate::lexer::{Place, Statement};
use crate::nearest::nearest;
use crate::rule::{DEFAULT_PRIORITY, Rule, Target, Verb};

const VERBS: [&str; 4] = ["allow", "deny", "reject", "pass"];

/// Words of other firewalls for the same.
const OTHER_VERBS: [(&str, &str); 6] = [
    ("accept", "allow"),
    ("permit", "allow"),
    ("drop", "deny"),
    ("block", "deny"),
    ("refuse", "reject"),
    ("return", "pass"),
];

/// Reads one rule, and where its name stands, if it has one.
pub(super) fn parse<'a>(
    statement: &Statement<'a>,
) -> Result<(Rule, Option<Place<'a>>), Problem<'a>> {
    let mut words = Words {
        words: &statement.words,
        next: 0,
    };
    let verb_place = statement.first();
    words.next += 1;
    let verb = verb(verb_place.text()).map_err(|complaint| problem(verb_place, complaint))?;

    let mut rule = Rule {
        verb,
        ports: Vec::new(),
        to: vec![Target::Any],
        except: Vec::new(),
        log: None,
        priority: DEFAULT_PRIORITY,
        name: None,
        until: None,
        line: verb_place.line,
        text: statement.text().to_owned(),
    };
    let ports_place = words.peek();
    if ports_place.is_some_and(|word| !starts_a_part(word.text())) {
        rule.ports = words.list("ports", ports::parse)?;
    }
    let mut last_list = if rule.ports.is_empty() {
        Part::Verb
    } else {
        Part::Ports
    };
    if words.skip("to") {
        rule.to = words.list("a target", |word| target(verb, word))?;
        last_list = Part::To;
    }
    if words.skip("except") {
        rule.except = words.list("a target", targets::parse_excepted)?;
        last_list = Part::Except;
    }
    let mut options = Options::default();
    let mut name_place = None;
    while let Some(word) = words.peek() {
        if !options::looks_like_one(word.text()) {
            return Err(problem(word, misplaced(word.text(), last_list)));
        }
        last_list = Part::Options;
        let unnamed = options.name.is_none();
        options
            .read(word.text())
            .and_then(|()| log_on_pass(verb, &options))
            .map_err(|complaint| problem(word, complaint))?;
        if unnamed && options.name.is_some() {
            name_place = Some(word);
        }
        words.next += 1;
    }
    rule.log = options.log;
    rule.priority = options.priority.unwrap_or(DEFAULT_PRIORITY);
    rule.name = options.name;
    rule.until = options.until;

    if let Some(complaint) = dead::never_matches(&rule) {
        let whole = Place {
            width: statement.text().chars().count(),
            end: statement.last().end,
            ..verb_place
        };
        return Err(problem(whole, complaint));
    }
    Ok((rule, name_place))
}

/// The parts of a rule, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Verb,
    Ports,
    To,
    Except,
    Options,
}

fn problem(place: Place<'_>, complaint: Complaint) -> Problem<'_> {
    Problem { place, complaint }
}

/// Whether a word cannot be a port, because another part starts with it.
fn starts_a_part(word: &str) -> bool {
    word.eq_ignore_ascii_case("to")
        || word.eq_ignore_ascii_case("except")
        || options::looks_like_one(word)
}

fn verb(word: &str) -> Result<Verb, Complaint> {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "allow" => return Ok(Verb::Allow),
        "deny" => return Ok(Verb::Deny),
        "reject" => return Ok(Verb::Reject),
        "pass" => return Ok(Verb::Pass),
        _ => {}
    }
    let other = OTHER_VERBS.iter().find(|(other, _)| *other == lower);
    let meant = other
        .map(|(_, ours)| *ours)
        .or_else(|| nearest(word, &VERBS));
    Err(Complaint::new(format!(
        "expected `allow`, `deny`, `reject` or `pass`, found {}",
        quoted(word)
    ))
    .maybe_meant(meant))
}

/// Not all addresses of a name are ever known: to deny some of them would leave the others open.
fn target(verb: Verb, word: &str) -> Result<Target, Complaint> {
    let target = targets::parse(word)?;
    match (verb, &target) {
        (Verb::Deny | Verb::Reject, Target::Name(_)) => Err(Complaint::new(format!(
            "`{verb}` cannot have a domain name: not all addresses of {} are ever known",
            quoted(word)
        ))
        .help("`allow` the names that are needed, and `deny` everything else behind them")),
        _ => Ok(target),
    }
}

fn log_on_pass(verb: Verb, options: &Options) -> Result<(), Complaint> {
    if verb == Verb::Pass && options.log.is_some() {
        return Err(
            Complaint::new("`pass` decides nothing, so there is nothing to log")
                .help("log at the rules that decide"),
        );
    }
    Ok(())
}

/// A word that cannot stand where it does.
fn misplaced(word: &str, last: Part) -> Complaint {
    let lower = word.to_ascii_lowercase();
    let expected = match last {
        Part::Verb | Part::Ports => "`to`, `except`, an option or the end of the rule",
        Part::To => "`except`, an option or the end of the rule",
        Part::Except | Part::Options => "an option or the end of the rule",
    };
    let complaint = Complaint::new(format!("expected {expected}, found {}", quoted(word)));
    match lower.as_str() {
        "to" if last == Part::To => return complaint.help("separate the targets with commas"),
        "to" | "except" if last == Part::Options => {
            return complaint.help("options stand at the end of the rule");
        }
        "to" => return complaint.help("`to` stands before `except`"),
        "except" => {
            return complaint.help("`except` is given once: separate its targets with commas");
        }
        "," => return complaint.help("options are separated by spaces"),
        "from" => return complaint.help(ports::NO_FROM),
        "port" | "ports" | "dport" => return complaint.help(ports::NO_WORD),
        // `tcp 443`
        _ if last == Part::Ports && word.parse::<u16>().is_ok_and(|port| port > 0) => {
            return complaint.help(ports::NO_WORD);
        }
        _ => {}
    }
    if VERBS.contains(&lower.as_str()) {
        return complaint.help("write one rule a line, or `;` between two rules");
    }
    let same_list = match last {
        Part::Ports => ports::is_one(word),
        Part::To | Part::Except => targets::is_one(word),
        Part::Verb | Part::Options => false,
    };
    if same_list {
        return complaint.help("separate the entries of a list with commas");
    }
    let words: &[&str] = match last {
        Part::Verb | Part::Ports => &["to", "except", "log", "priority", "name", "until"],
        Part::To => &["except", "log", "priority", "name", "until"],
        Part::Except | Part::Options => &["log", "priority", "name", "until"],
    };
    complaint.maybe_meant(nearest(word, words))
}

/// Walks over the words of one rule.
struct Words<'s, 'a> {
    words: &'s [Place<'a>],
    next: usize,
}

impl<'a> Words<'_, 'a> {
    fn peek(&self) -> Option<Place<'a>> {
        self.words.get(self.next).copied()
    }

    /// Goes past `keyword`, if that is what comes.
    fn skip(&mut self, keyword: &str) -> bool {
        let there = self
            .peek()
            .is_some_and(|word| word.text().eq_ignore_ascii_case(keyword));
        self.next += usize::from(there);
        there
    }

    /// Reads entries separated by commas, at least one. `what` names an entry.
    fn list<T>(
        &mut self,
        what: &str,
        entry: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Result<Vec<T>, Problem<'a>> {
        let mut entries = Vec::new();
        loop {
            let previous = self.words[self.next - 1];
            let word = match self.peek() {
                Some(word) if word.text() != "," && !starts_a_part(word.text()) => word,
                found => {
                    let place = found.unwrap_or_else(|| previous.behind());
                    return Err(problem(place, missing(what, previous.text(), found)));
                }
            };
            entries.push(entry(word.text()).map_err(|complaint| problem(word, complaint))?);
            self.next += 1;
            if !self.skip(",") {
                return Ok(entries);
            }
        }
    }
}

/// A list that ends where an entry should stand.
fn missing(what: &str, previous: &str, found: Option<Place<'_>>) -> Complaint {
    let found = match found {
        Some(word) => format!("found {}", quoted(word.text())),
        None => "but the rule ends".to_owned(),
    };
    let complaint = Complaint::new(format!(
        "expected {what} after {}, {found}",
        quoted(previous)
    ));
    if previous == "," && found.starts_with("but") {
        return complaint.help("a rule cannot go on in the next line");
    }
    complaint
}
