//! Areas of ports, told apart by the ports before the addresses.
//!
//! A set of address, protocol and port together is searched with vector registers, and to save and
//! restore these costs a packet more than the search. As long as rules name few different ports, it
//! is cheaper to look up the port first, among these few, and then the address alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::plan::lookup::{Area, Key};
use nft::Field;

/// Ports of one protocol to which the same areas apply.
pub struct Service<'a> {
    /// Sorted, disjoint, not adjacent; both ends included.
    pub ports: Vec<(u16, u16)>,
    /// Disjoint.
    pub areas: Vec<&'a Area>,
}

/// The services of a protocol.
pub struct Protocol<'a> {
    pub name: &'static str,
    pub port: Field,
    pub services: Vec<Service<'a>>,
}

/// An area is repeated for each service that it holds for. Up to so many times as many elements are
/// no more memory than with the ports in the elements, which is an estimate from measured sizes.
const GROWTH: usize = 2;
/// How many elements are repeated for free, and how many services a protocol may have: the kernel
/// follows the verdict of each with every transaction of the node, older ones once for each pod.
const FREE: usize = 64;
pub const MOST: usize = 32;

/// By protocols, if that is worth it; the areas are all about ports.
pub fn of<'a>(areas: &[&'a Area], most: usize) -> Option<Vec<Protocol<'a>>> {
    let mut by_protocol: BTreeMap<u8, Vec<(u16, u16, &'a Area)>> = BTreeMap::new();
    for area in areas {
        if let Key::Ports(protocol, from, to) = area.key {
            let list = by_protocol.entry(protocol).or_default();
            list.push((from, to, area));
        }
    }
    let size: usize = areas.iter().map(|area| area.addresses.len()).sum();
    let mut left = size * GROWTH + FREE;
    let mut protocols = Vec::new();
    for (number, list) in by_protocol {
        let (name, port) = match number {
            6 => ("tcp", Field::TcpDport),
            17 => ("udp", Field::UdpDport),
            132 => ("sctp", Field::SctpDport),
            _ => return None,
        };
        let services = services(&list, &mut left, most)?;
        protocols.push(Protocol {
            name,
            port,
            services,
        });
    }
    Some(protocols)
}

/// One sweep over the ports. `left`: how many elements there may be yet.
fn services<'a>(
    list: &[(u16, u16, &'a Area)],
    left: &mut usize,
    most: usize,
) -> Option<Vec<Service<'a>>> {
    // Rules name the same ports again and again.
    let mut by_ports: BTreeMap<(u16, u16), Vec<usize>> = BTreeMap::new();
    for (number, (from, to, _)) in list.iter().enumerate() {
        by_ports.entry((*from, *to)).or_default().push(number);
    }
    let ranges: Vec<((u16, u16), Vec<usize>)> = by_ports.into_iter().collect();
    let mut borders: Vec<(u32, bool, usize)> = Vec::new();
    for (number, ((from, to), _)) in ranges.iter().enumerate() {
        borders.push((u32::from(*from), true, number));
        borders.push((u32::from(*to) + 1, false, number));
    }
    borders.sort_unstable();
    let mut services: Vec<Service<'a>> = Vec::new();
    let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut active: BTreeSet<usize> = BTreeSet::new();
    let mut rest = borders.into_iter().peekable();
    while let Some((from, begins, number)) = rest.next() {
        if begins {
            active.insert(number);
        } else {
            active.remove(&number);
        }
        // None: the last area is over, so that none is active.
        let Some(next) = rest.peek().map(|border| border.0) else {
            break;
        };
        if next == from || active.is_empty() {
            continue;
        }
        let here: Vec<usize> = active.iter().copied().collect();
        let service = match known.get(&here) {
            Some(service) => *service,
            None => {
                let all = here.iter().flat_map(|number| &ranges[*number].1);
                let mut all: Vec<usize> = all.copied().collect();
                all.sort_unstable();
                let areas: Vec<&Area> = all.iter().map(|number| list[*number].2).collect();
                let size: usize = areas.iter().map(|area| area.addresses.len()).sum();
                *left = left.checked_sub(size)?;
                if services.len() == most {
                    return None;
                }
                services.push(Service {
                    ports: Vec::new(),
                    areas,
                });
                known.insert(here, services.len() - 1);
                services.len() - 1
            }
        };
        let ports = &mut services[service].ports;
        let (from, to) = (u16::try_from(from).ok()?, u16::try_from(next - 1).ok()?);
        match ports.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(from) => *end = to,
            _ => ports.push((from, to)),
        }
    }
    Some(services)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::set::Family;

    fn area(protocol: u8, from: u16, to: u16, addresses: u128) -> Area {
        Area {
            family: Family::V4,
            key: Key::Ports(protocol, from, to),
            rule: 0,
            addresses: (0..addresses).map(|n| (n * 2, n * 2)).collect(),
        }
    }

    /// Its protocol, its ports, and how many areas it has.
    type Found = (&'static str, Vec<(u16, u16)>, usize);

    fn found(areas: &[Area]) -> Option<Vec<Found>> {
        let areas: Vec<&Area> = areas.iter().collect();
        let all = of(&areas, MOST)?;
        let services = all
            .into_iter()
            .flat_map(|p| p.services.into_iter().map(move |s| (p.name, s)));
        Some(
            services
                .map(|(name, s)| (name, s.ports, s.areas.len()))
                .collect(),
        )
    }

    #[test]
    fn ports_with_the_same_areas_are_one_service() {
        let areas = [
            area(6, 80, 80, 1),
            area(6, 1, 100, 1),
            area(6, 443, 443, 1),
            area(6, 1, 65535, 1),
            area(17, 65535, 65535, 1),
        ];
        let wanted = vec![
            ("tcp", vec![(1, 79), (81, 100)], 2),
            ("tcp", vec![(80, 80)], 3),
            ("tcp", vec![(101, 442), (444, 65535)], 1),
            ("tcp", vec![(443, 443)], 2),
            ("udp", vec![(65535, 65535)], 1),
        ];
        assert_eq!(found(&areas), Some(wanted));
    }

    #[test]
    fn many_ports_and_many_repetitions_are_not_worth_it() {
        let one_each =
            |ports: u16| -> Vec<Area> { (1..=ports).map(|n| area(6, n * 2, n * 2, 1)).collect() };
        let most = u16::try_from(MOST).expect("is small");
        assert!(found(&one_each(most)).is_some());
        assert!(found(&one_each(most + 1)).is_none());
        let wide_below = |ports| {
            let mut areas = one_each(ports);
            areas.push(area(6, 1, 65535, 1000));
            found(&areas)
        };
        assert!(wide_below(1).is_some(), "twice the elements");
        assert!(wide_below(2).is_none(), "thrice the elements");
    }
}
