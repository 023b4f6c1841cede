//! How much one text may ask of the nodes that enforce it. What is beyond is refused before anything is made
//! of it.

use std::net::IpAddr;

use crate::effective::TierRules;
use crate::fault::{Complaint, Faults};
use crate::lexer;
use crate::rule::{Ports, Rule, Target};
use crate::set::networks;

/// The policy file's `limits`, for the text of one pod and for each text of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rules.
    pub rules: usize,
    /// Rules that can't be looked up together with others, so that each packet is compared with every one of them:
    /// those with `until`, ICMP codes, or words such as `internet` and `dns`.
    pub plain_rules: usize,
    /// Pairs of a port and a destination of all rules that are not plain: each is an element in the kernel.
    pub pairs: usize,
}

/// A rule with more pairs of ports and destinations than these is not looked up together with others: the
/// ports and the destinations are two sets, of which each packet is looked up in both.
pub const PAIRS_OF_ONE: usize = 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            rules: 10_000,
            plain_rules: 256,
            pairs: 12_000,
        }
    }
}

impl Limits {
    /// Compares a text with the limits.
    ///
    /// # Errors
    /// There are more, said at the first one that is too many.
    pub fn check(&self, text: &TierRules) -> Result<(), Faults> {
        let mut rules: Vec<&Rule> = text.rules.iter().collect();
        rules.sort_by_key(|rule| rule.line);
        if let Some(first) = rules.get(self.rules) {
            let message = format!(
                "there are {} rules here: the policy file's `limits.rules` is {}",
                rules.len(),
                self.rules
            );
            let help = "one rule may have many ports, and a list of addresses or networks";
            return Err(fault(text, first, Complaint::new(message).help(help)));
        }
        let mut pairs: usize = 0;
        let too_many = rules.iter().find(|rule| {
            pairs = pairs.saturating_add(if is_plain(rule) { 0 } else { elements_of(rule) });
            pairs > self.pairs
        });
        if let Some(first) = too_many {
            let message = format!(
                "up to here there are {pairs} pairs of a port and a destination: the policy file's `limits.pairs` is {}",
                self.pairs
            );
            let help =
                "give rules fewer ports, ranges of ports, or networks that hold many addresses";
            return Err(fault(text, first, Complaint::new(message).help(help)));
        }
        rules.retain(|rule| is_plain(rule));
        let Some(first) = rules.get(self.plain_rules) else {
            return Ok(());
        };
        let message = format!(
            "there are {} rules here that every packet is compared with one by one (with `until`, `node`, `nodes`, \
             `dns`, `metadata`, `apiserver`, `internet`, `private`, `svc/`, domain names, an ICMP code, or more than {PAIRS_OF_ONE} \
             pairs of a port and a destination): the policy file's `limits.plainRules` is {}",
            rules.len(),
            self.plain_rules
        );
        let help = "put their ports and targets into lists of fewer rules; rules about addresses alone are looked up";
        Err(fault(text, first, Complaint::new(message).help(help)))
    }
}

fn fault(text: &TierRules, rule: &Rule, complaint: Complaint) -> Faults {
    let line = lexer::lines(&text.text).nth(rule.line.saturating_sub(1));
    let (number, line) = line.unwrap_or((1, ""));
    Faults::one(&text.source, lexer::whole_line(number, line), complaint)
}

/// Whether a rule can't be looked up together with others, so that each packet is compared with it.
fn is_plain(rule: &Rule) -> bool {
    let asks = |target: &Target| match target {
        Target::Node
        | Target::Nodes
        | Target::Dns
        | Target::Metadata
        | Target::ApiServer
        | Target::Internet
        | Target::Private
        | Target::Service(_)
        | Target::Name(_) => true,
        Target::Net(_) | Target::Range(..) | Target::Any | Target::Cluster | Target::Multicast => {
            false
        }
    };
    let has_code = |ports: &Ports| {
        matches!(
            ports,
            Ports::Icmp { code: Some(_), .. } | Ports::Icmpv6 { code: Some(_), .. }
        )
    };
    rule.until.is_some()
        || rule.ports.len() > 1
            && rule.to.len() + rule.except.len() > 1
            && pairs_of(rule) > PAIRS_OF_ONE
        || rule.to.iter().chain(&rule.except).any(asks)
        || rule.ports.iter().any(has_code)
}

/// How often a packet's port and its destination can be told apart by one rule.
fn pairs_of(rule: &Rule) -> usize {
    let ports = rule.ports.len().max(1);
    ports.saturating_mul((rule.to.len() + rule.except.len()).max(1))
}

