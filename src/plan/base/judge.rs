//! The chains of [`INET`]: who meets a packet on its way, and what becomes of it.

use nft::{
    ChainKind, CtState, Family, Field, Hook, HookPoint, Nat, Reject, Rule, Statement, Test, Value,
    Verdict,
};

use crate::plan::INET;

use rules::protocol::{SCTP, TCP, UDP};

use super::{
    AUDIT, BaseChain, DENY, LEAK_STOP, REJECT, denied, egress, judged, last_denied, others_tuple,
    own_tuple, pods, revoked, snat, snatted,
};
use crate::plan::packet::CONFIRMED;
use crate::plan::resolver::only_led;

/// Judges what pods send.
pub const ENFORCE: &str = "enforce";
const GUARD: &str = "guard";
const GUARDED: &str = "guard-egress-ip";
const OPENED: &str = "opened";
const TOWARDS: &str = "opened-towards";
const REVOKE: &str = "revoke";
const SNAT: &str = "egress-snat";

/// `IPS_EXPECTED`: a helper has foretold the flow (FTP, SIP).
pub(in crate::plan) const EXPECTED: u32 = 1;

/// The label of a flow that some pod of ours has opened, or that was opened towards one, while we looked.
/// Labels of a policy are below: see [`crate::plan::policy`].
const SEEN: u8 = 127;

/// `inside`: the names of the sets of destinations that keep their source address.
pub(super) fn chains(inside: &[String; 2]) -> Vec<BaseChain> {
    use ChainKind::{Filter, Nat};
    use HookPoint::{Input, Postrouting, Prerouting};
    let [inside4, inside6] = inside;
    let chain = |name, hook, rules| BaseChain {
        table: &INET,
        name,
        hook,
        rules,
    };
    let called = |name, rules| chain(name, None, rules);
    let hooked = |name, kind, point, priority, rules| {
        let hook = Hook {
            kind,
            point,
            priority,
            accept: true,
        };
        chain(name, Some(hook), rules)
    };
    vec![
        called(DENY, deny()),
        called(REJECT, reject()),
        called(AUDIT, audit()),
        called(GUARDED, guarded()),
        called(REVOKE, revoke()),
        called(TOWARDS, towards()),
        hooked(OPENED, Nat, Postrouting, -190, opened()),
        hooked(ENFORCE, Filter, Prerouting, -99, enforce()),
        hooked(GUARD, Filter, Input, -150, guard()),
        hooked(SNAT, Nat, Postrouting, 50, source_nat(inside4, inside6)),
        hooked(
            LEAK_STOP,
            Filter,
            Postrouting,
            110,
            leak_stop(inside4, inside6),
        ),
    ]
}

/// Solicitations and advertisements of routers and neighbours (RFC 4861, 4).
fn neighbour_discovery() -> Test {
    Test::Between(Value::U8(133), Value::U8(136))
}

fn rule() -> Rule {
    Rule::new()
}

fn goto(chain: &str) -> Verdict {
    Verdict::goto(chain)
}

fn protocol(number: u8) -> Test {
    Test::Is(Value::Protocol(number))
}

/// Counts it for the pod, and remembers when.
fn note_denied() -> [Rule; 2] {
    let note = |field, family| {
        rule().inside(field, denied(family)).then(Statement::Update(
            field.into(),
            last_denied(family).to_owned(),
            None,
        ))
    };
    [
        note(Field::IpSaddr, Family::V4),
        note(Field::Ip6Saddr, Family::V6),
    ]
}

/// The beginning of what becomes of a packet that does not pass: that is known of its flow from now on, if it was
/// open. A flow that is denied from its first packet on is not confirmed.
fn stop() -> Vec<Rule> {
    let was_open = Test::NotMasked(Value::Mark(CONFIRMED), Value::Mark(0));
    let of_open_flow = rule()
        .test(Field::CtStatus, was_open)
        .is(Field::CtDirection, Value::Original)
        .then(Verdict::jump(REVOKE));
    let [v4, v6] = note_denied();
    vec![v4, v6, of_open_flow]
}

/// What has no handshake looks the same whoever begins. Nobody can fill the sets but by flows that the
/// rules have allowed.
fn revoke() -> Vec<Rule> {
    let note = |number, family| {
        let set = revoked(family).to_owned();
        let flow = Statement::Update(own_tuple(family), set, None);
        rule().test(Field::L4proto, protocol(number)).then(flow)
    };
    let of = |family| [UDP, SCTP].map(|number| note(number, family));
    [of(Family::V4), of(Family::V6)].concat()
}

/// A flow's first packet, and nothing else, comes by here. Only of flows with the label are replies let
/// through: conntrack may have others from a time when nobody judged the address, or another pod had it.
fn opened() -> Vec<Rule> {
    let to_pod = |field, family| rule().inside(field, judged(family)).then(goto(TOWARDS));
    let from_pod = |field, family| {
        let seen = Statement::SetCtLabel(SEEN);
        rule().inside(field, judged(family)).then(seen)
    };
    vec![
        to_pod(Field::IpDaddr, Family::V4),
        to_pod(Field::Ip6Daddr, Family::V6),
        from_pod(Field::IpSaddr, Family::V4),
        from_pod(Field::Ip6Saddr, Family::V6),
    ]
}

