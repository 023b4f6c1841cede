//! What is done with questions and answers: whose they are, whether they may be asked, and what is learned.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use super::asked::AllAsked;
use super::counts::DnsCounts;
use super::known::{KnownSets, Time};
use super::learn::{Failure, Learner};
use super::life::{self, Life};
use super::message::{Malformed, Question};
use super::never::Never;
use super::told::{self, Naming, ToldNames};
use super::wanted::{Asker, WantedGroup, WantedNames};
use crate::store::{StateDir, StateError};

/// Addresses of one answer that are learned.
const MOST_OF_AN_ANSWER: usize = 64;

/// What may be said of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It goes to the server.
    Ask,
    /// It goes nowhere: the pod may ask only for names that its rules have.
    No,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// A rule has the name.
    Name,
    /// None has.
    Nothing,
}

/// Shared by the servers, and by those who tell others.
#[derive(Debug)]
pub struct Resolver {
    state: StateDir,
    learner: Learner,
    inner: Mutex<Inner>,
    /// What is counted.
    pub counts: DnsCounts,
}

#[derive(Debug)]
struct Inner {
    wanted: WantedNames,
    known: KnownSets,
    asked: AllAsked,
    never: Never,
    least: Duration,
    listening: Vec<SocketAddr>,
    /// Groups of which it was said that they are full.
    said: BTreeMap<String, Time>,
}

/// How long until it is said again that a group is full, in milliseconds.
const SAID: Time = 60_000;

/// Milliseconds since the machine's boot, sleep included.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    milliseconds(time.unwrap_or_default())
}

fn milliseconds(time: Duration) -> Time {
    time.as_millis().try_into().unwrap_or(Time::MAX)
}

