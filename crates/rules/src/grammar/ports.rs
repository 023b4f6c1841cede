//! One entry of a rule's port list: `443/tcp`, `8000-8100/udp`, `icmp/3/4`, `proto/47`.

use std::ops::RangeInclusive;

use super::number::{NumberError, number};
use super::targets;
use crate::fault::{Complaint, quoted};
use crate::nearest::nearest;
use crate::rule::{Ports, Transport};

/// What a port list may hold, for messages.
const EXPECTED: &str = "`443/tcp`, `8000-8100/udp`, `tcp`, `icmp/8`, `icmpv6/128` or `proto/47`";

/// For words that other tools put before a port.
pub(super) const NO_WORD: &str = "ports are written as in `443/tcp`, without a word before them";

/// For whoever thinks of a firewall between two networks.
pub(super) const NO_FROM: &str =
    "a rule is about what its own pods send: there is no `from`, write where it goes behind `to`";

/// What may stand where the port list does.
const WORDS: [&str; 12] = [
    "tcp", "udp", "sctp", "icmp", "icmpv6", "proto", "to", "except", "log", "priority", "name",
    "until",
];

/// Reads one entry of a port list.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn parse(word: &str) -> Result<Ports, Complaint> {
    let lower = word.to_ascii_lowercase();
    let Some((left, right)) = lower.split_once('/') else {
        return without_slash(word, &lower);
    };
    match left {
        "icmp" => icmp(word, right).map(|(kind, code)| Ports::Icmp { kind, code }),
        "icmpv6" => icmp(word, right).map(|(kind, code)| Ports::Icmpv6 { kind, code }),
        "proto" => protocol(word, right),
        _ => transport_ports(word, left, right),
    }
}

/// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`.
fn without_slash(word: &str, lower: &str) -> Result<Ports, Complaint> {
    if let Some(transport) = transport(lower) {
        return Ok(Ports::Transport(transport, 0..=u16::MAX));
    }
    match lower {
        "icmp" => {
            return Ok(Ports::Icmp {
                kind: None,
                code: None,
            });
        }
        "icmpv6" => {
            return Ok(Ports::Icmpv6 {
                kind: None,
                code: None,
            });
        }
        "proto" => {
            return Err(Complaint::new("`proto` needs a number: `proto/47`"));
        }
        _ => {}
    }
    if port_range(word).is_ok() {
        let complaint = Complaint::new(format!("{} has no protocol", quoted(word)));
        return Err(complaint.meant(format!("{word}/tcp")));
    }
    if let Some((ports, transport)) = colon_form(lower) {
        let complaint = Complaint::new(format!(
            "expected ports as in `443/tcp`, found {}",
            quoted(word)
        ));
        return Err(complaint.meant(format!("{ports}/{transport}")));
    }
    Err(unknown(word))
}

/// `443:tcp` or `tcp:443`.
fn colon_form(lower: &str) -> Option<(&str, &str)> {
    let (left, right) = lower.split_once(':')?;
    if port_range(left).is_ok() && transport(right).is_some() {
        return Some((left, right));
    }
    (port_range(right).is_ok() && transport(left).is_some()).then_some((right, left))
}

/// `443/tcp`, `8000-8100/udp`.
fn transport_ports(word: &str, left: &str, right: &str) -> Result<Ports, Complaint> {
    if let Some(transport) = transport(right) {
        let range = port_range(left).map_err(|wrong| {
            let complaint = wrong.complaint(left, right);
            let port = service_port(left).map(|port| format!("{port}/{transport}"));
            let pair = target_and_port(left)
                .map(|(target, port)| format!("{port}/{transport} to {target}"));
            match port.or(pair) {
                None if left.starts_with('!') => complaint.help(
                    "ports have no `not`: write a rule for these ports before the one for all others",
                ),
                meant => complaint.maybe_meant(meant),
            }
        })?;
        return Ok(Ports::Transport(transport, range));
    }
    if transport(left).is_some() {
        let complaint = Complaint::new(format!("in {} the port comes first", quoted(word)));
        return Err(if port_range(right).is_ok() {
            complaint.meant(format!("{right}/{left}"))
        } else {
            complaint.help(format!("write `443/{left}`, or `{left}` for every port"))
        });
    }
    if port_range(left).is_err() || targets::is_one(word) {
        return Err(unknown(word));
    }
    if matches!(right, "icmp" | "icmpv6") {
        let complaint = Complaint::new(format!("{} has no ports", quoted(right)));
        return Err(complaint.help(format!(
            "a type is written `{right}/8`, a code `{right}/3/4`"
        )));
    }
    let complaint = Complaint::new(format!(
        "expected `tcp`, `udp` or `sctp` behind the port, found {}",
        quoted(right)
    ));
    // `443/https`: what HTTPS is spoken over.
    let meant = service_port(right).map(|_| if right == "ntp" { "udp" } else { "tcp" });
    let meant = meant.or_else(|| nearest(right, &["tcp", "udp", "sctp"]));
    Err(complaint.maybe_meant(meant.map(|transport| format!("{left}/{transport}"))))
}

/// Why a text is not a port or a range of ports.
enum PortError<'a> {
    Zero,
    Reversed(u16, u16),
    Number(NumberError, &'a str),
}

