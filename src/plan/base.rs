//! What both tables hold whether or not there is a pod: the base chains, and the sets and maps that
//! lead from a pod's address to its chain.
//!
//! ```text
//! prerouting  -99  enforce   behind the Services' DNAT (-100): source address -> pod-ID -> pol-HASH
//! input      -150  guard     an egress address of this node serves nothing but ping
//! postrouting  50  snat      before any masquerade (kindnet 90, kube-proxy and CNI plugins 100)
//! postrouting 110  leak-stop after every NAT: no pod with an egress IP leaves with another source
//! ```

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::nft::{
    ChainKind, CtState, DataType, Element, Family, Field, Hook, HookPoint, KeyType, Op, Rule, Set,
    Statement, Table, Test, Value, Verdict, text,
};

use super::ranges::{self, Ranges};

/// Counts a denied packet for its pod, then drops it.
pub const DENY: &str = "do-deny";
/// Counts a rejected packet for its pod, then refuses it.
pub const REJECT: &str = "do-reject";

const ENFORCE: &str = "enforce";
const GUARD: &str = "guard";
const GUARDED: &str = "guard-egress-ip";
const RELATED: &str = "related";
const SNAT: &str = "egress-snat";
/// Drops what would leave with another source than the egress address, and counts it.
pub const LEAK_STOP: &str = "leak-stop";

/// Address of a pod -> its chain; the elements count what was judged.
pub const fn pods(family: Family) -> &'static str {
    match family {
        Family::V4 => "pod4",
        Family::V6 => "pod6",
    }
}

/// Addresses of pods; the elements count what was denied.
pub const fn denied(family: Family) -> &'static str {
    match family {
        Family::V4 => "denied4",
        Family::V6 => "denied6",
    }
}

/// Addresses of pods of which something was denied, each with the time it has to live, which a denied
/// packet begins anew: so it tells when the last one was. (nf_tables' own word for that, `last`, makes
/// nft 1.0.6 crash in a set.)
pub const fn last_denied(family: Family) -> &'static str {
    match family {
        Family::V4 => "last4",
        Family::V6 => "last6",
    }
}

/// Address of a pod -> the address that the outside sees.
pub const fn snat(family: Family) -> &'static str {
    match family {
        Family::V4 => "snat4",
        Family::V6 => "snat6",
    }
}

/// The keys of [`snat`] as a set: kernels before 6.4 cannot ask a map just for its keys.
pub const fn snatted(family: Family) -> &'static str {
    match family {
        Family::V4 => "snatted4",
        Family::V6 => "snatted6",
    }
}

/// This node's egress addresses.
pub const fn egress(family: Family) -> &'static str {
    match family {
        Family::V4 => "eip4",
        Family::V6 => "eip6",
    }
}

/// Addresses of pods on bridges, in the netdev table.
pub const fn bridged(family: Family) -> &'static str {
    match family {
        Family::V4 => "bridged4",
        Family::V6 => "bridged6",
    }
}

/// How long it is known when something of a pod was denied last.
pub const REMEMBERED_DAYS: u16 = 30;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The base of one cluster configuration.
#[derive(Debug, Clone)]
pub struct Base {
    /// The names of the two sets of destinations that keep their source address. They carry the
    /// base's version: if they exist, all of it does.
    inside: [String; 2],
    elements: [Vec<Element>; 2],
}

/// How the names of the sets in [`Base`] begin.
const INSIDE: [&str; 2] = ["inside4-", "inside6-"];

impl Base {
    /// The base for these `clusterCIDRs`.
    pub fn new(cluster: &[IpNet]) -> Self {
        let elements = FAMILIES.map(|family| inside(family, cluster));
        let draft = Self {
            inside: INSIDE.map(str::to_owned),
            elements: elements.clone(),
        };
        let digest = Sha256::digest(text(&draft.add(&[])).as_bytes());
        let hash = super::hex(&digest[..8]);
        Self {
            inside: INSIDE.map(|prefix| format!("{prefix}{hash}")),
            elements,
        }
    }

    /// The set whose existence says that this very base is in the kernel.
    pub fn marker(&self) -> &str {
        &self.inside[0]
    }

    /// The sets of [`Table::Inet`] that only this base has, each with its elements.
    pub fn sets(&self) -> impl Iterator<Item = (&str, &[Element])> {
        let elements = self.elements.iter().map(Vec::as_slice);
        self.inside.iter().map(String::as_str).zip(elements)
    }

