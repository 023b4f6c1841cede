//! One entry of a rule's target list: an address, a network, a range or a keyword.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::label;
use super::number::number;
use crate::fault::{Complaint, quoted};
use crate::nearest::nearest;
use crate::pattern;
use crate::rule::Target;

/// The keywords that stand for addresses.
const KEYWORDS: [&str; 10] = [
    "any",
    "internet",
    "private",
    "cluster",
    "node",
    "nodes",
    "metadata",
    "dns",
    "apiserver",
    "multicast",
];

/// Words of other firewalls for the same.
const OTHERS: [(&str, &str); 7] = [
    ("all", "any"),
    ("*", "any"),
    ("everything", "any"),
    ("world", "internet"),
    ("host", "node"),
    ("kube-apiserver", "apiserver"),
    ("broadcast", "multicast"),
];

/// Reads one entry of a target list.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn parse(word: &str) -> Result<Target, Complaint> {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "any" => return Ok(Target::Any),
        "internet" => return Ok(Target::Internet),
        "private" => return Ok(Target::Private),
        "cluster" => return Ok(Target::Cluster),
        "node" => return Ok(Target::Node),
        "nodes" => return Ok(Target::Nodes),
        "metadata" => return Ok(Target::Metadata),
        "dns" => return Ok(Target::Dns),
        "apiserver" => return Ok(Target::ApiServer),
        "multicast" => return Ok(Target::Multicast),
        _ => {}
    }
    if let Some(service) = lower.strip_prefix("svc/") {
        return self::service(word, service);
    }
    if let Some(range) = range(word) {
        return range;
    }
    if let Some((target, port)) = with_port(word) {
        return Err(
            unknown(word).help(format!("ports stand before `to`: `{port}/tcp to {target}`"))
        );
    }
    let (address, _prefix) = word.split_once('/').unwrap_or((word, ""));
    if address.parse::<IpAddr>().is_ok() {
        return network(word).map(Target::Net);
    }
    match pattern::read(word) {
        Some(pattern) => Ok(Target::Name(pattern)),
        None => Err(no_address(word, &lower)),
    }
}

/// Reads one entry of the list behind `except`.
pub(super) fn parse_excepted(word: &str) -> Result<Target, Complaint> {
    match parse(word)? {
        Target::Service(_) => Err(Complaint::new(format!(
            "{} cannot stand behind `except`",
            quoted(word)
        ))
        .help("write a rule of its own for the Service, before this one")),
        Target::Name(_) => Err(Complaint::new(format!(
            "{} cannot stand behind `except`: not all addresses of a name are ever known",
            quoted(word)
        ))
        .help("except addresses or networks")),
        target => Ok(target),
    }
}

/// Reads an address or a network, as they also stand in lists of egress addresses and in the policy file.
///
/// # Errors
/// It is neither, has host bits set, or is an IPv4-mapped network.
pub fn network(word: &str) -> Result<IpNet, Complaint> {
    let Some((address, prefix)) = word.split_once('/') else {
        return Ok(IpNet::from(address(word)?));
    };
    if let Ok(IpAddr::V6(v6)) = address.parse()
        && let Some(mapped) = v6.to_ipv4_mapped()
    {
        return Err(mapped_network(word, mapped, prefix));
    }
    let address = self::address(address)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match number::<u8>(prefix) {
        Ok(length) if length <= longest => length,
        Ok(_) => {
            return Err(Complaint::new(format!(
                "the prefix length of {} is too big: it ends at {longest}",
                quoted(word)
            )));
        }
        Err(error) => {
            let complaint = error.complaint("a prefix length", prefix);
            let mask = prefix.parse::<IpAddr>().ok();
            let length = mask.and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok());
            return Err(complaint.maybe_meant(length.map(|length| format!("{address}/{length}"))));
        }
    };
    let net = IpNet::new(address, prefix)
        .map_err(|_| Complaint::new(format!("{} is not a network", quoted(word))))?;
    if net.trunc() != net {
        let complaint = Complaint::new(format!("{} has host bits set", quoted(word)));
        return Err(complaint.meant(net.trunc()));
    }
    Ok(net)
}