impl PortError<'_> {
    /// The fault's words, for what stands before and behind the slash.
    fn complaint(self, range: &str, transport: &str) -> Complaint {
        match self {
            PortError::Zero => Complaint::new("port 0 is reserved and no connection can use it")
                .help(format!(
                    "the first port is 1; write `{transport}` alone for every port"
                )),
            PortError::Reversed(first, last) => {
                let message = format!("the range {} ends before it starts", quoted(range));
                Complaint::new(message).meant(format!("{last}-{first}/{transport}"))
            }
            PortError::Number(NumberError::TooBig, port) => Complaint::new(format!(
                "port {} is too big: ports end at 65535",
                quoted(port)
            )),
            PortError::Number(error, port) => error.complaint("a port", port),
        }
    }
}

/// `443` or `8000-8100`.
fn port_range(text: &str) -> Result<RangeInclusive<u16>, PortError<'_>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(PortError::Reversed(first, last));
    }
    Ok(first..=last)
}

/// A port that a packet can be sent to.
fn port(text: &str) -> Result<u16, PortError<'_>> {
    match number::<u16>(text) {
        Ok(0) => Err(PortError::Zero),
        Ok(port) => Ok(port),
        Err(error) => Err(PortError::Number(error, text)),
    }
}

/// The type and code behind `icmp/` or `icmpv6/`.
fn icmp(word: &str, text: &str) -> Result<(Option<u8>, Option<u8>), Complaint> {
    let (kind, code) = match text.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (text, None),
    };
    let byte = |what: &str, text: &str| {
        number::<u8>(text).map_err(|error| match error {
            NumberError::TooBig => Complaint::new(format!(
                "{what} of {} is too big: it ends at 255",
                quoted(word)
            )),
            _ => error.complaint(what, text),
        })
    };
    let kind = byte("the ICMP type", kind)?;
    let code = code.map(|code| byte("the ICMP code", code)).transpose()?;
    Ok((Some(kind), code))
}

/// The number behind `proto/`.
fn protocol(word: &str, text: &str) -> Result<Ports, Complaint> {
    match number::<u8>(text) {
        Ok(number) => Ok(Ports::Protocol(number)),
        Err(NumberError::TooBig) => Err(Complaint::new(format!(
            "the protocol of {} is too big: it ends at 255",
            quoted(word)
        ))),
        Err(error) => Err(error.complaint("an IP protocol number", text)),
    }
}

/// A transport by its name, in lower case.
fn transport(lower: &str) -> Option<Transport> {
    match lower {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        "sctp" => Some(Transport::Sctp),
        _ => None,
    }
}

/// For a word that is no port: perhaps a target without its `to`, perhaps a misspelt word.
fn unknown(word: &str) -> Complaint {
    let complaint = Complaint::new(format!(
        "expected ports ({EXPECTED}), `to`, `except` or an option, found {}",
        quoted(word)
    ));
    if word.eq_ignore_ascii_case("not") || word.starts_with('!') {
        return complaint.help(targets::excepted(&word.to_ascii_lowercase()));
    }
    let lower = word.to_ascii_lowercase();
    if matches!(lower.as_str(), "any" | "all" | "*") {
        return complaint.help("leave the ports out for every protocol");
    }
    if matches!(lower.as_str(), "port" | "ports" | "dport") {
        return complaint.help(NO_WORD);
    }
    if lower == "from" {
        return complaint.help(NO_FROM);
    }
    if targets::parse(word).is_ok() {
        return complaint.meant(format!("to {word}"));
    }
    if let Some((target, port)) = target_and_port(word) {
        return complaint.meant(format!("{port}/tcp to {target}"));
    }
    if let Some(port) = service_port(&lower) {
        return complaint.meant(format!("{port}/tcp"));
    }
    complaint.maybe_meant(nearest(word, &WORDS))
}

/// `203.0.113.7:443`, `[2001:db8::1]:443`, `internet:443`: the target and the port.
fn target_and_port(word: &str) -> Option<(&str, &str)> {
    let (target, port) = word.rsplit_once(':')?;
    let target = target.trim_start_matches('[').trim_end_matches(']');
    (targets::is_one(target) && port_range(port).is_ok()).then_some((target, port))
}

/// The port of a service that people name (IANA's service names, and what they are mostly called).
fn service_port(lower: &str) -> Option<u16> {
    const SERVICES: [(&str, u16); 18] = [
        ("ftp", 21),
        ("ssh", 22),
        ("smtp", 25),
        ("dns", 53),
        ("domain", 53),
        ("http", 80),
        ("ntp", 123),
        ("imap", 143),
        ("ldap", 389),
        ("https", 443),
        ("submission", 587),
        ("ldaps", 636),
        ("imaps", 993),
        ("mysql", 3306),
        ("postgresql", 5432),
        ("postgres", 5432),
        ("redis", 6379),
        ("kafka", 9092),
    ];
    let mut services = SERVICES.iter();
    services
        .find(|(name, _)| *name == lower)
        .map(|(_, port)| *port)
}

/// Whether a word would be right in a port list.
pub(super) fn is_one(word: &str) -> bool {
    parse(word).is_ok()
}