    /// Those of a table's sets that belonged to another base.
    pub fn outdated<'a>(&self, sets: &'a [String]) -> Vec<&'a str> {
        sets.iter()
            .map(String::as_str)
            .filter(|set| INSIDE.iter().any(|prefix| set.starts_with(prefix)))
            .filter(|set| !self.inside.iter().any(|own| own == set))
            .collect()
    }

    /// Puts the base into the kernel, over one that may be there: the chains change in one step,
    /// the pods' elements stay.
    pub fn add(&self, outdated: &[&str]) -> Vec<Op> {
        let mut ops = vec![Op::AddTable(Table::Inet), Op::AddTable(Table::Netdev)];
        for (n, family) in FAMILIES.into_iter().enumerate() {
            ops.extend(shared_sets(family).map(|set| Op::AddSet(Table::Inet, set)));
            ops.push(Op::AddSet(Table::Netdev, plain(bridged(family), family)));
            let set = interval(&self.inside[n], family);
            ops.push(Op::AddSet(Table::Inet, set));
            ops.push(Op::AddElements(
                Table::Inet,
                self.inside[n].clone(),
                self.elements[n].clone(),
            ));
        }
        let chains = self.chains();
        for (name, hook, _) in &chains {
            ops.push(Op::AddChain(Table::Inet, (*name).to_owned(), hook.clone()));
            ops.push(Op::FlushChain(Table::Inet, (*name).to_owned()));
        }
        for (name, _, rules) in chains {
            for rule in rules {
                ops.push(Op::AddRule(Table::Inet, name.to_owned(), rule));
            }
        }
        ops.extend(
            outdated
                .iter()
                .map(|set| Op::DeleteSet(Table::Inet, (*set).to_owned())),
        );
        ops
    }

    /// Every chain of the base, its hook if it has one, and its rules.
    pub fn chains(&self) -> Vec<(&'static str, Option<Hook>, Vec<Rule>)> {
        let [inside4, inside6] = &self.inside;
        let hook = |kind, point, priority| {
            Some(Hook {
                kind,
                point,
                priority,
                accept: true,
            })
        };
        use ChainKind::{Filter, Nat};
        vec![
            (DENY, None, deny()),
            (REJECT, None, reject()),
            (GUARDED, None, guarded()),
            (RELATED, None, related()),
            (ENFORCE, hook(Filter, HookPoint::Prerouting, -99), enforce()),
            (GUARD, hook(Filter, HookPoint::Input, -150), guard()),
            (
                SNAT,
                hook(Nat, HookPoint::Postrouting, 50),
                source_nat(inside4, inside6),
            ),
            (
                LEAK_STOP,
                hook(Filter, HookPoint::Postrouting, 110),
                leak_stop(inside4, inside6),
            ),
        ]
    }
}

fn shared_sets(family: Family) -> impl Iterator<Item = Set> {
    let set = |name, data, counter| Set {
        data,
        counter,
        ..plain(name, family)
    };
    [
        set(pods(family), Some(DataType::Verdict), true),
        set(denied(family), None, true),
        Set {
            days: Some(REMEMBERED_DAYS),
            ..plain(last_denied(family), family)
        },
        set(snat(family), Some(DataType::Address), false),
        set(snatted(family), None, false),
        set(egress(family), None, false),
    ]
    .into_iter()
}

const fn key_type(family: Family) -> KeyType {
    match family {
        Family::V4 => KeyType::Ipv4,
        Family::V6 => KeyType::Ipv6,
    }
}

fn plain(name: &str, family: Family) -> Set {
    Set {
        interval: false,
        ..interval(name, family)
    }
}

fn interval(name: &str, family: Family) -> Set {
    Set {
        name: name.to_owned(),
        key: key_type(family),
        data: None,
        interval: true,
        counter: false,
        days: None,
    }
}

/// Where a pod keeps its source address: the cluster, link-local, multicast and loopback.
fn inside(family: Family, cluster: &[IpNet]) -> Vec<Element> {
    const ALWAYS: [&str; 6] = [
        "169.254.0.0/16",
        "127.0.0.0/8",
        "224.0.0.0/3",
        "fe80::/10",
        "::1/128",
        "ff00::/8",
    ];
    let always: Vec<IpNet> = ALWAYS.iter().filter_map(|net| net.parse().ok()).collect();
    Ranges::of(family, cluster.iter().chain(&always))
        .iter()
        .map(ranges::values)
        .map(|(low, high)| Element::Range(low, high))
        .collect()
}

/// Solicitations and advertisements of routers and neighbours (RFC 4861, 4).
fn neighbour_discovery() -> Test {
    Test::Between(Value::U8(133), Value::U8(136))
}

