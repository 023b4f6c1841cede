//! What the chains of a veth let through, and what they drop whatever the rules say: `show` counts, `explain`
//! answers and docs/veth.md tells by this table, and each rule that drops is called after its row.

use std::net::IpAddr;

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The rules decide.
    Judged,
    /// It goes, whatever the rules say.
    Passes,
    /// It is dropped, whatever the rules say.
    Dropped,
    /// It is dropped unless a rule allows it.
    DroppedUnlessAllowed,
}

impl Fate {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fate::Judged => "the rules decide",
            Fate::Passes => "always passes",
            Fate::Dropped => "always dropped",
            Fate::DroppedUnlessAllowed => "dropped unless a rule allows it",
        }
    }
}

/// One kind of what a pod sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// As rules of the chains and counters are called.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

macro_rules! rows {
    ($($row:ident $name:literal $fate:ident $what:literal)*) => {
        $(
            #[doc = concat!($what, ".")]
            pub const $row: Row = Row { name: $name, what: $what, fate: Fate::$fate };
        )*
        /// All rows; each packet is of one.
        pub const ROWS: &[Row] = &[$($row),*];
    };
}

rows! {
    MAC "mac" Dropped "a frame with another MAC than the pod's"
    ARP "arp" Passes "ARP about the pod's own addresses: requests, answers, probes"
    SOURCE "source" Dropped "a packet from an address that is not the pod's, or only its link-local one"
    ICMP_ERROR "icmp-error" Dropped "an ICMP error about a packet that was not sent to the pod, or too short to say"
    ABOUT_OWN "own-error" Judged "an ICMP error about a packet that the pod was sent"
    DISCOVERY "discovery" Passes "neighbour discovery of IPv6 about the pod's own addresses and to routers"
    LISTENERS "listeners" Passes "multicast listener reports of IPv6, to its link"
    OTHER_DISCOVERY "other-discovery" Dropped "other neighbour discovery, router advertisements and redirects"
    FLOOD "link-flood" Dropped "neighbour discovery and listener reports, more than 50 a second"
    LOOPBACK "loopback" Dropped "a packet to 127.0.0.0/8 or ::1"
    MULTICAST "multicast" DroppedUnlessAllowed "multicast and broadcast (224.0.0.0/4, 255.255.255.255, ff00::/8); of ICMPv6 always"
    OWN "own" Judged "any other packet of IPv4 and IPv6 from the pod's addresses"
    OTHER "other" Dropped "anything else: VLAN tags, LLC, other protocols than IP and ARP"
}

/// The row that a packet to this address is of whatever else it is, if it does not get as far as the rules.
pub fn never(to: IpAddr) -> Option<&'static Row> {
    to.is_loopback().then_some(&LOOPBACK)
}

/// How `explain` calls a row that decides.
pub fn label(row: &Row) -> String {
    format!("veth:{}", row.name)
}

/// The row that a label of `explain` is about.
pub fn of_label(label: &str) -> Option<&'static Row> {
    let name = label.strip_prefix("veth:")?;
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::class;
    use rules::evaluate::VETH_MULTICAST;

    #[test]
    fn labels_are_those_of_rows() {
        assert_eq!(VETH_MULTICAST, label(&MULTICAST));
        for row in ROWS {
            assert_eq!(of_label(&label(row)), Some(row));
        }
        assert_eq!(of_label("pod:1"), None);
        for net in class::MULTICAST {
            assert!(MULTICAST.what.contains(&net.to_string().replace("/32", "")));
        }
    }
}
