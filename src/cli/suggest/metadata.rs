//! What of a log went to a metadata service, which hands out credentials of the node.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::verdicts::Line;
use crate::verdicts::packet::protocol_number;
use rules::class::{METADATA, WIRESERVER};
use rules::facts::{Facts, Word};
use rules::nat64;

/// Whether a rule for this line would open a metadata service: the pod asked for one, or that is where the packet
/// went after it was translated.
pub(super) fn is_for(line: &Line) -> bool {
    let protocol = line.protocol.as_deref().and_then(protocol_number);
    let asked = line.original_destination;
    [
        (Some(line.destination), line.destination_port),
        (asked, line.original_destination_port),
    ]
    .into_iter()
    .any(|(address, port)| address.is_some_and(|address| answers(address, protocol, port)))
}

fn answers(address: IpAddr, protocol: Option<u8>, port: Option<u16>) -> bool {
    let endpoints = Facts::default().endpoints(Word::Metadata);
    endpoints.iter().any(|endpoint| {
        let takes = protocol.is_none_or(|protocol| endpoint.takes(protocol, port));
        takes && endpoint.addresses.iter().any(|net| means(net, address))
    })
}

/// The address of a metadata service, or the same behind NAT64's own prefix: a log does not say of others.
fn means(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address) || behind_nat64(net).is_some_and(|behind| behind == address)
}

/// Whether a network holds the address of one.
pub(super) fn is_in(net: &IpNet) -> bool {
    METADATA.iter().chain([&WIRESERVER]).any(|service| {
        let behind = behind_nat64(&service.address);
        net.contains(&service.address) || behind.is_some_and(|behind| net.contains(&behind))
    })
}

fn behind_nat64(net: &IpNet) -> Option<IpAddr> {
    match net.addr() {
        IpAddr::V4(address) => Some(nat64::embed(nat64::WELL_KNOWN, address).into()),
        IpAddr::V6(_) => None,
    }
}
