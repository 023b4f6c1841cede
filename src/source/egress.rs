//! Lists of egress addresses: `203.0.113.10, 2001:db8::10`, `203.0.113.8/29`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::SourceError;
use super::annotation::SourcedText;
use rules::fault::{Collector, Complaint, Faults};
use rules::grammar::{lexer, targets};

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

/// Refuses what the policy file does not offer, and what another namespace of the file lists.
pub(super) fn check(
    list: &[IpNet],
    place: &str,
    namespace: &str,
    offered: &[IpNet],
    lists: &BTreeMap<String, Vec<IpNet>>,
) -> Result<(), SourceError> {
    for entry in list {
        if !offered.iter().any(|net| net.contains(entry)) {
            return Err(SourceError::EgressNotOffered {
                place: place.to_owned(),
                entry: *entry,
                offered: for_people(offered),
            });
        }
        for (owner, others) in lists.iter().filter(|(owner, _)| *owner != namespace) {
            if let Some(owned) = others.iter().find(|other| overlap(entry, other)) {
                return Err(SourceError::EgressTaken {
                    place: place.to_owned(),
                    entry: *entry,
                    owner: owner.clone(),
                    owned: *owned,
                });
            }
        }
    }
    Ok(())
}

/// Networks are nested or disjoint.
fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn for_people(nets: &[IpNet]) -> String {
    if nets.is_empty() {
        return "which has none".to_owned();
    }
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    nets.join(", ")
}
