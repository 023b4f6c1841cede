//! Which packets a rule matches, as sets that can be taken from each other.
//!
//! What is not known here (which addresses are the node's own, other nodes', or the API server's; what
//! `cluster` stands for, if no policy is given; what was asked of clusterDNS) is a question that may be
//! answered either way: what is found to be empty is empty whatever the answers are. Which Service, metadata
//! service or API server was asked, and at which port, says nothing of where a packet goes in the end: it is
//! a dimension of its own.

use super::class::{DNS_PORT, METADATA, MULTICAST, WIRESERVER, WIRESERVER_PORTS};
use super::effective::Facts;
use super::nat64;
use super::pattern::Pattern;
use super::places::Places;
use super::rule::{Ports, Rule, Target, Transport};
use super::set::{Addresses, Family, Numbers};

/// Questions about a packet, as indexes of [`Region::answers`].
const LOCAL: usize = 0;
const DNS: usize = 1;
const CLUSTER: usize = 2;
const API_SERVER: usize = 3;
const OTHER_NODE: usize = 4;
const ASKED_METADATA: usize = 5;
const ASKED_API_SERVER: usize = 6;
const QUESTIONS: usize = 7;

/// Packets for which all of this holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    family: Family,
    /// The protocol in bits 16 to 23; below, the port, or ICMP's type and code.
    traffic: Numbers,
    addresses: Addresses,
    /// Goes to the node itself? To clusterDNS? To the cluster? To the API server? To another node? Was sent to a
    /// metadata service, or to the API server? `None`: either.
    answers: [Option<bool>; QUESTIONS],
    /// What the pod asked; `None`: whatever that was.
    asked: Option<Asked>,
    /// Of its addresses those for which such a name stands, which are not known here; `None`: all.
    named: Option<Pattern>,
}

/// A Service, to which the pod sends; or what else a node may translate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// `shop/web`, `metadata`, `apiserver`
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
        // Nor what some name stands for, but from what the same one does.
        let named = match (&self.named, &other.named) {
            (_, None) => true,
            (Some(mine), Some(theirs)) => theirs.covers(mine),
            (None, Some(_)) => false,
        };
        tellable && named && self.overlaps(other)
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
            named: self.named.clone().or_else(|| other.named.clone()),
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
            named: self.named.clone(),
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
    for mut region in of_targets(&rule.to, facts, true) {
        let ports = traffic(
            &rule.ports,
            region.family,
            region.answers[DNS] == Some(true),
        );
        match &mut region.asked {
            // Behind the Service it may be any port of these protocols.
            Some(asked) => {
                asked.traffic = asked.traffic.intersect(&ports);
                region.traffic = whole_protocols(&asked.traffic);
            }
            None => region.traffic = region.traffic.intersect(&ports),
        }
        if !region.is_empty() {
            regions.push(region);
        }
    }
    minus(regions, &of_targets(&rule.except, facts, false))
}

fn any(family: Family) -> Region {
    Region {
        family,
        traffic: traffic(&[], family, false),
        addresses: Addresses::all(family),
        answers: [None; QUESTIONS],
        asked: None,
        named: None,
    }
}

/// Addresses and networks of a list become one region in each family. `ported`: what was asked is told apart
/// by its port.
fn of_targets(targets: &[Target], facts: Option<&Facts>, ported: bool) -> Vec<Region> {
    // Where no policy file is given, NAT64 has the prefix that it has by default.
    let unknown = Facts {
        nat64: vec![nat64::WELL_KNOWN],
        ..Facts::default()
    };
    let known = facts.unwrap_or(&unknown);
    let plain = targets.iter().filter_map(|target| match target {
        Target::Net(net) => Some(Places::of(&known.nat64, [net])),
        Target::Range(first, last) => Some(Places::between(&known.nat64, *first, *last)),
        _ => None,
    });
    let plain: Vec<Places> = plain.collect();
    let mut regions = Vec::new();
    for family in Family::ALL {
        let plain = plain.iter().map(|places| places.of_family(family));
        regions.push(Region {
            addresses: Addresses::union_of(family, plain),
            ..any(family)
        });
        let keyword = Keyword {
            family,
            facts: known,
            cluster_is_known: facts.is_some(),
            ported,
        };
        regions.extend(targets.iter().flat_map(|target| keyword.regions(target)));
    }
    regions.retain(|region| !region.is_empty());
    regions
}

