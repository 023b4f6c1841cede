//! Where a rule reaches: its targets less its exceptions, as disjoint conditions that nf_tables
//! can check. All set arithmetic happens here, so that a rule in the kernel never has to.

use std::net::IpAddr;

use rules::class::{MULTICAST, WIRESERVER_PORTS};
use rules::effective::Facts;
use rules::facts::Word;
use rules::places::Places;
use rules::rule::{Rule, Target};
use rules::set::{Addresses, Family};

use super::named::Group;
use super::traffic::Traffic;

/// What is known of a packet: whether it is for a service that a [`Word`] stands for, as asked or as
/// translated; `None`: does not matter.
pub type Words = [Option<bool>; Word::ALL.len()];

/// A conjunction: all that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub v4: Addresses,
    pub v6: Addresses,
    /// Where not every protocol and port is meant.
    pub traffic: Traffic,
    /// Whether the destination is an address of this node; `None`: does not matter.
    pub local: Option<bool>,
    pub words: Words,
    /// The pod sent it to one of these, whatever that was translated to; `None`: does not matter.
    /// No target of an `except` has it, so that nothing has to be taken away from it.
    pub asked: Option<Vec<IpAddr>>,
    /// Of its addresses those for which names of this group stand; `None`: all. No target of an `except` has it, either.
    pub named: Option<String>,
}

impl Reach {
    pub fn everywhere() -> Self {
        Self {
            v4: Addresses::all(Family::V4),
            v6: Addresses::all(Family::V6),
            traffic: Traffic::ALL,
            local: None,
            words: Words::default(),
            asked: None,
            named: None,
        }
    }

    fn at(Places { v4, v6 }: Places) -> Self {
        Self {
            v4,
            v6,
            ..Self::everywhere()
        }
    }

    /// What is sent to a service that the word stands for.
    pub fn of_word(word: Word) -> Self {
        let mut reach = Self::everywhere();
        reach.words[word as usize] = Some(true);
        reach
    }

    /// The word whose services are meant, if it is such a piece.
    pub fn word(&self) -> Option<Word> {
        let is_meant = |word: &Word| self.words[*word as usize] == Some(true);
        Word::ALL.into_iter().find(is_meant)
    }

    /// Whether they can differ in their addresses only.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.local, self.words, &self.traffic) == (other.local, other.words, &other.traffic)
            && (&self.asked, &self.named) == (&other.asked, &other.named)
    }

    fn is_nowhere(&self) -> bool {
        self.v4.is_none() && self.v6.is_none() || self.traffic.is_none()
    }

    /// The addresses of one family.
    pub const fn ranges(&self, family: Family) -> &Addresses {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// This reach without another, as disjoint pieces: what differs in the addresses, then what is
    /// alike in them but differs in `local`, then in what it is for, then in protocol or port. What ends before
    /// its port is on neither side of ports: so that is asked last, of what nothing else tells apart.
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
        for (word, theirs) in other.words.into_iter().enumerate() {
            let Some(theirs) = theirs else {
                continue;
            };
            if self.words[word] != Some(theirs) {
                let mut piece = common.clone();
                piece.words[word] = Some(!theirs);
                pieces.push(piece);
            }
            if self.words[word] == Some(!theirs) {
                return nonempty(pieces);
            }
            common.words[word] = Some(theirs);
        }
        common.traffic = self.traffic.minus(&other.traffic);
        pieces.push(common);
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
    let mut pieces = of_targets(&rule.to, facts);
    for hole in of_targets(&rule.except, facts) {
        pieces = pieces.iter().flat_map(|piece| piece.minus(&hole)).collect();
    }
    pieces
}

fn of_targets(targets: &[Target], facts: &Facts) -> Vec<Reach> {
    let pieces = targets.iter().flat_map(|target| of_target(target, facts));
    join(pieces.chain(of_names(targets, facts)))
}

/// Pieces that differ in their addresses only become one, so that a long list is one set. Each address
/// is sorted in once: a list may be as long as an annotation.
pub fn join(pieces: impl Iterator<Item = Reach>) -> Vec<Reach> {
    let mut kinds: Vec<Vec<Reach>> = Vec::new();
    for piece in pieces {
        match kinds.iter_mut().find(|kind| kind[0].is_like(&piece)) {
            Some(kind) => kind.push(piece),
            None => kinds.push(vec![piece]),
        }
    }
    let joined = kinds.into_iter().map(|mut kind| match &kind[..] {
        [_] => kind.remove(0),
        [first, ..] => Reach {
            v4: Addresses::union_of(Family::V4, kind.iter().map(|piece| &piece.v4)),
            v6: Addresses::union_of(Family::V6, kind.iter().map(|piece| &piece.v6)),
            ..first.clone()
        },
        [] => Reach::everywhere(), // each kind began with one
    });
    nonempty(joined.collect())
}

/// The names of a list, all together.
fn of_names(targets: &[Target], facts: &Facts) -> Option<Reach> {
    let group = Group::among(targets)?;
    Some(Reach {
        named: Some(group.id),
        local: Some(false),
        ..Reach::at(Places::nameable(facts))
    })
}

fn of_target(target: &Target, facts: &Facts) -> Vec<Reach> {
    let prefixes = &facts.nat64;
    let local = |local| Reach {
        local: Some(local),
        ..Reach::everywhere()
    };
    let elsewhere = |places| Reach {
        local: Some(false),
        ..Reach::at(places)
    };
    vec![match target {
        Target::Any => Reach::everywhere(),
        Target::Net(net) => Reach::at(Places::of(prefixes, [net])),
        Target::Range(first, last) => Reach::at(Places::between(prefixes, *first, *last)),
        Target::Cluster => Reach::at(Places::of(prefixes, &facts.cluster)),
        Target::Node => local(true),
        Target::Nodes => {
            let others = Reach::at(Places::of(prefixes, &facts.nodes));
            return vec![local(true), others];
        }
        Target::Multicast => Reach::at(Places::of(&[], &MULTICAST)),
        Target::Dns => Reach::of_word(Word::Dns),
        Target::Metadata => Reach::of_word(Word::Metadata),
        Target::ApiServer => Reach::of_word(Word::ApiServer),
        Target::Service(service) => Reach {
            asked: Some(facts.service(service).to_vec()),
            ..Reach::everywhere()
        },
        Target::Name(_) => return Vec::new(), // see of_names
        Target::Private => elsewhere(Places::private(facts)),
        Target::Internet => {
            let some_ports = Reach {
                traffic: Traffic::all_but_tcp(&WIRESERVER_PORTS),
                ..elsewhere(Places::wireserver(facts))
            };
            return vec![elsewhere(Places::internet(facts)), some_ports];
        }
    }]
}

#[cfg(test)]
mod tests;
