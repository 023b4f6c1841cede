//! Rules with domain names: sets of addresses that live, since they are filled while pods run.
//!
//! ```text
//! dn4-GROUP, dn6-GROUP   what the names of a rule stand for now
//! dl4-GROUP, dl6-GROUP   where connections are open that they have let through
//! learn-GROUP-4-90s ...  puts the address that a packet of the node's resolver goes to into dn4-GROUP, for 90 seconds,
//!                        and drops the packet
//! ```
//! A group is the list of names of one rule: all rules of the node with the same list have the same sets, which no
//! policy contains. They come with the first policy that asks them and go with the last.
//!
//! Who learns does it by a packet and not by a transaction: so the number of the kernel's rules stays as it is, and
//! nobody waits for a lock. The packet has a secret in it ([`Tokens`]), and the chain `learn` a map from secrets to chains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use nft::{
    Chain, ChainKind, Element, Elements, Family, Field, Hook, HookPoint, KeyType, Rule, Set,
    Statement, Transaction, Value, Verdict,
};
use rules::effective::Effective;
use rules::pattern::Pattern;
use rules::rule::{Rule as PolicyRule, Target};
use sha2::{Digest, Sha256};

use super::chain::BaseChain;
use super::packet::{FAMILIES, daddr, key_type};
use super::{INET, names, resolver};

/// How many addresses the names of a group may stand for.
const ADDRESSES: u32 = 4096;
/// To how many addresses connections may be open.
const OPEN: u32 = 65535;
/// How long an address is known after the last packet of an open connection.
const IDLE: Duration = Duration::from_secs(3600);

/// Where the resolver sends what it has learned: nobody listens there.
pub const LEARN_PORT: u16 = 4798;
/// Secrets of what is learned -> the chain that learns it.
pub const TOKENS: &str = "tokens";
const LEARN: &str = "learn";
/// The names of all [`chains()`].
pub const CHAINS: [&str; 3] = [resolver::PROBE, resolver::LEAD, LEARN];

/// How long an address is known: what a chain gives to all that it learns.
pub const CLASSES: [(&str, Duration); 4] = [
    ("90s", Duration::from_secs(90)),
    ("10m", Duration::from_secs(600)),
    ("1h", Duration::from_secs(3600)),
    ("1d", Duration::from_secs(86400)),
];

/// The names of one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// As sets and chains are called after it.
    pub id: String,
    /// Sorted, each once.
    pub patterns: Vec<Pattern>,
}

/// Secrets that lead to a group's chains, what a packet that teaches has behind UDP's header: by `4` or `6`, and by the
/// class, as 32 hex digits.
pub type Tokens = BTreeMap<String, BTreeMap<String, String>>;

/// How many secrets a group has.
pub const SECRETS: usize = FAMILIES.len() * CLASSES.len();

impl Group {
    /// That of a rule, if it has names.
    pub fn of(rule: &PolicyRule) -> Option<Group> {
        Self::among(&rule.to)
    }

    /// That of a list of targets.
    pub(super) fn among(targets: &[Target]) -> Option<Group> {
        let patterns = targets.iter().filter_map(|target| match target {
            Target::Name(pattern) => Some(pattern.clone()),
            _ => None,
        });
        // In the order of their texts, which is the one of those who read them only.
        let patterns: BTreeMap<String, Pattern> =
            patterns.map(|one| (one.to_string(), one)).collect();
        let said: Vec<&str> = patterns.keys().map(String::as_str).collect();
        (!patterns.is_empty()).then(|| Group {
            id: crate::hex::hex(&Sha256::digest(said.join("\n"))[..8]),
            patterns: patterns.values().cloned().collect(),
        })
    }

    /// All of a policy, each once.
    pub fn all(policy: &Effective) -> Vec<Group> {
        let rules = policy.tiers.iter().flat_map(|tier| &tier.rules);
        let groups: BTreeSet<Group> = rules.filter_map(Group::of).collect();
        groups.into_iter().collect()
    }

    /// Its sets, empty.
    pub fn sets(&self) -> Vec<Set> {
        let set = |name, family, timeout, size| Set {
            dynamic: true,
            timeout: Some(timeout),
            size: Some(size),
            ..Set::new(name, key_type(family))
        };
        let (_, longest) = CLASSES[3];
        let of = |family| {
            [
                set(names::now(family, &self.id), family, longest, ADDRESSES),
                set(names::open(family, &self.id), family, IDLE, OPEN),
            ]
        };
        FAMILIES.into_iter().flat_map(of).collect()
    }

