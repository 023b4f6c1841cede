use proptest::prelude::*;

use super::*;

/// A point of a small world.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// An address of 0 to 31.
    address: u8,
    local: bool,
    dns: bool,
    metadata: bool,
    /// To this port of TCP, or it ends before its port; `None`: another protocol.
    tcp: Option<Option<u16>>,
}

fn world() -> impl Iterator<Item = Point> {
    let flag = |n: u16, bit: u16| n >> bit & 1 == 1;
    (0..32).flat_map(move |address| {
        (0..8 * 4u16).map(move |n| Point {
            address,
            local: flag(n, 0),
            dns: flag(n, 1),
            metadata: flag(n, 2),
            tcp: [None, Some(Some(80)), Some(Some(443)), Some(None)][usize::from(n / 8)],
        })
    })
}

fn ip(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([0, 0, 0, n]),
        Family::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, u16::from(n)]),
    }
}

fn holds(reach: &Reach, family: Family, point: Point) -> bool {
    answer(reach, family, point) == Some(true)
}

/// `None`: the packet ends before what would tell.
fn answer(reach: &Reach, family: Family, point: Point) -> Option<bool> {
    let ip = ip(family, point.address);
    let is = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
    let traffic = match (point.tcp, &reach.traffic.tcp) {
        (None, _) => Some(reach.traffic.others),
        (Some(_), None) => Some(true),
        (Some(None), Some(_)) => None,
        (Some(Some(port)), Some(ports)) => {
            Some(ports.iter().any(|(a, b)| (*a..=*b).contains(&port)))
        }
    };
    let rest = reach
        .ranges(family)
        .iter()
        .any(|(first, last)| first <= ip && ip <= last)
        && is(reach.local, point.local)
        && is(reach.words[Word::Dns as usize], point.dns)
        && is(reach.words[Word::Metadata as usize], point.metadata);
    if rest { traffic } else { Some(false) }
}

fn reach() -> impl Strategy<Value = Reach> {
    let ranges = |family| {
        let some = prop::collection::vec((0u8..32, 0u8..32), 0..4).prop_map(move |pairs| {
            let ranges: Vec<Addresses> = pairs
                .iter()
                .map(|(a, b)| (ip(family, *a.min(b)), ip(family, *a.max(b))))
                .map(|(first, last)| Addresses::between(family, first, last))
                .collect();
            Addresses::union_of(family, ranges.iter())
        });
        prop_oneof![3 => some, 1 => Just(Addresses::all(family))]
    };
    let maybe = || any::<Option<bool>>();
    let but = Traffic::all_but_tcp(&[80]);
    let traffic = prop_oneof![
        Just(Traffic::ALL),
        Just(but.clone()),
        Just(Traffic::ALL.minus(&but)),
    ];
    let words = (maybe(), maybe()).prop_map(|(dns, metadata)| [dns, metadata, None]);
    (
        ranges(Family::V4),
        ranges(Family::V6),
        traffic,
        maybe(),
        words,
    )
        .prop_map(|(v4, v6, traffic, local, words)| Reach {
            v4,
            v6,
            traffic,
            local,
            words,
            asked: None,
            named: None,
        })
}

proptest! {
    #[test]
    fn minus_leaves_disjoint_pieces_that_are_all_of_the_rest(a in reach(), b in reach()) {
        let pieces = a.minus(&b);
        prop_assert!(pieces.iter().all(|piece| !piece.is_nowhere()));
        for family in [Family::V4, Family::V6] {
            for point in world() {
                let found = pieces.iter().filter(|p| holds(p, family, point)).count();
                let wanted = holds(&a, family, point) && answer(&b, family, point) == Some(false);
                prop_assert_eq!(found, usize::from(wanted), "{:?} {:?}", family, point);
            }
        }
    }
}

fn of(text: &str) -> Vec<Reach> {
    let rule = rules::grammar::parse("test", text)
        .expect("a rule")
        .remove(0);
    let facts = Facts {
        cluster: vec!["10.244.0.0/16".parse().expect("a network")],
        dns: vec!["10.96.0.10".parse().expect("an address")],
        nodes: vec!["192.0.2.0/24".parse().expect("a network")],
        ..Facts::default()
    };
    of_rule(&rule, &facts)
}

#[test]
fn targets_that_differ_in_addresses_only_are_one_piece() {
    let list: Vec<String> = (0..100)
        .map(|n| format!("203.0.113.{n}, fd00::{n}"))
        .collect();
    let text = format!("deny to cluster, {}", list.join(","));
    assert_eq!(of(&text).len(), 1);
    // Of `internet`, one address is not meant with all of its ports.
    assert_eq!(of("deny to private, internet").len(), 2);
    assert_eq!(of("deny to node, nodes").len(), 2);
    assert_eq!(of("deny to node, dns, 10.0.0.0/8").len(), 3);
}

#[test]
fn exceptions_of_one_kind_are_one_hole() {
    let list: Vec<String> = (0..100).map(|n| format!("203.0.113.{n}")).collect();
    let pieces = of(&format!("deny except {}", list.join(",")));
    assert_eq!(pieces, of("deny except 203.0.113.0-203.0.113.99"));
}