/// What keywords mean in one family.
struct Keyword<'a> {
    family: Family,
    facts: &'a Facts,
    cluster_is_known: bool,
    ported: bool,
}

impl Keyword<'_> {
    fn regions(&self, target: &Target) -> Vec<Region> {
        let tcp: Numbers = [every(Transport::Tcp.protocol())].into_iter().collect();
        vec![match target {
            Target::Net(_) | Target::Range(..) => return Vec::new(),
            Target::Any => any(self.family),
            Target::ApiServer => {
                let there = Region {
                    traffic: tcp.clone(),
                    ..self.answered(API_SERVER, true)
                };
                return vec![there, self.sent_to(ASKED_API_SERVER, "apiserver", tcp)];
            }
            Target::Service(service) => Region {
                asked: Some(Asked {
                    service: service.clone(),
                    traffic: any(self.family).traffic,
                }),
                ..any(self.family)
            },
            Target::Node => self.answered(LOCAL, true),
            Target::Nodes => {
                let known = Places::of(&self.facts.nat64, &self.facts.nodes);
                return vec![
                    self.answered(LOCAL, true),
                    self.answered(OTHER_NODE, true),
                    self.at(&known),
                ];
            }
            Target::Metadata => {
                let services = METADATA.iter().map(|service| &service.address);
                let there = self.at(&Places::of(&self.facts.nat64, services));
                let wireserver = Region {
                    traffic: wireserver(),
                    ..self.at(&Places::of(&self.facts.nat64, [&WIRESERVER.address]))
                };
                let every = any(self.family).traffic;
                let sent = self.sent_to(ASKED_METADATA, "metadata", every);
                return vec![there, wireserver, sent];
            }
            Target::Dns => {
                let both = [Transport::Tcp, Transport::Udp].map(|t| every(t.protocol()));
                Region {
                    traffic: both.into_iter().collect(),
                    ..self.answered(DNS, true)
                }
            }
            Target::Multicast => self.at(&Places::of(&[], &MULTICAST)),
            Target::Cluster if self.cluster_is_known => {
                self.at(&Places::of(&self.facts.nat64, &self.facts.cluster))
            }
            Target::Cluster => self.answered(CLUSTER, true),
            Target::Name(pattern) => Region {
                named: Some(pattern.clone()),
                ..self.elsewhere(&Places::nameable(self.facts))
            },
            Target::Private => self.elsewhere(&Places::private(self.facts)),
            Target::Internet => {
                let at_some_ports = self.elsewhere(&Places::wireserver(self.facts));
                let traffic = at_some_ports.traffic.minus(&wireserver());
                let at_some_ports = Region {
                    traffic,
                    ..at_some_ports
                };
                return vec![self.elsewhere(&Places::internet(self.facts)), at_some_ports];
            }
        }]
    }

    fn at(&self, places: &Places) -> Region {
        Region {
            addresses: places.of_family(self.family).clone(),
            ..any(self.family)
        }
    }

    fn answered(&self, question: usize, answer: bool) -> Region {
        let mut region = any(self.family);
        region.answers[question] = Some(answer);
        region
    }

    /// What was sent there, whatever it was translated to.
    fn sent_to(&self, question: usize, service: &str, traffic: Numbers) -> Region {
        Region {
            asked: self.ported.then(|| Asked {
                service: service.to_owned(),
                traffic,
            }),
            ..self.answered(question, true)
        }
    }

    /// Neither a node nor, if that is not known, the cluster.
    fn elsewhere(&self, places: &Places) -> Region {
        let mut region = self.at(places);
        region.answers[LOCAL] = Some(false);
        region.answers[OTHER_NODE] = Some(false);
        if !self.cluster_is_known {
            region.answers[CLUSTER] = Some(false);
        }
        region
    }
}

/// What the WireServer is asked as a metadata service.
fn wireserver() -> Numbers {
    let base = u128::from(Transport::Tcp.protocol()) << 16;
    let ports = WIRESERVER_PORTS.map(|port| (base + u128::from(port), base + u128::from(port)));
    ports.into_iter().collect()
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