    /// The chains that fill them, each with its rules. The last one counts what the set has no room for: that packet goes
    /// on, by which its sender knows.
    pub fn chains(&self) -> Vec<(String, Vec<Rule>)> {
        let of = |family: Family| {
            CLASSES.map(|(class, time)| {
                let set = names::now(family, &self.id);
                let learn = Statement::Update(daddr(family).into(), set, Some(time));
                let rules = vec![
                    Rule::new().then(learn).then(Verdict::Drop),
                    Rule::new().counter(),
                ];
                (names::learning(&self.id, family, class), rules)
            })
        };
        FAMILIES.into_iter().flat_map(of).collect()
    }

    /// What leads to the chains: as many as [`SECRETS`], if these are all.
    pub fn elements(&self, tokens: &Tokens) -> Vec<Element> {
        let of = |family: Family| {
            CLASSES.map(|(class, _)| {
                let token = tokens.get(names::digit(family))?.get(class)?;
                let token = u128::from_str_radix(token, 16).ok()?;
                let token = Ipv6Addr::from(token);
                Some(Element::of(token).goto(names::learning(&self.id, family, class)))
            })
        };
        FAMILIES.into_iter().flat_map(of).flatten().collect()
    }

    /// All of it, over what may be there: what the sets hold, they keep.
    pub fn add(&self, tokens: &Tokens) -> Transaction {
        let mut ops = Transaction::new();
        for set in self.sets() {
            ops.add(&INET, set);
        }
        for (chain, rules) in self.chains() {
            ops.add(&INET, Chain::new(&chain));
            ops.flush(&INET, Chain::new(&chain));
            for rule in rules {
                ops.add(&INET, rule.in_chain(&chain));
            }
        }
        let elements = self.elements(tokens);
        if !elements.is_empty() {
            ops.add(&INET, Elements::new(TOKENS, elements));
        }
        ops
    }
}

/// The map of all groups' secrets. nft knows no type for them but this one of the same length.
pub(super) fn tokens() -> Set {
    Set::vmap(TOKENS, KeyType::Ipv6)
}

/// The chains of a node some of whose pods have rules with domain names; others have none of this.
pub fn chains(resolvers: &[IpAddr]) -> Vec<BaseChain> {
    let asked = Rule::new().is(Field::UdpDport, Value::U16(LEARN_PORT));
    let learn = BaseChain {
        table: &INET,
        name: LEARN,
        // Before connection tracking, which need not know of it.
        hook: Some(Hook {
            kind: ChainKind::Filter,
            point: HookPoint::Output,
            priority: -301,
            accept: true,
        }),
        rules: vec![asked.vmap(Field::UdpPayload, TOKENS)],
    };
    let mut chains = resolver::chains(resolvers);
    chains.push(learn);
    chains
}

/// What keeps a connection known that a rule with these names lets through. A set that is full keeps nobody from going
/// on to the next rule.
pub(super) fn keep_open(group: &str) -> Vec<Rule> {
    let keep = |family| {
        let set = names::open(family, group);
        Rule::new().then(Statement::Update(daddr(family).into(), set, Some(IDLE)))
    };
    FAMILIES.map(keep).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::effective::{Tier, TierRules};

    fn groups(text: &str) -> Vec<Group> {
        let tier = TierRules::parse(Tier::Pod, "test", text, false).expect("valid rules");
        tier.rules.iter().filter_map(Group::of).collect()
    }

    #[test]
    fn the_same_names_are_one_group_however_they_are_written() {
        let [one, other, third] = &groups(
            "allow 443/tcp to b.example, *.a.example\npass to **.A.example., b.example, b.example, 10.0.0.1\nallow to b.example",
        )[..] else {
            panic!("three rules have names");
        };
        assert_eq!(one, other);
        assert_ne!(one.id, third.id);
        assert_eq!(groups("allow to 10.0.0.1"), []);
        // The seam to whoever reads the state directory.
        let said = Sha256::digest("*.a.example\nb.example");
        assert_eq!(one.id, crate::hex::hex(&said[..8]));
    }
}
