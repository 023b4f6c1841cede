use proptest::prelude::*;

use super::*;

/// A packet of a small world: an address, a protocol, and its port or ICMP type unless cut off.
#[derive(Debug, Clone, Copy)]
struct Packet {
    family: Family,
    address: u128,
    protocol: u8,
    port: Option<u16>,
}

impl Packet {
    const fn icmp(self) -> u8 {
        match self.family {
            Family::V4 => 1,
            Family::V6 => 58,
        }
    }

    fn is_in(self, addresses: &[(u128, u128)]) -> bool {
        let holds = |(first, last): &(u128, u128)| (*first..=*last).contains(&self.address);
        addresses.iter().any(holds)
    }

    /// A rule by itself.
    fn matches(self, lookup: &Lookup) -> bool {
        let what = match &lookup.what {
            What::Any => true,
            What::Protocol(number) => self.protocol == *number,
            What::Ports(number, ranges) => {
                let holds = |port| ranges.iter().any(|range| range.contains(&port));
                self.protocol == *number && self.port.is_some_and(holds)
            }
            What::IcmpType(kind) => {
                self.protocol == self.icmp() && self.port == Some(u16::from(*kind))
            }
        };
        what && self.is_in(lookup.ranges(self.family).numbers())
    }

    /// A key, once the earlier ones were not found.
    fn has(self, key: Key) -> bool {
        match key {
            Key::Ports(number, from, to) => {
                let holds = |port| (from..=to).contains(&port);
                self.protocol == number && self.port.is_some_and(holds)
            }
            Key::TcpAndUdp(..) => panic!("no sweep makes it"),
            Key::IcmpType(kind) => {
                self.protocol == self.icmp() && self.port == Some(u16::from(kind))
            }
            Key::Protocol(number) => self.protocol == number,
            Key::Any => true,
        }
    }
}

/// The rule that decides, by the definition: the first that matches.
fn first(list: &[Lookup], packet: Packet) -> Option<usize> {
    list.iter().position(|lookup| packet.matches(lookup))
}

/// The rule that the parts find: ports before protocols before addresses alone, at most one of each.
fn found(parts: &[Segment], list: &[Lookup], packet: Packet) -> Option<usize> {
    parts.iter().find_map(|part| match part {
        Segment::Plain(place) => packet.matches(&list[*place]).then_some(*place),
        Segment::Block(areas) => {
            let holds = |area: &&Area| {
                area.family == packet.family
                    && packet.has(area.key)
                    && packet.is_in(&area.addresses)
            };
            let mut areas: Vec<&Area> = areas.iter().filter(holds).collect();
            areas.sort_by_key(|area| area.key);
            for pair in areas.windows(2) {
                let level = |n: usize| discriminant(&pair[n].key);
                assert_ne!(level(0), level(1), "{pair:?} overlap");
            }
            areas.first().map(|area| area.rule)
        }
    })
}

/// Both ends of the address space are met, since a border there has no neighbour.
const SPAN: u128 = 48;

fn ranges(family: Family) -> impl Strategy<Value = Addresses> {
    let last = family.last();
    let ends = prop::collection::vec((0..SPAN, 0..SPAN, any::<bool>()), 0..3);
    let some = ends.prop_map(move |ends| {
        let all: Vec<Addresses> = ends
            .into_iter()
            .map(|(a, b, high)| {
                let number = |n: u128| if high { last - n } else { n };
                let (a, b) = (number(a).min(number(b)), number(a).max(number(b)));
                let address = |n| family.address(n);
                Addresses::between(family, address(a), address(b))
            })
            .collect();
        Addresses::union_of(family, all.iter())
    });
    prop_oneof![6 => some, 1 => Just(Addresses::all(family)), 1 => Just(Addresses::none(family))]
}