/// What is wrong with an IPv4-mapped network: no packet's header has an address of it. IPv4's prefix
/// length is what is left behind the 96 bits before the address.
fn mapped_network(word: &str, mapped: Ipv4Addr, prefix: &str) -> Complaint {
    let complaint = Complaint::new(format!("{} is an IPv4-mapped network", quoted(word)));
    let length = number::<u8>(prefix).ok().and_then(|n| n.checked_sub(96));
    match length.and_then(|length| Ipv4Net::new(mapped, length).ok()) {
        Some(net) => complaint.help(format!("write the IPv4 network, `{}`", net.trunc())),
        None => complaint.help("write an IPv4 network: its prefix length is the one here less 96"),
    }
}

/// Reads one address. IPv4 inside IPv6 never stands in a packet's header: IPv4 is meant.
///
/// # Errors
/// It is none.
pub fn address(word: &str) -> Result<IpAddr, Complaint> {
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => {
                let complaint =
                    Complaint::new(format!("{} is an IPv4-mapped address", quoted(word)));
                Err(complaint.help(format!("write the IPv4 address, `{mapped}`")))
            }
            None => Ok(IpAddr::V6(address)),
        },
        Ok(address) => Ok(address),
        Err(_) => Err(Complaint::new(format!(
            "expected an address, found {}",
            quoted(word)
        ))),
    }
}

/// `203.0.113.10-203.0.113.20`; `None` if the word is no range at all.
fn range(word: &str) -> Option<Result<Target, Complaint>> {
    let (first, last) = word.split_once('-')?;
    first.parse::<IpAddr>().ok()?;
    Some(range_between(word, first, last))
}

fn range_between(word: &str, first: &str, last: &str) -> Result<Target, Complaint> {
    let start = address(first)?;
    if last.parse::<IpAddr>().is_err() {
        let complaint = Complaint::new(format!(
            "expected a range from address to address, found {}",
            quoted(word)
        ));
        let meant = match (start, number::<u8>(last)) {
            (IpAddr::V4(start), Ok(last)) if last >= start.octets()[3] => {
                let [a, b, c, _] = start.octets();
                Some(format!("{start}-{a}.{b}.{c}.{last}"))
            }
            _ => None,
        };
        return Err(complaint.maybe_meant(meant));
    }
    let end = address(last)?;
    if start.is_ipv4() != end.is_ipv4() {
        return Err(Complaint::new(format!(
            "the range {} has both families: its ends must be both IPv4 or both IPv6",
            quoted(word)
        )));
    }
    if start > end {
        let complaint = Complaint::new(format!("the range {} ends before it starts", quoted(word)));
        return Err(complaint.meant(format!("{end}-{start}")));
    }
    Ok(Target::Range(start, end))
}

/// A Service by its namespace and name.
fn service(word: &str, service: &str) -> Result<Target, Complaint> {
    let well_formed = service
        .split_once('/')
        .is_some_and(|(namespace, name)| label::is_label(namespace) && label::is_label(name));
    if well_formed {
        return Ok(Target::Service(service.to_owned()));
    }
    Err(Complaint::new(format!(
        "expected a Service as `svc/NAMESPACE/NAME`, found {}",
        quoted(word)
    )))
}

/// What is wrong with a word that is neither keyword nor address.
fn no_address(word: &str, lower: &str) -> Complaint {
    let (host, port) = host(lower);
    if host.len() < lower.len() && pattern::read(host).is_some() {
        return domain(word, host, port);
    }
    if is_international(word) {
        return Complaint::new(format!(
            "{} has letters that are no part of a domain name as resolvers know it",
            quoted(word)
        ))
        .help("write it as it is asked for, with `xn--`: `idn2 NAME` says how");
    }
    let complaint = unknown(word);
    if lower == "not" || lower.starts_with('!') {
        return complaint.help(excepted(lower));
    }
    if let Some((_, ours)) = OTHERS.iter().find(|(other, _)| *other == lower) {
        return complaint.meant(ours);
    }
    if let Some(inside) = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'))
        && inside.parse::<IpAddr>().is_ok()
    {
        return complaint.meant(inside);
    }
    if lower.contains("://") {
        return complaint
            .help("write the address alone, and the port before `to`: `443/tcp to 203.0.113.7`");
    }
    let bare = word.trim_matches(['"', '\'']);
    if bare.len() < word.len() && is_plain(bare) {
        return complaint.meant(bare);
    }
    if let Some(net) = wildcard(word) {
        return complaint.meant(net);
    }
    if lower.contains('*') && pattern::read(&lower.replace('*', "x")).is_some() {
        return complaint.help("`*.` stands for one or more labels, and only before a name");
    }
    if matches!(
        lower.split_once('/'),
        Some(("pod" | "ns" | "namespace" | "deployment", _))
    ) {
        return complaint.help(
            "rules name addresses and Services: `cluster` is all pods and Services, `svc/NAMESPACE/NAME` one Service",
        );
    }
    complaint.maybe_meant(nearest(word, &KEYWORDS))
}

