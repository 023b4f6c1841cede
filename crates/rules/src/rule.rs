//! The rule language's types: what one line of policy says.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use jiff::Timestamp;

use super::pattern::Pattern;
use super::protocol;

/// What a rule does with a packet that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// The packet goes.
    Allow,
    /// The packet is dropped silently.
    Deny,
    /// The packet is refused at once: TCP RST, else ICMP administratively prohibited.
    Reject,
    /// This tier ends: the next one decides.
    Pass,
}

/// One entry of a rule's port list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ports {
    /// `443/tcp`, `8000-8100/udp`, `sctp` (every port: `0..=65535`).
    Transport(Transport, RangeInclusive<u16>),
    /// `icmp`, `icmp/8`, `icmp/3/4`: IPv4 only. `None` is "any".
    Icmp {
        /// The ICMP type (RFC 792).
        kind: Option<u8>,
        /// The ICMP code; only with a type.
        code: Option<u8>,
    },
    /// `icmpv6`, `icmpv6/128`: IPv6 only. `None` is "any".
    Icmpv6 {
        /// The ICMPv6 type (RFC 4443).
        kind: Option<u8>,
        /// The ICMPv6 code; only with a type.
        code: Option<u8>,
    },
    /// `proto/47`: an IP protocol by its number (IANA), in both families.
    Protocol(u8),
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Transport {
    /// The one with this IP protocol number (IANA).
    pub const fn of(protocol: u8) -> Option<Transport> {
        match protocol {
            protocol::TCP => Some(Transport::Tcp),
            protocol::UDP => Some(Transport::Udp),
            protocol::SCTP => Some(Transport::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number (IANA).
    pub const fn protocol(self) -> u8 {
        match self {
            Transport::Tcp => protocol::TCP,
            Transport::Udp => protocol::UDP,
            Transport::Sctp => protocol::SCTP,
        }
    }
}

/// One entry of a rule's target list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// `203.0.113.7` (a /32 or /128) or `203.0.113.0/24`; host bits are zero.
    Net(IpNet),
    /// `203.0.113.10-203.0.113.20`: both ends included, one family, first <= last.
    Range(IpAddr, IpAddr),
    /// Everything.
    Any,
    /// Every unicast address that is not cluster, a node, metadata or private.
    Internet,
    /// RFC 1918, 6598, 4193 and link-local, less cluster, nodes and metadata.
    Private,
    /// The policy file's `clusterCIDRs`.
    Cluster,
    /// An address of this node.
    Node,
    /// An address of any node of the cluster.
    Nodes,
    /// The cloud's metadata services, as asked or as translated.
    Metadata,
    /// The policy file's `clusterDNS` on port 53, as asked or as translated.
    Dns,
    /// The API server: the Service default/kubernetes and its endpoints, on their ports, as asked or as translated.
    ApiServer,
    /// What goes to many at once: 224.0.0.0/4, ff00::/8, and 255.255.255.255.
    Multicast,
    /// `svc/shop/web`, here without `svc/`: what the pod sends to the addresses of this Service.
    Service(String),
    /// `api.example.com`, `*.example.com`: the addresses that the pods of the node were told for such names. Only of
    /// `allow` and `pass`, and never in `except`.
    Name(Pattern),
}

/// How a rule's matches are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Log {
    /// `log`: the first packet of each flow that is allowed, and at most 10 a second of what is of no flow that
    /// conntrack knows; at most 10 a second of a deny or reject.
    Default,
    /// `log=N/s`: at most N lines a second.
    PerSecond(u32),
}

/// One rule, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What happens to a packet that matches.
    pub verb: Verb,
    /// Empty: every protocol.
    pub ports: Vec<Ports>,
    /// Never empty: no `to` is `[Any]`.
    pub to: Vec<Target>,
    /// What `to` does not include.
    pub except: Vec<Target>,
    /// Whether and how matches are logged.
    pub log: Option<Log>,
    /// Lower is looked at first; 1000 if not given.
    pub priority: u16,
    /// A DNS label (RFC 1123), unique in its text.
    pub name: Option<String>,
    /// From this moment on (1970 to 9999) the rule is as if it were not there.
    pub until: Option<Timestamp>,
    /// The line in its text, from 1.
    pub line: usize,
    /// The rule's own text, trimmed, without its comment.
    pub text: String,
}

impl Rule {
    /// What this rule is called inside its text: its name, or its line.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.line.to_string())
    }
}

/// The priority of a rule that gives none.
pub const DEFAULT_PRIORITY: u16 = 1000;
