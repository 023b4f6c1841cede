//! Where a rule reaches: its targets less its exceptions, as disjoint conditions that nf_tables
//! can check. All set arithmetic happens here, so that a rule in the kernel never has to.

use std::net::IpAddr;

use rules::class;
use rules::effective::Facts;
use rules::rule::{Rule, Target};
use rules::set::{Addresses, Family};

/// A conjunction: all that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub v4: Addresses,
    pub v6: Addresses,
    /// Whether the destination is an address of this node; `None`: does not matter.
    pub local: Option<bool>,
    /// Whether the packet goes to clusterDNS on port 53, as asked or as translated.
    pub dns: Option<bool>,
    /// The pod sent it to one of these, whatever that was translated to; `None`: does not matter.
    /// No target of an `except` has it, so that nothing has to be taken away from it.
    pub asked: Option<Vec<IpAddr>>,
}

impl Reach {
    fn everywhere() -> Self {
        Self {
            v4: Addresses::all(Family::V4),
            v6: Addresses::all(Family::V6),
            local: None,
            dns: None,
            asked: None,
        }
    }

    fn addresses(of: impl Fn(Family) -> Addresses) -> Self {
        Self {
            v4: of(Family::V4),
            v6: of(Family::V6),
            ..Self::everywhere()
        }
    }

    /// Whether they can differ in their addresses only.
    fn is_like(&self, other: &Self) -> bool {
        (self.local, self.dns, &self.asked) == (other.local, other.dns, &other.asked)
    }

    fn is_nowhere(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The addresses of one family.
    pub const fn ranges(&self, family: Family) -> &Addresses {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// This reach without another, as disjoint pieces: what differs in the addresses, then what is
    /// alike in them but differs in `local`, then in `dns`.
    fn minus(&self, other: &Self) -> Vec<Self> {
        let mut pieces = vec![Self {
            v4: self.v4.minus(&other.v4),
            v6: self.v6.minus(&other.v6),
            ..self.clone()
        }];
        let mut common = Self {
            v4: self.v4.intersect(&other.v4),
            v6: self.v6.intersect(&other.v6),
            ..self.clone()
        };
        if let Some(local) = other.local {
            if self.local != Some(local) {
                pieces.push(Self {
                    local: Some(!local),
                    ..common.clone()
                });
            }
            if self.local == Some(!local) {
                return nonempty(pieces);
            }
            common.local = Some(local);
        }
        if let Some(dns) = other.dns
            && self.dns != Some(dns)
        {
            pieces.push(Self {
                dns: Some(!dns),
                ..common
            });
        }
        nonempty(pieces)
    }
}

fn nonempty(pieces: Vec<Reach>) -> Vec<Reach> {
    pieces
        .into_iter()
        .filter(|piece| !piece.is_nowhere())
        .collect()
}

/// Where a rule reaches. The pieces may overlap; a packet matches the rule if any piece holds.
pub fn of_rule(rule: &Rule, facts: &Facts) -> Vec<Reach> {
    let mut pieces = join(&rule.to, facts);
    for hole in join(&rule.except, facts) {
        pieces = pieces.iter().flat_map(|piece| piece.minus(&hole)).collect();
    }
    pieces
}

/// Targets that differ in their addresses only become one piece, so that a long list is one set.
/// Each address is sorted in once: a list may be as long as an annotation.
fn join(targets: &[Target], facts: &Facts) -> Vec<Reach> {
    if let [only] = targets {
        return nonempty(vec![of_target(only, facts)]);
    }
    let mut kinds: Vec<Vec<Reach>> = Vec::new();
    for piece in targets.iter().map(|target| of_target(target, facts)) {
        match kinds.iter_mut().find(|kind| kind[0].is_like(&piece)) {
            Some(kind) => kind.push(piece),
            None => kinds.push(vec![piece]),
        }
    }
    let joined = kinds.into_iter().map(|kind| Reach {
        v4: Addresses::union_of(Family::V4, kind.iter().map(|piece| &piece.v4)),
        v6: Addresses::union_of(Family::V6, kind.iter().map(|piece| &piece.v6)),
        ..kind[0].clone()
    });
    nonempty(joined.collect())
}

fn of_target(target: &Target, facts: &Facts) -> Reach {
    match target {
        Target::Any => Reach::everywhere(),
        Target::Net(net) => Reach::addresses(|family| Addresses::of(family, [net])),
        Target::Range(a, b) => Reach::addresses(|family| Addresses::between(family, *a, *b)),
        Target::Cluster => Reach::addresses(|family| Addresses::of(family, &facts.cluster)),
        Target::Metadata => Reach::addresses(|family| Addresses::of(family, &class::METADATA)),
        Target::Node => Reach {
            local: Some(true),
            ..Reach::everywhere()
        },
        Target::Dns => Reach {
            dns: Some(true),
            ..Reach::everywhere()
        },
        Target::ApiServer => {
            Reach::addresses(|family| Addresses::of_addresses(family, &facts.api_server))
        }
        Target::Service(service) => Reach {
            asked: Some(facts.service(service).to_vec()),
            ..Reach::everywhere()
        },
        Target::Private => Reach {
            local: Some(false),
            ..Reach::addresses(|family| {
                Addresses::of(family, &class::PRIVATE)
                    .minus(&Addresses::of(family, &facts.cluster))
                    .minus(&Addresses::of(family, &class::METADATA))
            })
        },
        Target::Internet => Reach {
            local: Some(false),
            ..Reach::addresses(|family| {
                Addresses::all(family)
                    .minus(&Addresses::of(family, &class::NOT_UNICAST))
                    .minus(&Addresses::of(family, &class::PRIVATE))
                    .minus(&Addresses::of(family, &class::METADATA))
                    .minus(&Addresses::of(family, &facts.cluster))
            })
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    /// A point of a small world: an address of 0 to 31, local or not, DNS or not.
    type Point = (u8, bool, bool);

    fn world() -> impl Iterator<Item = Point> {
        let each = |n| {
            [
                (n, false, false),
                (n, false, true),
                (n, true, false),
                (n, true, true),
            ]
        };
        (0..32).flat_map(each)
    }

    fn ip(family: Family, n: u8) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([0, 0, 0, n]),
            Family::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, u16::from(n)]),
        }
    }