/// `api.example.com` and its port in `https://api.example.com:8443/v1`; the whole word if it is no such thing.
fn host(word: &str) -> (&str, Option<u16>) {
    let behind = word.split_once("://").map_or(word, |(_, rest)| {
        rest.split_once('/').map_or(rest, |(host, _)| host)
    });
    match behind.rsplit_once(':') {
        Some((host, port)) => match number::<u16>(port) {
            Ok(port) => (host, Some(port).filter(|port| *port > 0)),
            Err(_) => (behind, None),
        },
        None => (behind, None),
    }
}

/// `api.example.com:443`, `https://api.example.com/v1`.
fn domain(word: &str, host: &str, port: Option<u16>) -> Complaint {
    let complaint = Complaint::new(format!("{} is more than a domain name", quoted(word)));
    match port {
        Some(port) => complaint.help(format!("ports stand before `to`: `{port}/tcp to {host}`")),
        None => complaint.help(format!(
            "write the name alone, and the port before `to`: `443/tcp to {host}`"
        )),
    }
}

/// `bücher.example`, which resolvers know by another spelling.
fn is_international(word: &str) -> bool {
    let ascii: String = word
        .chars()
        .map(|c| {
            if c.is_alphanumeric() && !c.is_ascii() {
                'x'
            } else {
                c
            }
        })
        .collect();
    !word.is_ascii() && pattern::read(&ascii).is_some()
}

fn unknown(word: &str) -> Complaint {
    Complaint::new(format!(
        "expected a target (an address, a network, a range, `svc/NAMESPACE/NAME`, `any`, `internet`, `private`, \
         `cluster`, `node`, `nodes`, `metadata`, `dns`, `apiserver`, `multicast` or a domain name), found {}",
        quoted(word)
    ))
}

/// An address, a network, a range or a keyword. For help, which must not begin anew with a part of its own word: that
/// word may be as long as an annotation.
fn is_plain(word: &str) -> bool {
    KEYWORDS.contains(&word.to_ascii_lowercase().as_str())
        || network(word).is_ok()
        || range(word).is_some_and(|range| range.is_ok())
}

/// What to write instead of `not private`, `!private`.
pub(super) fn excepted(word: &str) -> String {
    let meant = word.trim_start_matches('!');
    let meant = if meant != word && is_plain(meant) {
        meant
    } else {
        "private"
    };
    format!("what is not meant stands behind `except`: `to any except {meant}`")
}

/// `203.0.113.7:443`, `[2001:db8::1]:443`, `10.0.0.0/8:80`, `internet:443`: the target and the port.
fn with_port(word: &str) -> Option<(&str, &str)> {
    if word.parse::<IpAddr>().is_ok() || network(word).is_ok() {
        return None;
    }
    let (target, port) = word.rsplit_once(':')?;
    number::<u16>(port).ok().filter(|port| *port > 0)?;
    let bare = target.trim_start_matches('[').trim_end_matches(']');
    // Without brackets, the last group of an IPv6 address looks like a port.
    (is_plain(bare) && (bare.len() < target.len() || !bare.contains(':'))).then_some((bare, port))
}

/// `10.*`, `192.168.1.*`, `10.1.*.*` as a network.
fn wildcard(word: &str) -> Option<String> {
    let given: Vec<&str> = word.split('.').take_while(|part| *part != "*").collect();
    let rest = word.split('.').skip(given.len());
    if given.is_empty()
        || given.len() > 3
        || !rest.clone().all(|part| part == "*")
        || rest.count() == 0
    {
        return None;
    }
    let octets: Vec<u8> = given
        .iter()
        .map(|part| number(part).ok())
        .collect::<Option<_>>()?;
    let octet = |n: usize| octets.get(n).copied().unwrap_or(0);
    let length = 8 * octets.len();
    Some(format!("{}.{}.{}.0/{length}", octet(0), octet(1), octet(2)))
}

/// Whether a word would be right in a target list.
pub(super) fn is_one(word: &str) -> bool {
    parse(word).is_ok()
}