impl Resolver {
    /// With what an earlier one has left behind. In the network namespace of the caller.
    ///
    /// # Errors
    /// The system gives no socket.
    pub fn new(state: StateDir, least: Duration) -> std::io::Result<Resolver> {
        let resolver = Resolver {
            learner: Learner::open()?,
            inner: Mutex::new(Inner {
                wanted: WantedNames::new(state.clone()),
                known: KnownSets::default(),
                asked: AllAsked::default(),
                never: Never::default(),
                least,
                listening: Vec::new(),
                said: BTreeMap::new(),
            }),
            counts: DnsCounts::default(),
            state,
        };
        resolver.read_known();
        resolver.inner().wanted.refresh();
        Ok(resolver)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing goes on as long as this is there.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized {
        self.inner()
    }

    /// What can't be learned, and how long an address lives at least.
    pub fn set_policy(&self, never: Never, least: Duration) {
        let mut inner = self.inner();
        inner.never = never;
        inner.least = least;
    }

    /// Where questions are taken.
    pub fn set_listening(&self, listening: Vec<SocketAddr>) {
        self.inner().listening = listening;
    }

    /// Whether questions are taken anywhere.
    pub fn is_listening(&self) -> bool {
        !self.inner().listening.is_empty()
    }

    /// Of all pods whose questions are led here.
    pub fn addresses_of_pods(&self) -> Vec<IpAddr> {
        let mut inner = self.inner();
        self.refresh(&mut inner);
        inner.wanted.askers().map(|(address, _)| *address).collect()
    }

    /// Whether a pod may ask that.
    pub fn leave(&self, pod: IpAddr, question: &Question) -> Leave {
        let mut inner = self.inner();
        self.refresh(&mut inner);
        let Some(asker) = inner.wanted.asker(pod).cloned() else {
            return Leave::Ask;
        };
        if !asker.only_allowed || inner.wanted.meant(&asker, &question.name).next().is_some() {
            return Leave::Ask;
        }
        inner
            .asked
            .answered(&asker.title, &question.name, &[], now());
        Leave::No
    }

    /// Learns what an answer to a pod's question says. When this returns, the answer may go out.
    ///
    /// # Errors
    /// It must not go out.
    pub fn answer(
        &self,
        pod: IpAddr,
        question: &Question,
        answer: &[u8],
    ) -> Result<Learned, Malformed> {
        let found = question.addresses(answer, MOST_OF_AN_ANSWER)?;
        let mut inner = self.inner();
        self.refresh(&mut inner);
        let Some(asker) = inner.wanted.asker(pod).cloned() else {
            return Ok(Learned::Nothing);
        };
        let meant = inner.wanted.meant(&asker, &question.name).cloned();
        let meant: Vec<Arc<WantedGroup>> = meant.collect();
        if meant.is_empty() {
            let now = now();
            inner
                .asked
                .answered(&asker.title, &question.name, &found.found, now);
            return Ok(Learned::Nothing);
        }
        if found.cut {
            let most = MOST_OF_AN_ANSWER;
            self.counts.failed(Failure::Full);
            inner.say(&question.name, || {
                format!(
                    "an answer for {} has more than {most} addresses: the others stay closed",
                    question.name
                )
            });
        }
        for group in &meant {
            for (address, ttl) in &found.found {
                let learned =
                    self.learn(&mut inner, group, (&question.name, &asker), *address, *ttl);
                if let Err(failure) = learned {
                    self.counts.failed(failure);
                    inner.say_failed(&question.name, *address, failure);
                }
            }
        }
        Ok(Learned::Name)
    }

    fn learn(
        &self,
        inner: &mut Inner,
        group: &WantedGroup,
        (name, asker): (&str, &Asker),
        address: IpAddr,
        ttl: u32,
    ) -> Result<(), Failure> {
        if inner.never.is(address) {
            return Err(Failure::Never);
        }
        let now = now();
        let needed = life::needed(ttl, inner.least);
        let until = match inner.known.until(&group.name, address, now) {
            // It is there for long enough; to put it there again might make its time shorter.
            Some(until) if until >= now + milliseconds(needed) => until,
            _ if !inner.known.has_room(&group.name, address, now) => return Err(Failure::Full),
            _ => {
                let life = Life::at_least(needed);
                self.learner.put(&group.tokens, address, life)?;
                now + milliseconds(life.duration())
            }
        };
        let who = (name, &asker.title);
        inner.known.put(&group.name, address, who, (now, until));
        Ok(())
    }

    /// Looks at the documents. What is known of groups that are put anew is put into their new sets.
    fn refresh(&self, inner: &mut Inner) {
        for name in inner.wanted.refresh().anew {
            let Some(group) = inner.wanted.group(&name).cloned() else {
                continue; // gone: `tidy` forgets it
            };
            self.put_again(inner, &group);
        }
    }

    fn put_again(&self, inner: &mut Inner, group: &WantedGroup) {
        let now = now();
        for (address, mut known) in inner.known.take(&group.name) {
            let left = Duration::from_millis(known.until.saturating_sub(now));
            if left.is_zero() || inner.never.is(address) {
                continue;
            }
            let life = Life::at_least(left);
            match self.learner.put(&group.tokens, address, life) {
                Ok(()) => {
                    known.until = now + milliseconds(life.duration());
                    inner.known.put_back(&group.name, address, known, now);
                }
                Err(failure) => self.counts.failed(failure),
            }
        }
    }

    /// Somebody may have emptied sets: what is known is put there again.
    pub fn put_all_again(&self) {
        let mut inner = self.inner();
        self.refresh(&mut inner);
        let groups: Vec<Arc<WantedGroup>> = inner.wanted.groups().cloned().collect();
        for group in groups {
            self.put_again(&mut inner, &group);
        }
    }

    /// Forgets what is over.
    pub fn tidy(&self) {
        let mut inner = self.inner();
        self.refresh(&mut inner);
        let now = now();
        let Inner {
            wanted,
            known,
            asked,
            said,
            ..
        } = &mut *inner;
        known.tidy(now, |group| wanted.group(group).is_some());
        asked.tidy(now);
        said.retain(|_, at| *at + SAID > now);
    }

    /// Reads what another one has written, beside what is known here.
    pub fn read_known(&self) {
        match self.state.read_known_names() {
            Ok(Some(document)) => {
                let longest = milliseconds(Life::Day.duration());
                self.inner().known.read(document, (now(), longest));
            }
            Ok(None) => {}
            Err(e) => tracing::warn!("what names stood for is not known any more: {e}"),
        }
    }

    /// Writes what is known, for a successor. What is written there by another one is kept.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn write_known(&self) -> Result<(), StateError> {
        self.read_known();
        self.tidy();
        let document = self.inner().known.document(now());
        if document.groups.is_empty() && self.state.read_known_names()?.is_none() {
            return Ok(());
        }
        self.state.write_known_names(&document)
    }

