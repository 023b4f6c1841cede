//! What the comparisons of a rule have settled about its packets: the encoder makes no check twice, and a rule
//! that no packet can match is refused.

use super::field::{Field, Load, Needs};
use super::matching::{Match, Test};
use super::table::TableFamily;
use super::value::{Family, Value};

/// Hop-by-hop options, routing, fragment and destination options (RFC 8200, 4).
const EXTENSION_HEADERS: [u8; 4] = [0, 43, 44, 60];

/// What must hold before a header may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// `meta iiftype ether`: there is a link header.
    Ethernet,
    /// `meta nfproto`
    Family(Family),
    /// `meta protocol`, where packets of all kinds come by.
    EtherType(u16),
    /// `ether type`: the same, read from the frame.
    LinkType(u16),
    /// `meta l4proto`
    Protocol(u8),
}

/// What is known of a packet that has come so far in a rule.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    table: TableFamily,
    ethernet: bool,
    family: Option<Family>,
    ether_type: Option<u16>,
    protocol: Option<u8>,
}

impl Settled {
    /// Of a rule that has compared nothing yet.
    pub const fn new(table: TableFamily) -> Self {
        let family = match table {
            TableFamily::Ip => Some(Family::V4),
            TableFamily::Ip6 => Some(Family::V6),
            _ => None,
        };
        // A bridge has no other frames.
        let ethernet = matches!(table, TableFamily::Bridge);
        Self {
            table,
            ethernet,
            family,
            ether_type: None,
            protocol: None,
        }
    }

    /// The IP protocol of every packet that comes so far.
    pub const fn protocol(&self) -> Option<u8> {
        self.protocol
    }

    /// The conditions of a field, in the order in which `nft` puts them there.
    pub fn conditions(&self, field: Field) -> impl Iterator<Item = Condition> + use<> {
        let spec = field.spec();
        // nft asks a bridge's packets only about plain IP headers by `meta protocol`
        let plain = matches!(
            (spec.needs, spec.load),
            (Needs::Family(_), Load::Payload(..))
        );
        let of_kind = |number| match self.table {
            TableFamily::Bridge if !plain => Condition::LinkType(number),
            _ => Condition::EtherType(number),
        };
        let of_family = |family| match (self.table, family) {
            (TableFamily::Netdev | TableFamily::Bridge, Family::V4) => of_kind(0x0800),
            (TableFamily::Netdev | TableFamily::Bridge, Family::V6) => of_kind(0x86dd),
            _ => Condition::Family(family),
        };
        let several = match spec.needs {
            Needs::Nothing => [None, None],
            Needs::Ethernet => [Some(Condition::Ethernet), None],
            Needs::Family(family) => [Some(of_family(family)), None],
            Needs::Arp if self.table == TableFamily::Arp => [None, None],
            Needs::Arp => [Some(of_kind(0x0806)), None],
            Needs::Protocol(protocol) => [Some(Condition::Protocol(protocol)), None],
            Needs::Icmp(family) => {
                let protocol = match family {
                    Family::V4 => 1,
                    Family::V6 => 58,
                };
                [Some(of_family(family)), Some(Condition::Protocol(protocol))]
            }
        };
        several.into_iter().flatten()
    }

    /// Takes a condition as given from here on. `false`: it was settled before.
    pub fn settle(&mut self, condition: Condition) -> bool {
        match condition {
            Condition::Ethernet => !std::mem::replace(&mut self.ethernet, true),
            Condition::Family(family) => self.family.replace(family) != Some(family),
            Condition::EtherType(number) | Condition::LinkType(number) => {
                self.ether_type.replace(number) != Some(number)
            }
            Condition::Protocol(number) => self.protocol.replace(number) != Some(number),
        }
    }

    /// Takes over what a comparison says of all packets for which it holds.
    pub fn learn(&mut self, m: &Match) {
        match (m.field, &m.test) {
            (Field::Nfproto, Test::Is(Value::Nfproto(family))) => self.family = Some(*family),
            // Behind an extension header there is another protocol than its own number.
            (Field::Ip6Nexthdr, Test::Is(Value::Protocol(number)))
                if EXTENSION_HEADERS.contains(number) => {}
            (Field::L4proto | Field::Ip6Nexthdr, Test::Is(Value::Protocol(number))) => {
                self.protocol = Some(*number);
            }
            (Field::EtherType, Test::Is(Value::EtherType(number))) => {
                self.ether_type = Some(*number);
            }
            _ => {}
        }
    }

    /// Why a condition cannot hold any more.
    pub fn contradicts(&self, condition: Condition) -> Option<String> {
        let (is, wanted) = match condition {
            Condition::Ethernet => return None,
            Condition::Family(family) => (self.family.map(Value::Nfproto), Value::Nfproto(family)),
            Condition::EtherType(number) | Condition::LinkType(number) => (
                self.ether_type.map(Value::EtherType),
                Value::EtherType(number),
            ),
            Condition::Protocol(number) => {
                (self.protocol.map(Value::Protocol), Value::Protocol(number))
            }
        };
        let is = is.filter(|is| *is != wanted)?;
        Some(format!(
            "it is for {wanted} packets, the rule's others are {is}"
        ))
    }
}
