//! Protocols and ports as a set, as far as a target tells them apart: all, TCP at some of its ports, or all
//! but that.

use smallvec::SmallVec;

use super::lookup::PortRanges;

/// A set of protocols and ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Traffic {
    /// Every protocol but TCP.
    pub others: bool,
    /// Of TCP these ports, sorted and disjoint. `None`: all of it, also what ends before its port.
    pub tcp: Option<SmallVec<[(u16, u16); 3]>>,
}

impl Traffic {
    pub const ALL: Self = Self {
        others: true,
        tcp: None,
    };

    /// Everything but what is sent to one of these ports of TCP, and but what ends before its port.
    pub fn all_but_tcp(ports: &[u16]) -> Self {
        let ports = ports.iter().map(|port| (*port, *port)).collect();
        let some = Self {
            others: false,
            tcp: Some(ports),
        };
        Self::ALL.minus(&some)
    }

    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    pub fn is_none(&self) -> bool {
        !self.others && self.tcp.as_ref().is_some_and(|ports| ports.is_empty())
    }

    pub fn minus(&self, other: &Self) -> Self {
        let tcp = match (&self.tcp, &other.tcp) {
            (_, None) => Some(SmallVec::new()),
            (mine, Some(theirs)) => {
                let all = [(0, u16::MAX)];
                let mine = mine.as_deref().unwrap_or(&all);
                Some(without(mine, theirs))
            }
        };
        Self {
            others: self.others && !other.others,
            tcp,
        }
    }

    /// Those of these TCP ports that are in it.
    pub fn tcp_ports(&self, ports: &PortRanges) -> PortRanges {
        let Some(own) = &self.tcp else {
            return ports.clone();
        };
        let ports: SmallVec<[(u16, u16); 3]> =
            ports.iter().map(|r| (*r.start(), *r.end())).collect();
        let common = without(&ports, &without(&ports, own));
        common.into_iter().map(|(from, to)| from..=to).collect()
    }
}

/// Ranges, both sorted and disjoint, less others.
fn without(mine: &[(u16, u16)], theirs: &[(u16, u16)]) -> SmallVec<[(u16, u16); 3]> {
    let mut left = SmallVec::new();
    for &(from, to) in mine {
        let mut next = Some(from);
        for &(first, last) in theirs.iter().filter(|(a, b)| *a <= to && from <= *b) {
            if let Some(at) = next.filter(|at| *at < first) {
                left.push((at, first - 1));
            }
            next = last.checked_add(1);
        }
        if let Some(at) = next.filter(|at| *at <= to) {
            left.push((at, to));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Other protocols; TCP without a port; TCP to the ports 0 to 11 and to the last one.
    const PLACES: usize = 2 + 13;

    fn holds(traffic: &Traffic) -> Vec<bool> {
        let at = |port| match &traffic.tcp {
            None => true,
            Some(ports) => ports.iter().any(|(a, b)| (*a..=*b).contains(&port)),
        };
        [traffic.others, traffic.tcp.is_none()]
            .into_iter()
            .chain((0..12).chain([u16::MAX]).map(at))
            .collect()
    }

    fn traffic() -> impl Strategy<Value = Traffic> {
        let end = prop_oneof![4 => 0u16..12, 1 => Just(u16::MAX)];
        let ports = prop::collection::btree_set(end, 0..6).prop_map(|ends| {
            // Neighbours make ranges, or single ports.
            let ends: Vec<u16> = ends.into_iter().collect();
            ends.chunks(2).map(|c| (c[0], c[c.len() - 1])).collect()
        });
        (any::<bool>(), prop::option::of(ports)).prop_map(|(others, tcp)| Traffic { others, tcp })
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_plain_sets(a in traffic(), b in traffic()) {
            let (in_a, in_b) = (holds(&a), holds(&b));
            let minus = holds(&a.minus(&b));
            for place in 0..PLACES {
                // What has no port is on neither side of ports.
                if place != 1 {
                    prop_assert_eq!(minus[place], in_a[place] && !in_b[place], "{}", place);
                }
            }
            prop_assert!(!minus[1]);
        }
    }

    #[test]
    fn all_but_some_ports() {
        let some = Traffic::all_but_tcp(&[80, 32526]);
        let ports: PortRanges = [1..=100, 32526..=32526].into_iter().collect();
        let wanted: PortRanges = [1..=79, 81..=100].into_iter().collect();
        assert_eq!(some.tcp_ports(&ports), wanted);
        assert!(some.others && !some.is_none() && !some.is_all());
        assert!(some.minus(&some).is_none());
        assert!(Traffic::ALL.minus(&Traffic::ALL).is_none());
    }
}
