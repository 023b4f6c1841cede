//! Rules printed in the one form that means the same: keywords in lower case, nothing that is understood anyway.

use std::fmt::{self, Display, Formatter};

use ipnet::IpNet;

use super::rule::{DEFAULT_PRIORITY, Log, Ports, Rule, Target, Transport, Verb};

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verb)?;
        if !self.ports.is_empty() {
            f.write_str(" ")?;
            list(f, &self.ports)?;
        }
        if self.to != [Target::Any] {
            f.write_str(" to ")?;
            list(f, &self.to)?;
        }
        if !self.except.is_empty() {
            f.write_str(" except ")?;
            list(f, &self.except)?;
        }
        match self.log {
            Some(Log::Default) => f.write_str(" log")?,
            Some(Log::PerSecond(count)) => write!(f, " log={count}/s")?,
            None => {}
        }
        if self.priority != DEFAULT_PRIORITY {
            write!(f, " priority={}", self.priority)?;
        }
        if let Some(name) = &self.name {
            write!(f, " name={name}")?;
        }
        if let Some(until) = self.until {
            write!(f, " until={until}")?;
        }
        Ok(())
    }
}

fn list(f: &mut Formatter<'_>, entries: &[impl Display]) -> fmt::Result {
    for (index, entry) in entries.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(f, "{comma}{entry}")?;
    }
    Ok(())
}

impl Display for Verb {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Allow => "allow",
            Verb::Deny => "deny",
            Verb::Reject => "reject",
            Verb::Pass => "pass",
        })
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        })
    }
}

impl Display for Ports {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Ports::Transport(transport, range) => {
                match (*range.start(), *range.end()) {
                    (0, u16::MAX) => {}
                    (first, last) if first == last => write!(f, "{first}/")?,
                    (first, last) => write!(f, "{first}-{last}/")?,
                }
                write!(f, "{transport}")
            }
            Ports::Icmp { kind, code } => icmp(f, "icmp", *kind, *code),
            Ports::Icmpv6 { kind, code } => icmp(f, "icmpv6", *kind, *code),
            Ports::Protocol(number) => write!(f, "proto/{number}"),
        }
    }
}

fn icmp(f: &mut Formatter<'_>, protocol: &str, kind: Option<u8>, code: Option<u8>) -> fmt::Result {
    f.write_str(protocol)?;
    for number in [kind, code].into_iter().flatten() {
        write!(f, "/{number}")?;
    }
    Ok(())
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Target::Net(net) => f.write_str(&address_or_net(net)),
            Target::Range(first, last) => write!(f, "{first}-{last}"),
            Target::Any => f.write_str("any"),
            Target::Internet => f.write_str("internet"),
            Target::Private => f.write_str("private"),
            Target::Cluster => f.write_str("cluster"),
            Target::Node => f.write_str("node"),
            Target::Nodes => f.write_str("nodes"),
            Target::Metadata => f.write_str("metadata"),
            Target::Dns => f.write_str("dns"),
            Target::ApiServer => f.write_str("apiserver"),
            Target::Multicast => f.write_str("multicast"),
            Target::Service(service) => write!(f, "svc/{service}"),
            Target::Name(pattern) => write!(f, "{pattern}"),
        }
    }
}

/// A network of one address as that address.
fn address_or_net(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}
