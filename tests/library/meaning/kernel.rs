//! Runs operations as nf_tables runs rules (`net/netfilter/nf_tables_core.c`, `nft_do_chain`).

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use egressway::plan::base::{AUDIT, DENY, REJECT};
use egressway::plan::named::Group;
use egressway::plan::names;
use nft::{
    Chain, CtState, Data, Element, Elements, Family, Field, Match, Object, PlacedRule, Rule,
    Statement, Step, Test, Transaction, Value, Verb, Verdict,
};
use rules::evaluate::{Original, Packet};

/// What came of a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub end: End,
    /// The comments of the rules whose counters moved, in order.
    pub counted: Vec<String>,
    /// The prefixes of the log messages, in order.
    pub logged: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub enum End {
    Accept,
    Deny,
    Reject,
    /// No rule gave a verdict: the base chain's policy would accept.
    #[default]
    Nothing,
}

/// The chains and sets of a transaction.
pub struct Kernel<'a> {
    first: &'a str,
    chains: HashMap<&'a str, Vec<&'a Rule>>,
    sets: HashMap<&'a str, &'a [Element]>,
    /// The sets whose elements count.
    counting: HashSet<&'a str>,
    /// Whose sets are not the policy's own.
    groups: &'a [Group],
}

impl<'a> Kernel<'a> {
    /// What is there after this transaction; a packet starts in the first chain.
    pub fn holding(transaction: &'a Transaction) -> Self {
        let mut chains: HashMap<&str, Vec<&Rule>> = HashMap::new();
        let mut sets: HashMap<&str, &[Element]> = HashMap::new();
        let mut declared = Vec::new();
        let mut counting = HashSet::new();
        let mut first = None;
        for Step { verb, object, .. } in transaction.steps() {
            assert_eq!(*verb, Verb::Add, "a policy is only added");
            match object {
                Object::Set(set) => {
                    declared.push(set.name.as_str());
                    if set.counter {
                        counting.insert(set.name.as_str());
                    }
                }
                Object::Elements(Elements { set, elements }) => {
                    assert!(declared.contains(&set.as_str()), "no set {set} yet");
                    assert!(
                        sets.insert(set, elements).is_none(),
                        "{set} is filled twice"
                    );
                }
                Object::Chain(Chain { name, hook: None }) => {
                    first = first.or(Some(name.as_str()));
                    assert!(
                        chains.insert(name, Vec::new()).is_none(),
                        "two chains {name}"
                    );
                }
                Object::Rule(PlacedRule { chain, rule, .. }) => {
                    chains
                        .get_mut(chain.as_str())
                        .expect("no chain yet")
                        .push(rule);
                }
                other => panic!("a policy has no business with {other:?}"),
            }
        }
        Self {
            first: first.expect("a policy has chains"),
            chains,
            sets,
            counting,
            groups: &[],
        }
    }

    /// With the sets of these domain names: they hold what a packet says.
    pub fn with(self, groups: &'a [Group]) -> Self {
        Self { groups, ..self }
    }

    /// Walks a packet through the chains: `jump` leaves a place to come back to, `goto` does not.
    pub fn judge(&self, packet: &Packet) -> Outcome {
        let mut outcome = Outcome::default();
        let mut stack: Vec<(&str, usize)> = Vec::new();
        let (mut chain, mut next) = (self.first, 0);
        loop {
            let Some(rule) = self.chains[chain].get(next) else {
                match stack.pop() {
                    Some(caller) => (chain, next) = caller,
                    None => return outcome,
                }
                continue;
            };
            next += 1;
            match self.rule(rule, packet, &mut outcome) {
                None => {}
                Some(Verdict::Accept) => {
                    outcome.end = End::Accept;
                    return outcome;
                }
                Some(Verdict::Drop) => panic!("a policy denies by way of {DENY}, which counts"),
                Some(Verdict::Return) => next = usize::MAX,
                Some(Verdict::Jump(to)) => {
                    stack.push((chain, next));
                    (chain, next) = (self.chain(&to), 0);
                }
                Some(Verdict::Goto(to)) if *to == *DENY => {
                    outcome.end = End::Deny;
                    return outcome;
                }
                Some(Verdict::Goto(to)) if *to == *AUDIT => {
                    outcome.end = End::Accept;
                    return outcome;
                }
                Some(Verdict::Goto(to)) if *to == *REJECT => {
                    outcome.end = End::Reject;
                    return outcome;
                }
                Some(Verdict::Goto(to)) => (chain, next) = (self.chain(&to), 0),
            }
        }
    }

