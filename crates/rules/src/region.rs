//! Which packets a rule matches, as sets that can be taken from each other.
//!
//! What is not known here (which addresses are the node's own, or the API server's; what `cluster` stands
//! for, if no policy is given; what was asked of clusterDNS) is a question that may be answered either way:
//! what is found to be empty is empty whatever the answers are. Which Service was asked, and at which port,
//! says nothing of where a packet goes in the end: it is a dimension of its own.

use super::class::{DNS_PORT, METADATA, NOT_UNICAST, PRIVATE};
use super::effective::Facts;
use super::rule::{Ports, Rule, Target, Transport};
use super::set::{Addresses, Family, Numbers};

/// Questions about a packet, as indexes of [`Region::answers`].
const LOCAL: usize = 0;
const DNS: usize = 1;
const CLUSTER: usize = 2;
const API_SERVER: usize = 3;

/// Packets for which all of this holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    family: Family,
    /// The protocol in bits 16 to 23; below, the port, or ICMP's type and code.
    traffic: Numbers,
    addresses: Addresses,
    /// Goes to the node itself? To clusterDNS? To the cluster? To the API server? `None`: either.
    answers: [Option<bool>; 4],
    /// What the pod asked; `None`: whatever that was.
    asked: Option<Asked>,
}

/// A Service, to which the pod sends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// `shop/web`
    service: String,
    /// As [`Region::traffic`], with the Service's ports.
    traffic: Numbers,
}

impl Region {
    /// How much work it is to take it from something.
    pub fn size(&self) -> usize {
        let asked = self
            .asked
            .as_ref()
            .map_or(0, |asked| asked.traffic.ranges().len());
        self.traffic.ranges().len() + self.addresses.numbers().len() + asked
    }

    /// Whether [`Region::minus`] takes something away.
    pub fn loses_to(&self, other: &Self) -> bool {
        // What is sent to one Service can't be told from the rest: nothing is taken, which errs on the safe side.
        let tellable = self.asked.is_some() || other.asked.is_none();
        tellable && self.overlaps(other)
    }