fn lookup() -> impl Strategy<Value = Lookup> {
    let port = || prop_oneof![0u16..6, 65530u16..=65535];
    let range = (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let protocol = || prop::sample::select(vec![1u8, 6, 17, 58]);
    let what = prop_oneof![
        2 => Just(What::Any),
        2 => protocol().prop_map(What::Protocol),
        6 => (prop::sample::select(vec![6u8, 17]), range)
            .prop_map(|(protocol, range)| What::Ports(protocol, smallvec::smallvec![range])),
        2 => (0u8..4).prop_map(What::IcmpType),
    ];
    (ranges(Family::V4), ranges(Family::V6), what).prop_map(|(v4, v6, what)| Lookup {
        v4,
        v6,
        what,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let family = prop::sample::select(vec![Family::V4, Family::V6]);
    let protocol = prop::sample::select(vec![1u8, 6, 17, 58, 47]);
    let port = prop_oneof![
        Just(None),
        (0u16..7).prop_map(Some),
        (65529u16..=65535).prop_map(Some)
    ];
    (family, 0..=SPAN, any::<bool>(), protocol, port).prop_map(
        |(family, n, high, protocol, port)| Packet {
            family,
            address: if high { family.last() - n } else { n },
            protocol,
            port,
        },
    )
}

fn entries(list: &[Lookup]) -> Vec<Entry<'_>> {
    let entry = |(rule, lookup)| Entry {
        rule,
        effect: 0,
        lookup: Some(lookup),
    };
    list.iter().enumerate().map(entry).collect()
}

proptest! {
    #[test]
    fn what_is_found_is_the_first_match(
        list in prop::collection::vec(lookup(), 0..40),
        unfit in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        packets in prop::collection::vec(packet(), 60),
    ) {
        let mut entries = entries(&list);
        for index in unfit.iter().filter(|_| !list.is_empty()) {
            entries[index.index(list.len())].lookup = None;
        }
        let parts = divide(&entries);
        for packet in packets {
            prop_assert_eq!(found(&parts, &list, packet), first(&list, packet), "{:?}", packet);
        }
    }
}

fn net(text: &str, what: What) -> Lookup {
    let net = text.parse().expect("a network");
    Lookup {
        v4: Addresses::of(Family::V4, [&net]),
        v6: Addresses::of(Family::V6, [&net]),
        what,
    }
}

fn elements(parts: &[Segment]) -> usize {
    let areas = parts.iter().flat_map(|part| match part {
        Segment::Block(areas) => &areas[..],
        Segment::Plain(_) => &[],
    });
    areas.map(|area| area.addresses.len()).sum()
}

/// A thousand holes in each of a thousand ports would be a million elements.
#[test]
fn wide_rules_behind_narrow_ones_do_not_explode() {
    let tcp = |port| What::Ports(6, smallvec::smallvec![port..=port]);
    let mut list: Vec<Lookup> = (0..1000u32)
        .map(|n| net(&format!("10.{}.{}.0/25", n >> 8, n & 255), What::Any))
        .collect();
    list.extend((1..=1000).map(|port| net("10.0.0.0/8", tcp(port))));
    list.push(net("192.0.2.0/24", What::Any));
    let parts = divide(&entries(&list));
    assert!(parts.len() < 20, "{}", parts.len());
    assert!(elements(&parts) < 3 * list.len(), "{}", elements(&parts));
}

#[test]
fn short_lists_and_rules_for_all_addresses_stay_plain() {
    let mut list: Vec<Lookup> = (0..4)
        .map(|n| net(&format!("10.0.{n}.0/24"), What::Any))
        .collect();
    assert_eq!(divide(&entries(&list)), [0, 1, 2, 3].map(Segment::Plain));
    list.extend((4..9).map(|n| net(&format!("10.0.{n}.0/24"), What::Any)));
    list.insert(0, net("0.0.0.0/0", What::Protocol(17)));
    list.push(net("0.0.0.0/0", What::Any));
    let parts = divide(&entries(&list));
    assert_eq!(
        (&parts[0], &parts[2]),
        (&Segment::Plain(0), &Segment::Plain(10))
    );
    assert!(matches!(&parts[1], Segment::Block(areas) if areas.len() == 9));
}
