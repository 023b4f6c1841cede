//! ICMP errors about flows that the pod has opened.
//!
//! Conntrack knows to which flow an error belongs, and not what the rules say of it by now. So a flow that begins
//! gets labels that only flows of this policy have. An error about such a flow passes; one about a flow that began
//! under other rules, or when there were none, is judged as any ICMP message.

use crate::plan::packet::CONFIRMED;
use nft::{CtState, Field, Rule, Statement, Test, Time, Value, Verdict};
use rules::protocol::{ICMP, ICMPV6};
use sha2::{Digest, Sha256};

/// Labels from here on are ours, but for the last of 128.
const FIRST: u8 = 64;
const COUNT: u8 = 63;
/// How many of them a policy has: half a million policies differ.
const OF_ONE: usize = 4;

/// What becomes of errors about flows of the policy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Errors {
    /// They pass.
    Pass,
    /// They pass before this second since 1970, when the first of the rules ends that let a flow begin. From then on it is
    /// not known which flows go on.
    PassUntil(u64),
    /// They are judged as any ICMP message.
    Judged,
}

/// What leads to [`rules()`]: few packets go there.
pub(super) fn first(chain: &str) -> Rule {
    Rule::new()
        .state(&[CtState::New, CtState::Related])
        .then(Verdict::jump(chain))
}

/// The rules of a chain that comes back.
///
pub(super) fn rules(policy: &str, errors: Errors) -> Vec<Rule> {
    let labels = labels(policy);
    let begins = Test::Masked(Value::Mark(CONFIRMED), Value::Mark(0));
    let begins = Rule::new()
        // Or related: expected by a helper.
        .state(&[CtState::New, CtState::Related])
        .test(Field::CtStatus, begins);
    let begins = labels.iter().fold(begins, |rule, label| {
        rule.then(Statement::SetCtLabel(*label))
    });
    let until = match errors {
        Errors::Judged => return vec![begins],
        Errors::Pass => None,
        Errors::PassUntil(until) => Some(until),
    };
    let error = |protocol| {
        let error = Rule::new()
            .state(&[CtState::Related])
            .test(Field::L4proto, Test::Is(Value::Protocol(protocol)));
        let known = labels.iter().fold(error, |rule, label| {
            rule.test(Field::CtLabel, Test::Labelled(*label))
        });
        let known = until.into_iter().fold(known, |rule, until| {
            let ended = Value::Time(Time::from_seconds(until));
            rule.test(Field::Time, Test::Below(ended))
        });
        known.then(Verdict::Accept)
    };
    vec![begins, error(ICMP), error(ICMPV6)]
}

/// Different ones, by the policy's name.
fn labels(policy: &str) -> Vec<u8> {
    let mut labels = Vec::with_capacity(OF_ONE);
    let mut digest = Sha256::digest(policy);
    while labels.len() < OF_ONE {
        for byte in &digest {
            let label = FIRST + byte % COUNT;
            if labels.len() < OF_ONE && !labels.contains(&label) {
                labels.push(label);
            }
        }
        digest = Sha256::digest(digest);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn errors_are_judged_once_a_rule_has_ended() {
        let always = rules("pol-0", Errors::Pass);
        let until = rules("pol-0", Errors::PassUntil(9));
        assert_eq!(rules("pol-0", Errors::Judged), always[..1]);
        let asks = |rule: &Rule| rule.to_string().contains("meta time < 9");
        assert!(!always.iter().any(asks));
        assert_eq!(
            until.iter().map(asks).collect::<Vec<_>>(),
            [false, true, true]
        );
    }

    #[test]
    fn policies_have_labels_of_their_own() {
        let of = |n: u32| {
            let mut labels = labels(&format!("pol-{n:016x}"));
            labels.sort_unstable();
            labels
        };
        let all: BTreeSet<Vec<u8>> = (0..500).map(of).collect();
        assert!(all.len() > 497, "{}", all.len());
        for labels in all {
            assert!(labels.iter().all(|label| (FIRST..127).contains(label)));
            assert_eq!(BTreeSet::from_iter(&labels).len(), OF_ONE);
        }
    }
}
