//! What becomes of a packet, in the words that log lines, counters and answers share; and the prefix of a log message.

use std::fmt;
use std::str::FromStr;

use super::effective::DefaultAction;
use super::rule::Verb;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes.
    Allow,
    /// It is dropped silently.
    Deny,
    /// It is refused at once.
    Reject,
    /// It goes, since the rule that denies it is only audited.
    WouldDeny,
    /// It goes, since the rule that rejects it is only audited.
    WouldReject,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Verdict; 5] = [
        Verdict::Allow,
        Verdict::Deny,
        Verdict::Reject,
        Verdict::WouldDeny,
        Verdict::WouldReject,
    ];

    /// What a matching rule with this verb comes to, in audit mode or not. `None`: `pass`, after which another tier
    /// decides.
    pub const fn of(verb: Verb, audit: bool) -> Option<Verdict> {
        match (verb, audit) {
            (Verb::Allow, _) => Some(Verdict::Allow),
            (Verb::Deny, false) => Some(Verdict::Deny),
            (Verb::Deny, true) => Some(Verdict::WouldDeny),
            (Verb::Reject, false) => Some(Verdict::Reject),
            (Verb::Reject, true) => Some(Verdict::WouldReject),
            (Verb::Pass, _) => None,
        }
    }

    /// What the default action comes to where no rule decides, in audit mode or not.
    pub const fn by_default(action: DefaultAction, audit: bool) -> Verdict {
        match (action, audit) {
            (DefaultAction::Allow, _) => Verdict::Allow,
            (DefaultAction::Deny, false) => Verdict::Deny,
            (DefaultAction::Deny, true) => Verdict::WouldDeny,
        }
    }

    /// As in log lines: `allow`, `would-deny`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Reject => "reject",
            Verdict::WouldDeny => "would-deny",
            Verdict::WouldReject => "would-reject",
        }
    }

    /// Whether the packet goes.
    pub const fn passes(self) -> bool {
        matches!(self, Verdict::Allow) || self.is_audited()
    }

    /// Whether the packet goes only because of audit mode. Such a verdict is always logged.
    pub const fn is_audited(self) -> bool {
        matches!(self, Verdict::WouldDeny | Verdict::WouldReject)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoVerdict;

impl fmt::Display for NoVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected allow, deny, reject, would-deny or would-reject")
    }
}

impl std::error::Error for NoVerdict {}

impl FromStr for Verdict {
    type Err = NoVerdict;

    fn from_str(word: &str) -> Result<Verdict, NoVerdict> {
        let mut all = Verdict::ALL.into_iter();
        all.find(|verdict| verdict.as_str() == word)
            .ok_or(NoVerdict)
    }
}

impl serde::Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Verdict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Verdict, D::Error> {
        let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// How many bytes a log prefix may have: Linux takes 128 with the NUL behind them (`NF_LOG_PREFIXLEN`,
/// include/uapi/linux/netfilter/nf_log.h). The longest rule's prefix is shorter, as its name is a DNS label.
pub const LONGEST_PREFIX: usize = 127;

/// What every prefix begins with.
const PROGRAM: &str = "egressway";

/// The prefix of a log message: `egressway RULE VERDICT`. `rule` is a label such as `pod:erp` or `default:deny`.
pub fn prefix(rule: &str, verdict: Verdict) -> String {
    format!("{PROGRAM} {rule} {verdict}")
}

/// Takes a prefix apart: the rule's label and the verdict. `None`: another program's.
pub fn parse_prefix(prefix: &str) -> Option<(&str, Verdict)> {
    let behind = prefix.strip_prefix(PROGRAM)?.strip_prefix(' ')?;
    let (rule, word) = behind.split_once(' ')?;
    let verdict = word.parse().ok()?;
    // What others put into a prefix must not reach a terminal.
    let printable = !rule.is_empty() && rule.bytes().all(|byte| byte.is_ascii_graphic());
    printable.then_some((rule, verdict))
}

#[cfg(test)]
mod tests {
    use super::super::effective::{Tier, TierRules};
    use super::*;

    #[test]
    fn every_verdict_is_read() {
        for verdict in Verdict::ALL {
            let prefix = prefix("default:deny", verdict);
            assert_eq!(
                prefix,
                format!("egressway default:deny {}", verdict.as_str())
            );
            assert_eq!(parse_prefix(&prefix), Some(("default:deny", verdict)));
            let json = serde_json::to_value(verdict).unwrap();
            assert_eq!(json, verdict.as_str());
            assert_eq!(serde_json::from_value::<Verdict>(json).unwrap(), verdict);
        }
        for word in ["", "pass", "Deny", "deny ", "would-allow"] {
            assert_eq!(word.parse::<Verdict>(), Err(NoVerdict), "{word:?}");
        }
    }

    #[test]
    fn others_prefixes_are_none_of_ours() {
        for prefix in [
            "",
            "egressway",
            "egressway pod:erp",
            "egressway pod:erp ",
            "egressway  deny",
            "egressway pod:erp permit",
            "egressway pod:erp deny ",
            "egressway pod:\u{1b}[31m deny",
            "egressway pod: erp deny",
            "egressways pod:erp deny",
            "other-cni pod:erp deny",
            " egressway pod:erp deny",
        ] {
            assert_eq!(parse_prefix(prefix), None, "{prefix:?}");
        }
    }

    #[test]
    fn the_longest_prefix_is_short_enough_for_the_kernel() {
        let name = "a".repeat(63);
        let text = format!("reject log name={name}");
        for tier in Tier::ALL {
            let rules = TierRules::parse(tier, "test", &text, true).unwrap();
            let label = rules.label(&rules.rules[0]);
            assert!(label.ends_with(&name));
            for verdict in Verdict::ALL {
                assert!(prefix(&label, verdict).len() <= LONGEST_PREFIX, "{label}");
            }
        }
    }
}
