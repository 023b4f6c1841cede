//! Where a rule reaches: its targets less its exceptions, as disjoint conditions that nf_tables
//! can check. All set arithmetic happens here, so that a rule in the kernel never has to.

use crate::nft::Family;
use crate::policy::class;
use crate::policy::effective::Facts;
use crate::policy::rule::{Rule, Target};

use super::ranges::Ranges;

/// A conjunction: all that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub v4: Ranges,
    pub v6: Ranges,
    /// Whether the destination is an address of this node; `None`: does not matter.
    pub local: Option<bool>,
    /// Whether the packet goes to clusterDNS on port 53, as asked or as translated.
    pub dns: Option<bool>,
}

impl Reach {
    fn everywhere() -> Self {
        Self {
            v4: Ranges::all(Family::V4),
            v6: Ranges::all(Family::V6),
            local: None,
            dns: None,
        }
    }

    fn addresses(of: impl Fn(Family) -> Ranges) -> Self {
        Self {
            v4: of(Family::V4),
            v6: of(Family::V6),
            ..Self::everywhere()
        }
    }

    /// Whether they can differ in their addresses only.
    fn is_like(&self, other: &Self) -> bool {
        (self.local, self.dns) == (other.local, other.dns)
    }

    fn is_nowhere(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The addresses of one family.
    pub const fn ranges(&self, family: Family) -> &Ranges {
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
    let mut kinds: Vec<Vec<Reach>> = Vec::new();
    for piece in targets.iter().map(|target| of_target(target, facts)) {
        match kinds.iter_mut().find(|kind| kind[0].is_like(&piece)) {
            Some(kind) => kind.push(piece),
            None => kinds.push(vec![piece]),
        }
    }
    let joined = kinds.into_iter().map(|kind| Reach {
        v4: Ranges::union_of(Family::V4, kind.iter().map(|piece| &piece.v4)),
        v6: Ranges::union_of(Family::V6, kind.iter().map(|piece| &piece.v6)),
        ..kind[0].clone()
    });
    nonempty(joined.collect())
}

fn of_target(target: &Target, facts: &Facts) -> Reach {
    match target {
        Target::Any => Reach::everywhere(),
        Target::Net(net) => Reach::addresses(|family| Ranges::of(family, [net])),
        Target::Range(a, b) => Reach::addresses(|family| Ranges::between(family, *a, *b)),
        Target::Cluster => Reach::addresses(|family| Ranges::of(family, &facts.cluster)),
        Target::Metadata => Reach::addresses(|family| Ranges::of(family, &class::METADATA)),
        Target::Node => Reach {
            local: Some(true),
            ..Reach::everywhere()
        },
        Target::Dns => Reach {
            dns: Some(true),
            ..Reach::everywhere()
        },
        Target::Private => Reach {
            local: Some(false),
            ..Reach::addresses(|family| {
                Ranges::of(family, &class::PRIVATE)
                    .minus(&Ranges::of(family, &facts.cluster))
                    .minus(&Ranges::of(family, &class::METADATA))
            })
        },
        Target::Internet => Reach {
            local: Some(false),
            ..Reach::addresses(|family| {
                Ranges::all(family)
                    .minus(&Ranges::of(family, &class::NOT_UNICAST))
                    .minus(&Ranges::of(family, &class::PRIVATE))
                    .minus(&Ranges::of(family, &class::METADATA))
                    .minus(&Ranges::of(family, &facts.cluster))
            })
        },
    }
}
