//! The way of questions to the node's own resolver: those of pods whose rules have domain names, and only while somebody
//! listens there.
//!
//! ```text
//! prerouting -115  dns-probe   gives the question the resolver's socket, if there is one
//! prerouting -110  dns         whatever has it is sent to the resolver, by conntrack as any other translation
//! ```
//! Both ask a flow's first packet only. Where there is no listener, the question goes on to clusterDNS.
//!
//! The resolver's addresses are on no device, so that no pod has them for a neighbour and nobody answers for them on a
//! link: local routes make them the node's own. Each address of `clusterDNS` has a port of its own there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nft::{
    ChainKind, Family, Field, Hook, HookPoint, InterfaceName, Nat, Rule, Statement, Test, Value,
    Verdict,
};
use rules::class::DNS_PORT;
use rules::protocol::{TCP, UDP};

use super::INET;
use super::chain::BaseChain;
use super::packet::{CONFIRMED, FAMILIES, daddr, saddr};

/// Where the resolver listens, in both families.
const RESOLVER: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(169, 254, 20, 11),
    Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x11),
);
/// The port for the first address of `clusterDNS`; the others follow.
const FIRST_PORT: u16 = 5300;
/// Gives questions their socket.
pub(super) const PROBE: &str = "dns-probe";
/// Sends them there.
pub(super) const LEAD: &str = "dns";

/// The resolver's address of a family.
pub const fn resolver(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(RESOLVER.0),
        Family::V6 => IpAddr::V6(RESOLVER.1),
    }
}

/// Its addresses, of both families.
pub fn resolvers() -> [IpAddr; 2] {
    FAMILIES.map(resolver)
}

/// Addresses of pods whose questions are led to the node's own resolver.
pub const fn led(family: Family) -> &'static str {
    match family {
        Family::V4 => "dns-pods4",
        Family::V6 => "dns-pods6",
    }
}

/// An address of `clusterDNS`, and the resolver's port for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// Whom the pod asks.
    pub asked: IpAddr,
    /// Where that is led to.
    pub port: u16,
}

impl Led {
    /// All, by the policy file's list.
    pub fn all(resolvers: &[IpAddr]) -> impl Iterator<Item = Led> {
        let led = |(asked, port): (&IpAddr, u16)| Led {
            asked: *asked,
            port,
        };
        resolvers.iter().zip(FIRST_PORT..).map(led)
    }

    /// The family in which it is asked, and led.
    pub const fn family(&self) -> Family {
        Family::of(&self.asked)
    }

    /// Where the resolver takes it.
    pub fn at(&self) -> SocketAddr {
        SocketAddr::new(self.to(), self.port)
    }

    fn to(&self) -> IpAddr {
        resolver(self.family())
    }
}

/// The chains that lead there.
pub(super) fn chains(resolvers: &[IpAddr]) -> Vec<BaseChain> {
    let chain = |name, kind, point, priority, rules| BaseChain {
        table: &INET,
        name,
        hook: Some(Hook {
            kind,
            point,
            priority,
            accept: true,
        }),
        rules,
    };
    use HookPoint::Prerouting;
    vec![
        chain(PROBE, ChainKind::Filter, Prerouting, -115, probe(resolvers)),
        chain(LEAD, ChainKind::Nat, Prerouting, -110, lead(resolvers)),
    ]
}

/// Every packet of the node comes by here: what nearly all of them are not comes first.
fn probe(resolvers: &[IpAddr]) -> Vec<Rule> {
    const FIN_SYN_RST_ACK: u8 = 0x17;
    const SYN: u8 = 0x02;
    let others = Rule::new().not(Field::ThDport, Value::U16(DNS_PORT));
    // An open flow keeps the way that it has: the socket of a listener is none of its packets'.
    let begun = Test::NotMasked(Value::Mark(CONFIRMED), Value::Mark(0));
    let begun = Rule::new().test(Field::CtStatus, begun);
    let mut rules = vec![others.then(Verdict::Accept), begun.then(Verdict::Accept)];
    for one in Led::all(resolvers) {
        for protocol in [UDP, TCP] {
            let question = question(&one, protocol);
            let question = match protocol {
                TCP => question.test(
                    Field::TcpFlags,
                    Test::Masked(Value::U8(FIN_SYN_RST_ACK), Value::U8(SYN)),
                ),
                _ => question,
            };
            rules.push(question.then(Statement::Tproxy(one.to(), one.port)));
        }
    }
    rules
}

fn lead(resolvers: &[IpAddr]) -> Vec<Rule> {
    let led = |one: Led| {
        [UDP, TCP].map(|protocol| {
            question(&one, protocol)
                .is(Field::SocketTransparent, Value::U8(1))
                .then(Statement::Dnat(Nat::To(one.to(), Some(one.port))))
        })
    };
    Led::all(resolvers).flat_map(led).collect()
}

/// What a pod with domain names asks.
fn question(one: &Led, protocol: u8) -> Rule {
    let family = one.family();
    Rule::new()
        .inside(saddr(family), led(family))
        .is(daddr(family), one.asked.into())
        .is(Field::L4proto, Value::Protocol(protocol))
        .is(Field::ThDport, Value::U16(DNS_PORT))
}

/// Nobody reaches the resolver but by these chains, and the node itself. Of what is in `input`.
pub(super) fn only_led() -> Vec<Rule> {
    let loopback = InterfaceName::new("lo").map(Value::Interface);
    let foreign = |family| {
        let to = || {
            let rule = Rule::new().is(daddr(family), resolver(family).into());
            let others = loopback.into_iter();
            others.fold(rule, |rule, own| rule.not(Field::Iifname, own))
        };
        // Of what is not tracked nothing is known: the first rule does not hold for it, the last one does.
        [
            to().test(Field::CtStatus, Test::Dnat)
                .inside(saddr(family), led(family))
                .then(Verdict::Accept),
            to().counter().then(Verdict::Drop),
        ]
    };
    FAMILIES.into_iter().flat_map(foreign).collect()
}