    fn chain(&self, name: &str) -> &'a str {
        self.chains.get_key_value(name).expect("a chain to go to").0
    }

    /// The statements in their order; the first match that does not hold ends the rule.
    fn rule(&self, rule: &Rule, packet: &Packet, outcome: &mut Outcome) -> Option<Verdict> {
        for statement in &rule.statements {
            match statement {
                Statement::Match(Match {
                    field,
                    test: Test::In(set),
                }) if names::group_of(set).is_none() && self.is_counted(set) => {
                    let fields = [read(*field, packet)?];
                    outcome.counted.extend(self.found(set, &fields)?);
                }
                Statement::Match(m) if self.holds(m, packet) => {}
                Statement::Match(_) => return None,
                Statement::Counter => {
                    let comment = rule.comment.clone();
                    outcome
                        .counted
                        .push(comment.expect("each counter is somebody's"));
                }
                Statement::Log { prefix, .. } => outcome.logged.push(prefix.clone()),
                Statement::Limit(_) => {}      // not reached
                Statement::Update(..) => {}    // of what is open
                Statement::SetCtLabel(_) => {} // asked of errors about known flows
                Statement::Among(key, set) => {
                    let fields = read_all(key.fields(), packet)?;
                    outcome.counted.extend(self.found(set, &fields)?);
                }
                Statement::Vmap(key, map) => {
                    return self.target(map, &read_all(key.fields(), packet)?);
                }
                Statement::Verdict(verdict) => return Some(verdict.clone()),
                other => panic!("a policy has no business with `{other}`"),
            }
        }
        None
    }

    fn holds(&self, m: &Match, packet: &Packet) -> bool {
        // A field that is not there ends the rule, whatever the test (NFT_BREAK).
        let Some(field) = read(m.field, packet) else {
            return false;
        };
        let is = |value: &Value| {
            let value = value.bytes().to_vec();
            assert_eq!(value.len(), field.len(), "{m} compares unequal lengths");
            value
        };
        match &m.test {
            Test::Is(v) => field == is(v),
            Test::Not(v) => field != is(v),
            Test::Below(v) => field < is(v),
            Test::Above(v) => field > is(v),
            Test::Between(low, high) => is(low) <= field && field <= is(high),
            Test::NotBetween(low, high) => field < is(low) || is(high) < field,
            Test::Within(net) => net.contains(&address(&field)),
            Test::Outside(net) => !net.contains(&address(&field)),
            Test::In(set) if names::group_of(set).is_some() => self.is_named(set, packet),
            Test::In(set) => self.member(set, &field),
            Test::NotIn(set) => !self.member(set, &field),
            Test::Masked(..) if m.field == Field::CtStatus => true, // it is the flow's first
            Test::Masked(..) | Test::NotMasked(..) | Test::Labelled(_) => {
                panic!("a policy has no business with `{m}`")
            }
            Test::Dnat => packet.original.is_some_and(|original| {
                (original.address, original.port) != (packet.destination, packet.port)
            }),
            Test::State(states) => states.contains(&CtState::New), // each packet is its flow's first
        }
    }

    fn is_named(&self, set: &str, packet: &Packet) -> bool {
        let id = names::group_of(set).expect("a group");
        let group = self.groups.iter().find(|group| group.id == id);
        let patterns = &group.expect("a group of the policy").patterns;
        patterns.iter().any(|one| packet.names.contains(one))
    }

    /// Its elements are somebody's.
    fn is_counted(&self, set: &str) -> bool {
        let elements = self.sets.get(set).expect("a set to look in");
        elements.first().is_some_and(|e| e.comment_text().is_some())
    }

    /// Nothing if there is no such element, else for whom it counts, if it does.
    fn found(&self, set: &str, fields: &[Vec<u8>]) -> Option<Option<String>> {
        let element = self.element(set, fields)?;
        let counts = self.counting.contains(set);
        let whose = || element.comment_text().expect("is somebody's").to_owned();
        Some(counts.then(whose))
    }

    /// The only element that holds all fields: the kernel refuses overlaps, or takes any of them.
    fn element(&self, set: &str, fields: &[Vec<u8>]) -> Option<&'a Element> {
        let elements = self.sets.get(set).expect("a set to look in");
        let mut found = elements.iter().filter(|element| {
            let key = element.key();
            // What the routing table says of an address is in no order.
            let whole = [Value::Local, Value::Broadcast, Value::Anycast].contains(&key[0].0);
            assert!(
                element.is_interval() != whole,
                "{set} holds `{element}` alone"
            );
            assert_eq!(key.len(), fields.len(), "{set} has other fields");
            key.iter().zip(fields).all(|((low, high), field)| {
                let (low, high) = (low.bytes(), high.bytes());
                assert_eq!(low.len(), field.len(), "{set} holds something else");
                *low <= **field && **field <= *high
            })
        });
        let element = found.next()?;
        assert_eq!(found.next(), None, "{set} holds {element} twice");
        Some(element)
    }

    fn target(&self, map: &str, fields: &[Vec<u8>]) -> Option<Verdict> {
        match self.element(map, fields)?.data() {
            Some(Data::Verdict(verdict)) => Some(verdict.clone()),
            other => panic!("a verdict map's element leads to {other:?}"),
        }
    }

    fn member(&self, set: &str, field: &[u8]) -> bool {
        self.element(set, &[field.to_vec()]).is_some()
    }
}