/// A flow that a helper expects is translated from the start, as the one is that it belongs to: no nat chain sees
/// its first packet, so that [`opened`] does not, either. What a pod opens needs no label, unless it is towards
/// another pod.
fn expected() -> [Rule; 2] {
    let first = || {
        let unconfirmed = Value::Mark(EXPECTED | CONFIRMED);
        rule().state(&[CtState::Related]).test(
            Field::CtStatus,
            Test::Masked(unconfirmed, Value::Mark(EXPECTED)),
        )
    };
    [(Field::IpDaddr, Family::V4), (Field::Ip6Daddr, Family::V6)]
        .map(|(field, family)| first().inside(field, judged(family)).then(goto(TOWARDS)))
}

/// What conntrack takes for a flow that is opened towards a pod, since it knows nothing of what was before,
/// may be one that the pod has opened and may not use any more.
fn towards() -> Vec<Rule> {
    const FIN_SYN_RST_ACK: u8 = 0x17;
    const SYN: u8 = 0x02;
    let taken_up = |family| {
        rule()
            .then(Statement::Among(
                others_tuple(family),
                revoked(family).to_owned(),
            ))
            .then(Verdict::Accept)
    };
    let is_no_handshake = Test::NotMasked(Value::U8(FIN_SYN_RST_ACK), Value::U8(SYN));
    vec![
        rule()
            .test(Field::TcpFlags, is_no_handshake)
            .then(Verdict::Accept),
        taken_up(Family::V4),
        taken_up(Family::V6),
        rule().then(Statement::SetCtLabel(SEEN)),
    ]
}

fn deny() -> Vec<Rule> {
    let mut rules = stop();
    rules.push(rule().then(Verdict::Drop));
    rules
}

fn reject() -> Vec<Rule> {
    let mut rules = stop();
    rules.extend([
        rule()
            .test(Field::L4proto, protocol(TCP))
            .then(Statement::Reject(Reject::TcpReset)),
        rule().then(Statement::Reject(Reject::AdminProhibited)),
    ]);
    rules
}

/// What would have been denied counts as that: so a policy can be tried, and what it would stop be seen.
fn audit() -> Vec<Rule> {
    let [v4, v6] = note_denied();
    vec![v4, v6, rule().then(Verdict::Accept)]
}

/// Every packet that a pod originates is judged, not only a flow's first one: a new deny cuts an
/// open connection at its next packet. Replies to what was opened towards the pod before our eyes, and errors
/// about that, pass, and so does neighbour discovery. Of errors about what the pod has opened, its policy
/// knows.
fn enforce() -> Vec<Rule> {
    // Every packet of the node comes by here: what most of them need comes first.
    vec![
        rule()
            .is(Field::CtDirection, Value::Reply)
            .test(Field::CtLabel, Test::Labelled(SEEN))
            .then(Verdict::Accept),
        sent_to_egress(Field::CtOriginalDaddr, Family::V4),
        rule().vmap(Field::IpSaddr, pods(Family::V4)),
        sent_to_egress(Field::CtOriginalDaddr6, Family::V6),
        // The veth's own chain has checked it; `leak-stop` keeps it from being forwarded.
        rule()
            .test(Field::Icmpv6Type, neighbour_discovery())
            .is(Field::Ip6Hoplimit, Value::U8(255))
            .then(Verdict::Accept),
        rule().vmap(Field::Ip6Saddr, pods(Family::V6)),
    ]
}

/// No NodePort answers on an egress address. What was not translated is met by `guard`.
fn sent_to_egress(addressed: Field, family: Family) -> Rule {
    rule()
        .test(Field::CtStatus, Test::Dnat)
        .inside(addressed, egress(family))
        .then(goto(GUARDED))
}

/// What was not translated on its way: `enforce` has met the rest.
fn guard() -> Vec<Rule> {
    let mut rules = vec![
        rule()
            .inside(Field::IpDaddr, egress(Family::V4))
            .then(goto(GUARDED)),
        rule()
            .inside(Field::Ip6Daddr, egress(Family::V6))
            .then(goto(GUARDED)),
    ];
    rules.extend(only_led());
    rules
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
    let snat = |source, family| Statement::Snat(Nat::Map(source, snat(family).to_owned()));
    vec![
        rule()
            .outside(Field::IpDaddr, inside4)
            .then(snat(Field::IpSaddr, Family::V4)),
        rule()
            .outside(Field::Ip6Daddr, inside6)
            .then(snat(Field::Ip6Saddr, Family::V6)),
    ]
}

/// NAT is done at 100: here the source is what the outside would see. What conntrack calls
/// invalid or does not track was not translated at all.
fn leak_stop(inside4: &str, inside6: &str) -> Vec<Rule> {
    let (v4, v6) = (Family::V4, Family::V6);
    let right = |field, family| rule().inside(field, egress(family)).then(Verdict::Accept);
    let [expected4, expected6] = expected();
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
        expected4,
        expected6,
    ]
}
