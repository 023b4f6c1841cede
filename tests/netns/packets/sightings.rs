//! What was seen of one case's packets, and how it differs from what was expected.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use netlink::nflog::Logged;

use super::bytes::{self, Seen, What, source_port};
use super::expected::{Expected, Fate};

/// Codes of "administratively prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1).
const PROHIBITED: [u8; 2] = [13, 1];

/// What is different, for people.
#[derive(Debug, Default)]
pub struct Disagreement {
    /// Which packets, where that is known.
    pub packets: Vec<usize>,
    pub text: String,
}

impl Disagreement {
    pub fn note(&mut self, what: Option<String>) {
        if let Some(what) = what {
            self.text.push_str(&what);
            self.text.push('\n');
        }
    }
}

/// By the packets' places in their case.
pub struct Sightings {
    first: u32,
    count: usize,
    arrived: HashMap<usize, IpAddr>,
    refused: HashMap<usize, Fate>,
    logged: HashMap<usize, Vec<String>>,
    strays: Vec<String>,
}

impl Sightings {
    pub fn new(first: u32, count: usize) -> Self {
        Self {
            first,
            count,
            arrived: HashMap::new(),
            refused: HashMap::new(),
            logged: HashMap::new(),
            strays: Vec::new(),
        }
    }

    /// None: another case's.
    fn place(&self, serial: u32) -> Option<usize> {
        let place = serial.checked_sub(self.first)? as usize;
        (place < self.count).then_some(place)
    }

    /// Somebody whom the pod sent to got this.
    pub fn arrival(&mut self, seen: &Seen) {
        if let What::Ours(serial) = seen.what
            && let Some(place) = self.place(serial)
        {
            self.arrived.insert(place, seen.destination);
        }
    }

    /// The pod got this.
    pub fn refusal(&mut self, seen: &Seen) {
        let (place, fate) = match seen.what {
            What::Reset(port) => {
                let mut places = 0..self.count;
                let place = places.find(|n| source_port(self.first + *n as u32) == port);
                (place, Fate::Reset)
            }
            What::Unreachable(code, serial)
                if code == PROHIBITED[usize::from(seen.source.is_ipv6())] =>
            {
                (self.place(serial), Fate::Prohibited)
            }
            _ => return,
        };
        if let Some(place) = place {
            self.refused.insert(place, fate);
        }
    }

    /// A rule logged this.
    pub fn log_line(&mut self, logged: &Logged, pod: [IpAddr; 2]) {
        let seen = bytes::read(&logged.payload);
        match seen.map(|seen| (seen.what, pod.contains(&seen.source))) {
            Some((What::Ours(serial), true)) => {
                if let Some(place) = self.place(serial) {
                    let lines = self.logged.entry(place).or_default();
                    lines.push(logged.prefix.clone());
                }
            }
            _ => self.strays.push(format!("{} {seen:?}", logged.prefix)),
        }
    }

    /// What became of packets otherwise than expected.
    pub fn differences(&self, expected: &[Expected]) -> Vec<(usize, String)> {
        let all = expected.iter().enumerate();
        all.filter_map(|(n, expected)| Some((n, self.difference(n, expected)?)))
            .collect()
    }

    fn difference(&self, n: usize, expected: &Expected) -> Option<String> {
        let (arrived, refused) = (self.arrived.get(&n), self.refused.get(&n));
        let right = match expected.fate {
            // The node may well refuse what came: nobody listens there.
            Fate::Arrived => arrived == Some(&expected.destination),
            Fate::Silence => arrived.is_none() && refused.is_none(),
            fate => arrived.is_none() && refused == Some(&fate),
        };
        let wrong_line = self.logged.get(&n).is_some_and(|lines| {
            let wanted = expected.logged.as_ref().map(|(prefix, _)| prefix.as_str());
            lines.len() > 1 || wanted != lines.first().map(String::as_str)
        });
        (!right || wrong_line).then(|| {
            let lines = self.logged.get(&n);
            format!("arrived {arrived:?}, refused {refused:?}, logged {lines:?}")
        })
    }

    /// Each prefix has as many lines as packets should be logged; of those with a rate, where they are more
    /// than a second's worth, at least so many.
    pub fn log_difference(&self, expected: &[Expected]) -> Option<String> {
        let mut wanted: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (prefix, rate) in expected.iter().filter_map(|e| e.logged.as_ref()) {
            let (all, limited) = wanted.entry(prefix).or_default();
            match rate {
                None => *all += 1,
                Some(rate) => *limited = (*limited + 1).min(*rate as usize),
            }
        }
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for prefix in self.logged.values().flatten() {
            *found.entry(prefix).or_default() += 1;
        }
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(prefix, (all, limited))| {
                found.get(**prefix).copied().unwrap_or(0) < all + limited
            })
            .collect();
        (!missing.is_empty() || !self.strays.is_empty()).then(|| {
            format!(
                "log lines missing: {missing:?}, found {found:?}; strays {:?}",
                self.strays
            )
        })
    }
}
