//! Which rules of a text can never match, because others have decided before.

use std::collections::HashMap;
use std::rc::Rc;

use jiff::Timestamp;

use crate::effective::{Facts, TierRules};
use crate::region::{self, Region};
use crate::rule::{Rule, Verb};

use super::Around;

/// Pieces that a set may fall into. Beyond, a rule counts as one that may match: rather no finding
/// than a slow or a false one.
const MOST_PIECES: usize = 2000;
/// Steps for one text, of which a rule costs one for each earlier one and more for long lists. A
/// thousand ordinary rules stay far below.
const STEPS: usize = 20_000_000;

/// Why a rule never matches.
#[derive(Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// Another rule says the same.
    Repeats(&'a Rule),
    /// These rules of the same text take all of its packets.
    Covered(Vec<&'a Rule>),
    /// Tiers above decide all of its packets, perhaps together with earlier rules of the text. Never empty.
    Overridden(Vec<(&'a TierRules, &'a Rule)>),
    /// It comes after a rule that takes everything.
    AfterUnconditional,
}

/// For each of a tier's rules, in their order, why it never matches.
pub fn judge<'a>(rules: &'a [Rule], around: &Around<'a>) -> Vec<Option<Reason<'a>>> {
    let mut judge = Judge {
        around,
        regions: HashMap::new(),
        steps: STEPS,
    };
    let mut reasons = Vec::new();
    let mut same: HashMap<String, &Rule> = HashMap::new();
    let mut after_unconditional = false;
    for (index, rule) in rules.iter().enumerate() {
        if is_over(rule, around.now) {
            reasons.push(None);
            continue;
        }
        if after_unconditional {
            reasons.push(Some(Reason::AfterUnconditional));
            continue;
        }
        let twin = same.get(&meaning(rule)).copied();
        reasons.push(match twin.filter(|twin| outlasts(twin, rule)) {
            Some(twin) => Some(Reason::Repeats(twin)),
            None => judge.reason(&rules[..index], rule),
        });
        same.entry(meaning(rule)).or_insert(rule);
        after_unconditional = is_unconditional(rule, around.facts);
    }
    reasons
}

/// Whether the rule takes every packet, now and for ever.
pub fn is_unconditional(rule: &Rule, facts: Option<&Facts>) -> bool {
    rule.until.is_none()
        && region::minus(region::everything(), &region::of_rule(rule, facts)).is_empty()
}

/// Whether the rule is as if it were not there: its `until` is over.
pub fn is_over(rule: &Rule, now: Timestamp) -> bool {
    rule.until.is_some_and(|until| until <= now)
}

/// Whether `earlier` is there as long as `later` is.
fn outlasts(earlier: &Rule, later: &Rule) -> bool {
    match (earlier.until, later.until) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => earlier >= later,
    }
}

/// What a rule does, whatever the order of its lists and the way it is written.
fn meaning(rule: &Rule) -> String {
    fn list(entries: impl Iterator<Item = String>) -> String {
        let mut entries: Vec<String> = entries.collect();
        entries.sort_unstable();
        entries.dedup();
        entries.join(",")
    }
    format!(
        "{} {} to {} except {}",
        rule.verb,
        list(rule.ports.iter().map(ToString::to_string)),
        list(rule.to.iter().map(ToString::to_string)),
        list(rule.except.iter().map(ToString::to_string)),
    )
}

struct Judge<'a, 'b> {
    around: &'b Around<'a>,
    /// By the rule's address: each rule is asked often.
    regions: HashMap<*const Rule, Rc<[Region]>>,
    steps: usize,
}

/// There are too many pieces, or steps: nothing is known.
struct TooMuch;

impl<'a> Judge<'a, '_> {
    fn reason(&mut self, earlier: &'a [Rule], rule: &'a Rule) -> Option<Reason<'a>> {
        self.find(earlier, rule).unwrap_or(None)
    }

    fn find(&mut self, earlier: &'a [Rule], rule: &'a Rule) -> Result<Option<Reason<'a>>, TooMuch> {
        let whole = self.regions(rule);
        if whole.is_empty() {
            // Nothing is excepted from nothing: a matter of the rule itself, not of others.
            return Ok(None);
        }
        let mut covering = Vec::new();
        let left = self.without_earlier(whole.to_vec(), earlier, rule, &mut covering)?;
        if left.is_empty() {
            return Ok(Some(Reason::Covered(covering)));
        }
        let mut overriding = Vec::new();
        let left = self.without_above(whole.to_vec(), rule, &mut overriding)?;
        let left = self.without_earlier(left, earlier, rule, &mut Vec::new())?;
        let overridden = left.is_empty() && !overriding.is_empty();
        Ok(overridden.then_some(Reason::Overridden(overriding)))
    }

    /// What earlier rules of the text leave.
    fn without_earlier(
        &mut self,
        mut left: Vec<Region>,
        earlier: &'a [Rule],
        rule: &Rule,
        covering: &mut Vec<&'a Rule>,
    ) -> Result<Vec<Region>, TooMuch> {
        for other in earlier {
            if is_over(other, self.around.now) || !outlasts(other, rule) {
                continue;
            }
            if self.take(&mut left, other)? {
                covering.push(other);
            }
            if left.is_empty() {
                break;
            }
        }
        Ok(left)
    }

    /// What the tiers above leave undecided. `pass` there hands packets on.
    fn without_above(
        &mut self,
        mut left: Vec<Region>,
        rule: &Rule,
        overriding: &mut Vec<(&'a TierRules, &'a Rule)>,
    ) -> Result<Vec<Region>, TooMuch> {
        for tier in self.around.above.clone() {
            let mut passed = Vec::new();
            for other in tier.rules.iter().filter(|r| !is_over(r, self.around.now)) {
                if other.verb == Verb::Pass {
                    let theirs = self.regions(other);
                    self.spend(left.len() * theirs.len())?;
                    let both = |a: &Region| -> Vec<Region> {
                        theirs.iter().filter_map(|b| a.intersect(b)).collect()
                    };
                    passed.extend(left.iter().flat_map(both));
                    self.take(&mut left, other)?;
                } else if outlasts(other, rule) && self.take(&mut left, other)? {
                    overriding.push((tier, other));
                }
            }
            left.extend(passed);
        }
        Ok(left)
    }

    /// Takes what `rule` matches away. Whether that was something.
    fn take(&mut self, left: &mut Vec<Region>, rule: &'a Rule) -> Result<bool, TooMuch> {
        let mut taken = false;
        for other in self.regions(rule).iter() {
            let sizes: usize = left.iter().map(Region::size).sum();
            self.spend(sizes + left.len() * other.size())?;
            if !left.iter().any(|region| region.loses_to(other)) {
                continue;
            }
            taken = true;
            *left = region::minus(std::mem::take(left), std::slice::from_ref(other));
            if left.len() > MOST_PIECES {
                return Err(TooMuch);
            }
        }
        Ok(taken)
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooMuch> {
        self.steps = self.steps.checked_sub(steps).ok_or(TooMuch)?;
        Ok(())
    }

    fn regions(&mut self, rule: &Rule) -> Rc<[Region]> {
        let facts = self.around.facts;
        self.regions
            .entry(std::ptr::from_ref(rule))
            .or_insert_with(|| region::of_rule(rule, facts).into())
            .clone()
    }
}

#[cfg(test)]
mod tests;