    /// How many names and addresses are known.
    pub fn known_counts(&self) -> (usize, usize) {
        self.inner().known.counts()
    }

    /// What a destination of a pod is called.
    pub fn naming(&self, pod: IpAddr, destination: IpAddr) -> Naming {
        let inner = self.inner();
        let Some(asker) = inner.wanted.asker(pod) else {
            return Naming::default();
        };
        let now = now();
        let name = inner.known.name_of(&asker.groups, destination, now);
        let asked = inner.asked.name_of(&asker.title, destination, now);
        Naming {
            name: name.map(|name| name.to_string()),
            asked: asked.map(str::to_owned).filter(|_| name.is_none()),
        }
    }

    /// All that is known, for tools.
    pub fn told(&self, version: u32) -> ToldNames {
        let mut inner = self.inner();
        self.refresh(&mut inner);
        let (now, clock) = (now(), Timestamp::now());
        let at = |time: Time| {
            let offset = i64::try_from(time).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(0);
            let offset = jiff::SignedDuration::from_millis(offset);
            clock.checked_add(offset).unwrap_or(clock)
        };
        let mut groups: Vec<told::ToldGroup> = inner
            .wanted
            .groups()
            .map(|group| {
                let addresses = inner.known.of_group(&group.name, now).into_iter();
                let addresses = addresses.map(|(address, known)| told::ToldAddress {
                    address,
                    names: known.names.iter().map(|name| name.to_string()).collect(),
                    until: at(known.until),
                    asked_by: known.asked_by.to_string(),
                });
                told::ToldGroup {
                    group: group.name.to_string(),
                    patterns: group.document.patterns.clone(),
                    addresses: addresses.collect(),
                }
            })
            .collect();
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        let mut pods: BTreeMap<&str, told::ToldPod> = BTreeMap::new();
        for (address, asker) in inner.wanted.askers() {
            let pod = pods.entry(&asker.title).or_insert_with(|| {
                let asked = inner.asked.of_pod(&asker.title).into_iter();
                let asked = asked.map(|(name, asked)| told::ToldAsked {
                    name: name.to_owned(),
                    count: asked.count,
                    last: at(asked.last),
                    addresses: asked.addresses.clone(),
                });
                told::ToldPod {
                    pod: asker.title.to_string(),
                    uid: asker.uid.clone(),
                    addresses: Vec::new(),
                    groups: asker.groups.iter().map(ToString::to_string).collect(),
                    only_allowed: asker.only_allowed,
                    asked: asked.collect(),
                }
            });
            pod.addresses.push(*address);
        }
        let mut pods: Vec<told::ToldPod> = pods.into_values().collect();
        for pod in &mut pods {
            pod.addresses.sort_unstable();
        }
        ToldNames {
            v: version,
            listening: inner.listening.iter().map(ToString::to_string).collect(),
            groups,
            pods,
        }
    }
}

impl Inner {
    /// Says something of a name, but not over and over.
    fn say(&mut self, name: &str, what: impl FnOnce() -> String) {
        let now = now();
        let said = self.said.get(name).is_some_and(|at| at + SAID > now);
        if !said && self.said.len() < 1024 {
            self.said.insert(name.to_owned(), now);
            tracing::warn!("{}", what());
        }
    }

    fn say_failed(&mut self, name: &str, address: IpAddr, failure: Failure) {
        let why = match failure {
            // That is usual where there is no IPv6, and nobody can send there.
            Failure::NoRoute => return,
            Failure::Full => "as many are known as there may be",
            Failure::Never => "no name opens what belongs to the cluster, its nodes, or one link",
            Failure::NotTaken => "the kernel did not take it",
            Failure::NoToken => "nothing says how to put it into its set",
            Failure::System => "this node could not send to it",
        };
        self.say(name, || format!("{address} stays closed for {name}: {why}"));
    }
}

#[cfg(test)]
mod tests;