    /// Whether both have a packet.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut answers = self.answers.iter().zip(other.answers);
        let same_service = match (&self.asked, &other.asked) {
            (Some(mine), Some(theirs)) => {
                mine.service == theirs.service && mine.traffic.overlaps(&theirs.traffic)
            }
            _ => true,
        };
        self.family == other.family
            && same_service
            && answers.all(|(mine, theirs)| mine.is_none() || theirs.is_none() || *mine == theirs)
            && self.traffic.overlaps(&other.traffic)
            && self.addresses.overlaps(&other.addresses)
    }

    /// What both have.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if !self.overlaps(other) {
            return None;
        }
        let mut answers = self.answers;
        for (mine, theirs) in answers.iter_mut().zip(other.answers) {
            *mine = mine.or(theirs);
        }
        let asked = match (&self.asked, &other.asked) {
            (Some(mine), Some(theirs)) => Some(Asked {
                service: mine.service.clone(),
                traffic: mine.traffic.intersect(&theirs.traffic),
            }),
            (mine, theirs) => mine.clone().or(theirs.clone()),
        };
        Some(Self {
            family: self.family,
            traffic: self.traffic.intersect(&other.traffic),
            addresses: self.addresses.intersect(&other.addresses),
            answers,
            asked,
        })
    }

    /// What only this has, as disjoint pieces; more, where that can't be told.
    pub fn minus(&self, other: &Self) -> Vec<Self> {
        let both = self.intersect(other).filter(|_| self.loses_to(other));
        let Some(both) = both else {
            return vec![self.clone()];
        };
        let mut pieces = vec![
            Self {
                traffic: self.traffic.minus(&both.traffic),
                ..self.clone()
            },
            Self {
                traffic: both.traffic.clone(),
                addresses: self.addresses.minus(&both.addresses),
                ..self.clone()
            },
        ];
        let mut rest = Self {
            answers: self.answers,
            asked: self.asked.clone(),
            ..both
        };
        for (question, theirs) in other.answers.iter().enumerate() {
            if let (None, Some(theirs)) = (rest.answers[question], theirs) {
                let mut piece = rest.clone();
                piece.answers[question] = Some(!theirs);
                pieces.push(piece);
                rest.answers[question] = Some(*theirs);
            }
        }
        if let (Some(asked), Some(theirs)) = (&mut rest.asked, &other.asked) {
            asked.traffic = asked.traffic.minus(&theirs.traffic);
            pieces.push(rest);
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    fn is_empty(&self) -> bool {
        let nothing_asked = self.asked.as_ref().is_some_and(|a| a.traffic.is_empty());
        self.traffic.is_empty() || self.addresses.is_none() || nothing_asked
    }
}

/// Every packet.
pub fn everything() -> Vec<Region> {
    Family::ALL.map(any).into()
}

/// Takes all of `others` from all of `regions`.
pub fn minus(mut regions: Vec<Region>, others: &[Region]) -> Vec<Region> {
    for other in others {
        regions = regions
            .iter()
            .flat_map(|region| region.minus(other))
            .collect();
    }
    regions
}

/// What a rule matches. Without `facts` nothing is known of the cluster.
pub fn of_rule(rule: &Rule, facts: Option<&Facts>) -> Vec<Region> {
    let mut regions = Vec::new();
    for mut region in of_targets(&rule.to, facts) {
        let ports = traffic(
            &rule.ports,
            region.family,
            region.answers[DNS] == Some(true),
        );
        match &mut region.asked {
            // Behind the Service it may be any port of these protocols.
            Some(asked) => {
                region.traffic = whole_protocols(&ports);
                asked.traffic = ports;
            }
            None => region.traffic = region.traffic.intersect(&ports),
        }
        if !region.is_empty() {
            regions.push(region);
        }
    }
    minus(regions, &of_targets(&rule.except, facts))
}

fn any(family: Family) -> Region {
    Region {
        family,
        traffic: traffic(&[], family, false),
        addresses: Addresses::all(family),
        answers: [None; 4],
        asked: None,
    }
}

/// Addresses and networks of a list become one region in each family.
fn of_targets(targets: &[Target], facts: Option<&Facts>) -> Vec<Region> {
    let mut regions = Vec::new();
    for family in Family::ALL {
        let plain = targets.iter().filter_map(|target| match target {
            Target::Net(net) => Some(Addresses::of(family, [net])),
            Target::Range(first, last) => Some(Addresses::between(family, *first, *last)),
            _ => None,
        });
        regions.push(Region {
            addresses: Addresses::union_of(family, &plain.collect::<Vec<_>>()),
            ..any(family)
        });
        regions.extend(targets.iter().filter_map(|t| of_keyword(t, family, facts)));
    }
    regions.retain(|region| !region.is_empty());
    regions
}

fn of_keyword(target: &Target, family: Family, facts: Option<&Facts>) -> Option<Region> {
    let mut region = any(family);
    match target {
        Target::Net(_) | Target::Range(..) => return None,
        Target::Any => {}
        Target::ApiServer => region.answers[API_SERVER] = Some(true),
        Target::Service(service) => {
            region.asked = Some(Asked {
                service: service.clone(),
                traffic: region.traffic.clone(),
            });
        }
        Target::Node => region.answers[LOCAL] = Some(true),
        Target::Metadata => region.addresses = Addresses::of(family, &METADATA),
        Target::Dns => {
            region.answers[DNS] = Some(true);
            let both = [Transport::Tcp, Transport::Udp].map(|t| every(t.protocol()));
            region.traffic = both.into_iter().collect();
        }
        Target::Cluster => match facts {
            Some(facts) => region.addresses = Addresses::of(family, &facts.cluster),
            None => region.answers[CLUSTER] = Some(true),
        },
        Target::Private => {
            region.addresses = Addresses::of(family, &PRIVATE);
            elsewhere(&mut region, facts);
        }
        Target::Internet => {
            region.addresses = region
                .addresses
                .minus(&Addresses::of(family, &PRIVATE))
                .minus(&Addresses::of(family, &NOT_UNICAST));
            elsewhere(&mut region, facts);
        }
    }
    Some(region)
}

/// Not the node, the cluster or a metadata service.
fn elsewhere(region: &mut Region, facts: Option<&Facts>) {
    region.answers[LOCAL] = Some(false);
    region.addresses = region
        .addresses
        .minus(&Addresses::of(region.family, &METADATA));
    match facts {
        Some(facts) => {
            region.addresses = region
                .addresses
                .minus(&Addresses::of(region.family, &facts.cluster));
        }
        None => region.answers[CLUSTER] = Some(false),
    }
}

/// What a port list matches. Towards clusterDNS the port is the one asked, 53, whatever it is translated to.
fn traffic(ports: &[Ports], family: Family, to_dns: bool) -> Numbers {
    if ports.is_empty() {
        return (0..=u8::MAX).map(every).collect();
    }
    let ranges = ports.iter().filter_map(|ports| match ports {
        Ports::Transport(transport, range) => {
            let base = u128::from(transport.protocol()) << 16;
            if to_dns {
                return range
                    .contains(&DNS_PORT)
                    .then(|| every(transport.protocol()));
            }
            Some((
                base + u128::from(*range.start()),
                base + u128::from(*range.end()),
            ))
        }
        Ports::Icmp { kind, code } => {
            (family == Family::V4).then(|| icmp(family.icmp(), kind.as_ref(), code.as_ref()))
        }
        Ports::Icmpv6 { kind, code } => {
            (family == Family::V6).then(|| icmp(family.icmp(), kind.as_ref(), code.as_ref()))
        }
        Ports::Protocol(number) => Some(every(*number)),
    });
    ranges.collect()
}

/// All traffic of the protocols of some.
fn whole_protocols(some: &Numbers) -> Numbers {
    let whole = |&(first, last): &(u128, u128)| {
        let mask = u128::from(u16::MAX);
        (first & !mask, last | mask)
    };
    some.ranges().iter().map(whole).collect()
}

/// All traffic of one protocol.
fn every(protocol: u8) -> (u128, u128) {
    let base = u128::from(protocol) << 16;
    (base, base + u128::from(u16::MAX))
}

/// The upper byte is the type, the lower one the code. All codes of a type go up to 255.
fn icmp(protocol: u8, kind: Option<&u8>, code: Option<&u8>) -> (u128, u128) {
    let base = u128::from(protocol) << 16;
    let number = |kind: u8, code: u8| base + (u128::from(kind) << 8) + u128::from(code);
    match (kind, code) {
        (None, _) => every(protocol),
        (Some(kind), None) => (number(*kind, 0), number(*kind, u8::MAX)),
        (Some(kind), Some(code)) => (number(*kind, *code), number(*kind, *code)),
    }
}
