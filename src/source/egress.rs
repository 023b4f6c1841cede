//! Lists of egress addresses: `203.0.113.10, 2001:db8::10`, `203.0.113.8/29`.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::annotation::SourcedText;
use rules::class::{METADATA, MULTICAST, WIRESERVER};
use rules::facts::Facts;
use rules::fault::{Collector, Complaint, Faults};
use rules::grammar::targets;
use rules::lexer;

/// Reads a namespace's list, separated by commas or spaces.
pub(super) fn parse(list: &SourcedText) -> Result<Vec<IpNet>, Faults> {
    let mut faults = Collector::default();
    let mut entries = Vec::new();
    let mut last = None;
    for (number, line) in lexer::lines(&list.text) {
        let words = lexer::words(number, line);
        last = Some(lexer::whole_line(number, line).behind());
        for word in words.into_iter().filter(|word| word.text() != ",") {
            match targets::network(word.text()) {
                Ok(entry) => entries.push(entry),
                Err(complaint) => faults.add(&list.source, word, complaint),
            }
        }
    }
    if let (Some(place), true) = (last, entries.is_empty() && faults.is_empty()) {
        // Taken for "no egress address", this would let the pods out with the node's own.
        let complaint = Complaint::new("expected an address, found none");
        let help = "list addresses, or remove the annotation";
        faults.add(&list.source, place, complaint.help(help));
    }
    faults.finish(entries)
}

/// What no host on the Internet or in a LAN has as its own, and what that is. 240.0.0.0 to 255.255.255.254 is
/// unicast, and is somebody's.
const NOBODYS: [(IpNet, &str); 8] = [
    (v4([0, 0, 0, 0], 8), "unspecified"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v6([0, 0, 0, 0], 96), "unspecified or loopback"),
    (v6([0, 0, 0, 0xffff], 96), "IPv4 written as IPv6"),
    (v6([0xfe80, 0, 0, 0], 10), "link-local"),
    (MULTICAST[0], "multicast"),
    (MULTICAST[2], "multicast"),
];
const BROADCAST: IpNet = MULTICAST[1];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

/// By its first and its sixth segments.
const fn v6([a, b, c, f]: [u16; 4], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(a, b, c, 0, 0, f, 0, 0),
        prefix,
    ))
}

/// Why an entry, or a part of it, can be nobody's egress address in this cluster: answers would go elsewhere,
/// or nowhere.
pub fn impossible(entry: &IpNet, facts: &Facts) -> Option<String> {
    let kinds = NOBODYS.iter().map(|(net, kind)| (*net, (*kind).to_owned()));
    let nat64 = facts.nat64.iter().map(|prefix| {
        let behind = "IPv4 behind a NAT64 prefix";
        (IpNet::V6(*prefix), behind.to_owned())
    });
    let metadata = METADATA.iter().chain([&WIRESERVER]);
    let metadata = metadata.map(|service| (service.address, "a metadata service's".to_owned()));
    let of_cluster = |net: &IpNet| {
        (
            *net,
            format!("in `clusterCIDRs` ({net}): a pod's or a Service's"),
        )
    };
    let of_nodes = |net: &IpNet| (*net, format!("in `nodeCIDRs` ({net}): a node's own"));
    let services = facts.dns.iter().copied();
    let services = services.chain(facts.api_server.iter().map(|socket| socket.ip()));
    let services = services.map(|address| (IpNet::from(address), "a Service's".to_owned()));
    let mut classes = kinds
        .chain([(BROADCAST, "broadcast".to_owned())])
        .chain(nat64)
        .chain(facts.cluster.iter().map(of_cluster))
        .chain(facts.nodes.iter().map(of_nodes))
        .chain(metadata)
        .chain(services);
    let (net, what) = classes.find(|(net, _)| overlap(entry, net))?;
    Some(if net.contains(entry) {
        format!("{entry} is {what}")
    } else {
        format!("{entry} holds {net}, which is {what}")
    })
}

/// Networks are nested or disjoint.
pub(super) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