    fn holds(reach: &Reach, family: Family, (n, local, dns): Point) -> bool {
        let ip = ip(family, n);
        reach
            .ranges(family)
            .iter()
            .any(|(first, last)| first <= ip && ip <= last)
            && reach.local.is_none_or(|wanted| wanted == local)
            && reach.dns.is_none_or(|wanted| wanted == dns)
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
        (ranges(Family::V4), ranges(Family::V6), maybe(), maybe()).prop_map(
            |(v4, v6, local, dns)| Reach {
                v4,
                v6,
                local,
                dns,
                asked: None,
            },
        )
    }

    proptest! {
        #[test]
        fn minus_leaves_disjoint_pieces_that_are_all_of_the_rest(a in reach(), b in reach()) {
            let pieces = a.minus(&b);
            prop_assert!(pieces.iter().all(|piece| !piece.is_nowhere()));
            for family in [Family::V4, Family::V6] {
                for point in world() {
                    let found = pieces.iter().filter(|p| holds(p, family, point)).count();
                    let wanted = holds(&a, family, point) && !holds(&b, family, point);
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
            ..Facts::default()
        };
        of_rule(&rule, &facts)
    }

    #[test]
    fn targets_that_differ_in_addresses_only_are_one_piece() {
        let list: Vec<String> = (0..100)
            .map(|n| format!("203.0.113.{n}, fd00::{n}"))
            .collect();
        let text = format!("deny to cluster, metadata, {}", list.join(","));
        assert_eq!(of(&text).len(), 1);
        assert_eq!(of("deny to private, internet").len(), 1);
        assert_eq!(of("deny to node, dns, 10.0.0.0/8").len(), 3);
    }

    #[test]
    fn exceptions_of_one_kind_are_one_hole() {
        let list: Vec<String> = (0..100).map(|n| format!("203.0.113.{n}")).collect();
        let pieces = of(&format!("deny except {}", list.join(",")));
        assert_eq!(pieces, of("deny except 203.0.113.0-203.0.113.99"));
    }
}