/// How many elements that makes in the kernel, where ports and addresses of IPv6 are networks.
fn elements_of(rule: &Rule) -> usize {
    let networks_of = |target: &Target| match target {
        Target::Range(IpAddr::V6(first), IpAddr::V6(last)) => {
            networks(((*first).into(), (*last).into())).count()
        }
        _ => 1,
    };
    match rule.ports.len() {
        0 => pairs_of(rule),
        ports => {
            let targets = rule.to.iter().chain(&rule.except);
            ports.saturating_mul(targets.map(networks_of).sum::<usize>().max(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::Tier;

    fn checked(text: &str, rules: usize, plain_rules: usize) -> Result<(), String> {
        let tier = TierRules::parse(Tier::Pod, "pod", text, false).expect("is valid");
        let limits = Limits {
            rules,
            plain_rules,
            ..Limits::default()
        };
        limits.check(&tier).map_err(|faults| faults.to_string())
    }

    #[test]
    fn both_numbers_are_said_at_the_first_rule_beyond() {
        let text = "deny 1/tcp priority=7; deny 2/tcp\ndeny 3/tcp priority=5";
        assert_eq!(checked(text, 3, 0), Ok(()));
        let told = checked(text, 2, 0).expect_err("there are three");
        assert!(
            told.starts_with(
                "pod:2:1: there are 3 rules here: the policy file's `limits.rules` is 2\n"
            ),
            "{told}"
        );
    }

    #[test]
    fn plain_rules_are_counted_by_themselves() {
        let text = "deny 1/tcp to 10.0.0.0/8\nallow to node\ndeny icmp/3/4\nallow udp until=2027-01-31T00:00:00Z";
        assert_eq!(checked(text, 4, 3), Ok(()));
        let told = checked(text, 4, 2).expect_err("there are three");
        assert!(
            told.starts_with("pod:4:1: there are 3 rules here that "),
            "{told}"
        );
        assert!(told.contains("`limits.plainRules` is 2"), "{told}");
    }

    #[test]
    fn pairs_are_counted_where_rules_are_looked_up_together() {
        let list = |count: usize, word: &dyn Fn(usize) -> String| {
            let words: Vec<String> = (0..count).map(word).collect();
            words.join(",")
        };
        let rule = |ports: usize, to: usize| {
            let ports = list(ports, &|n| format!("{}/tcp", 2 * n + 1));
            format!(
                "deny {ports} to {}",
                list(to, &|n| format!("10.{}.{}.0/24", n / 256, n % 256))
            )
        };
        let checked = |text: &str, pairs| {
            let tier = TierRules::parse(Tier::Pod, "pod", text, false).expect("is valid");
            let limits = Limits {
                pairs,
                plain_rules: 0,
                ..Limits::default()
            };
            limits.check(&tier).map_err(|faults| faults.to_string())
        };
        let two = format!("{}\n{}", rule(30, 20), rule(10, 20));
        assert_eq!(checked(&two, 800), Ok(()));
        let told = checked(&two, 799).expect_err("there are 800");
        assert!(
            told.starts_with("pod:2:1: up to here there are 800 pairs"),
            "{told}"
        );
        assert!(told.contains("`limits.pairs` is 799"), "{told}");
        // A range of IPv6 is looked up as networks, here 254 of them.
        let range = "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe";
        let ports = format!("deny 1/tcp,3/udp to {range}");
        assert_eq!(checked(&ports, 508), Ok(()));
        let told = checked(&ports, 507).expect_err("there are 508");
        assert!(told.contains("there are 508 pairs"), "{told}");
        assert_eq!(checked(&format!("deny to {range}"), 1), Ok(()));
        // By itself: two sets.
        let told = checked(&rule(32, 33), 12_000).expect_err("is plain");
        assert!(told.contains("`limits.plainRules` is 0"), "{told}");
        assert_eq!(checked(&rule(32, 32), 12_000), Ok(()));
        assert_eq!(checked(&rule(1, 2000), 12_000), Ok(()));
    }

    #[test]
    fn each_way_to_be_plain() {
        for text in [
            "deny to node",
            "deny to nodes",
            "deny to dns",
            "deny to metadata",
            "deny to apiserver",
            "deny to internet",
            "deny to private",
            "deny to svc/a/b",
            "allow to a.example",
            "deny to any except private",
            "deny icmp/3/4",
            "deny icmpv6/1/4",
            "deny until=2027-01-31T00:00:00Z",
        ] {
            assert!(checked(text, 1, 0).is_err(), "{text}");
        }
        for text in [
            "deny",
            "deny icmp/3",
            "deny 1/tcp to cluster",
            "deny to 10.0.0.0/8 except 10.1.0.0/16",
        ] {
            assert!(checked(text, 1, 0).is_ok(), "{text}");
        }
    }
}