fn rule() -> Rule {
    Rule::new()
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

fn protocol(number: u8) -> Test {
    Test::Is(Value::Protocol(number))
}

/// Counts it for the pod, and remembers when.
fn note_denied() -> [Rule; 2] {
    let note = |field, family| {
        rule()
            .inside(field, denied(family))
            .then(Statement::Update(field, last_denied(family).to_owned()))
    };
    [
        note(Field::IpSaddr, Family::V4),
        note(Field::Ip6Saddr, Family::V6),
    ]
}

fn deny() -> Vec<Rule> {
    let [v4, v6] = note_denied();
    vec![v4, v6, rule().then(Verdict::Drop)]
}

fn reject() -> Vec<Rule> {
    let [v4, v6] = note_denied();
    vec![
        v4,
        v6,
        rule()
            .test(Field::L4proto, protocol(6))
            .then(Statement::RejectWithReset),
        rule().then(Statement::RejectProhibited),
    ]
}

/// Every packet that a pod originates is judged, not only a flow's first one: a new deny cuts an
/// open connection at its next packet. Replies to what was opened towards the pod, errors about a
/// known flow and neighbour discovery pass.
fn enforce() -> Vec<Rule> {
    // Every packet of the node comes by here: what most of them need comes first.
    vec![
        rule()
            .is(Field::CtDirection, Value::Reply)
            .then(Verdict::Accept),
        // As the sender addressed it: no NodePort answers on an egress address either.
        rule()
            .inside(Field::CtOriginalDaddr, egress(Family::V4))
            .then(goto(GUARDED)),
        rule()
            .state(&[CtState::Related])
            .then(Verdict::Jump(RELATED.to_owned())),
        rule().then(Statement::Vmap(Field::IpSaddr, pods(Family::V4).to_owned())),
        rule()
            .inside(Field::CtOriginalDaddr6, egress(Family::V6))
            .then(goto(GUARDED)),
        // The veth's own chain has checked it; `leak-stop` keeps it from being forwarded.
        rule()
            .test(Field::Icmpv6Type, neighbour_discovery())
            .is(Field::Ip6Hoplimit, Value::U8(255))
            .then(Verdict::Accept),
        rule().then(Statement::Vmap(
            Field::Ip6Saddr,
            pods(Family::V6).to_owned(),
        )),
    ]
}

/// Errors about a known flow pass; any other flow that conntrack relates to one is judged.
fn related() -> Vec<Rule> {
    [1, 58]
        .map(|number| {
            rule()
                .test(Field::L4proto, protocol(number))
                .then(Verdict::Accept)
        })
        .to_vec()
}

/// What conntrack does not know, and so was not translated: `enforce` has judged the rest.
fn guard() -> Vec<Rule> {
    vec![
        rule()
            .inside(Field::IpDaddr, egress(Family::V4))
            .then(goto(GUARDED)),
        rule()
            .inside(Field::Ip6Daddr, egress(Family::V6))
            .then(goto(GUARDED)),
    ]
}

fn guarded() -> Vec<Rule> {
    let nd = Test::Between(Value::U8(135), Value::U8(136));
    vec![
        rule()
            .is(Field::CtDirection, Value::Reply)
            .then(Verdict::Accept),
        rule()
            .is(Field::IcmpType, Value::U8(8))
            .then(Verdict::Accept),
        rule()
            .is(Field::Icmpv6Type, Value::U8(128))
            .then(Verdict::Accept),
        rule()
            .test(Field::Icmpv6Type, nd)
            .is(Field::Ip6Hoplimit, Value::U8(255))
            .then(Verdict::Accept),
        rule().counter().then(Verdict::Drop),
    ]
}

fn source_nat(inside4: &str, inside6: &str) -> Vec<Rule> {
    let snat = |family: Family| Statement::Snat(family, snat(family).to_owned());
    vec![
        rule()
            .outside(Field::IpDaddr, inside4)
            .then(snat(Family::V4)),
        rule()
            .outside(Field::Ip6Daddr, inside6)
            .then(snat(Family::V6)),
    ]
}

/// NAT is done at 100: here the source is what the outside would see. What conntrack calls
/// invalid or does not track was not translated at all.
fn leak_stop(inside4: &str, inside6: &str) -> Vec<Rule> {
    let (v4, v6) = (Family::V4, Family::V6);
    let right = |field, family| rule().inside(field, egress(family)).then(Verdict::Accept);
    vec![
        // Every packet of the node comes by here: first what is right.
        rule()
            .is(Field::CtDirection, Value::Reply)
            .then(Verdict::Accept),
        right(Field::IpSaddr, v4),
        right(Field::Ip6Saddr, v6),
        // RFC 4861, 7.1: neighbour discovery has hop limit 255 and is for one link. A router has
        // taken one off: a pod would otherwise reach anybody with what looks like it.
        rule()
            .test(Field::Icmpv6Type, neighbour_discovery())
            .is(Field::Ip6Hoplimit, Value::U8(254))
            .inside(Field::Ip6Saddr, denied(v6))
            .then(Verdict::Drop),
        rule()
            .inside(Field::IpSaddr, snatted(v4))
            .outside(Field::IpDaddr, inside4)
            .counter()
            .then(Verdict::Drop),
        rule()
            .inside(Field::Ip6Saddr, snatted(v6))
            .outside(Field::Ip6Daddr, inside6)
            .counter()
            .then(Verdict::Drop),
        rule()
            .inside(Field::CtOriginalSaddr, snatted(v4))
            .outside(Field::IpSaddr, egress(v4))
            .outside(Field::IpDaddr, inside4)
            .counter()
            .then(Verdict::Drop),
        rule()
            .inside(Field::CtOriginalSaddr6, snatted(v6))
            .outside(Field::Ip6Saddr, egress(v6))
            .outside(Field::Ip6Daddr, inside6)
            .counter()
            .then(Verdict::Drop),
    ]
}