/// Each field's bytes; `None` if one of them is not there.
fn read_all(fields: &[Field], packet: &Packet) -> Option<Vec<Vec<u8>>> {
    fields.iter().map(|field| read(*field, packet)).collect()
}

/// A field's bytes as in a register; `None` where the packet has no such field.
fn read(field: Field, packet: &Packet) -> Option<Vec<u8>> {
    let family = Family::of(&packet.destination);
    let ports = |protocol: u8| {
        let port = packet.port.filter(|_| packet.protocol == protocol)?;
        Some(port.to_be_bytes().to_vec())
    };
    let icmp = |protocol: u8, of: Family| {
        packet
            .icmp
            .filter(|_| packet.protocol == protocol && family == of)
    };
    let original = |of: Family| {
        let address = packet.original?.address;
        (Family::of(&address) == of).then(|| octets(address))
    };
    match field {
        Field::Nfproto => Some(Value::Nfproto(family).bytes().to_vec()),
        Field::L4proto => Some(vec![packet.protocol]),
        Field::IpDaddr => (family == Family::V4).then(|| octets(packet.destination)),
        Field::Ip6Daddr => (family == Family::V6).then(|| octets(packet.destination)),
        Field::TcpDport => ports(6),
        Field::UdpDport => ports(17),
        Field::SctpDport => ports(132),
        // Only packets with ports have one in this test: the others are told apart by their protocol.
        Field::ThDport => packet.port.map(|port| port.to_be_bytes().to_vec()),
        Field::IcmpType => icmp(1, Family::V4).map(|(kind, _)| vec![kind]),
        Field::IcmpCode => icmp(1, Family::V4).map(|(_, code)| vec![code]),
        Field::Icmpv6Type => icmp(58, Family::V6).map(|(kind, _)| vec![kind]),
        Field::Icmpv6Code => icmp(58, Family::V6).map(|(_, code)| vec![code]),
        Field::CtOriginalDaddr => original(Family::V4),
        Field::CtOriginalDaddr6 => original(Family::V6),
        Field::CtOriginalDport => packet
            .original
            .map(|original| original_port(packet, original).to_vec()),
        Field::CtState => Some(Vec::new()),
        // Nothing is known of what is not tracked.
        Field::CtStatus => packet.original.map(|_| Vec::new()),
        Field::FibDaddrType => {
            const RTN_UNICAST: u32 = 1;
            let elsewhere = RTN_UNICAST.to_ne_bytes().to_vec();
            Some(if packet.local {
                Value::Local.bytes().to_vec()
            } else {
                elsewhere
            })
        }
        Field::Time => {
            let now = u64::try_from(packet.time.as_nanosecond()).expect("a time after 1970");
            Some(now.to_be_bytes().to_vec())
        }
        other => panic!("a policy has no business with {}", other.as_str()),
    }
}

/// `struct nf_conntrack_tuple`, `dst.u.all`: for ICMP it is type and code, else the port or zero.
fn original_port(packet: &Packet, original: Original) -> [u8; 2] {
    match packet.icmp {
        Some((kind, code)) => [kind, code],
        None => original.port.unwrap_or(0).to_be_bytes(),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    Value::from(address).bytes().to_vec()
}

fn address(bytes: &[u8]) -> IpAddr {
    match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).expect("four bytes")),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("an address")),
    }
}
