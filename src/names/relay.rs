//! What the relays for datagrams and for connections have in common: how many questions may be under way, and by
//! which numbers they are asked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counts::DnsOutcome;
use super::message::{Malformed, Question, Rcode};
use super::resolver::{Learned, Leave, Resolver};

/// How long a server may take. Clients have given up by then.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Questions under way, of one pod and of all: each has a socket.
const MOST_OF_A_POD: u32 = 1000;
const MOST_OF_ALL: u32 = 16_000;

/// What all relays of one thread share.
#[derive(Clone)]
pub struct Relay(Rc<RelayParts>);

struct RelayParts {
    resolver: Arc<Resolver>,
    of_pods: RefCell<HashMap<IpAddr, u32>>,
    of_all: Cell<u32>,
    limit: u32,
    numbers: RandomState,
    asked: Cell<u64>,
    buffer: RefCell<Vec<u8>>,
}

/// A question that is under way.
pub struct UnderWay {
    shared: Rc<RelayParts>,
    pod: IpAddr,
}

/// What is done with a question.
pub enum Taken {
    /// It is asked.
    Ask(Question, UnderWay),
    /// It is answered at once.
    Answer(Vec<u8>),
    /// It is dropped.
    Nothing,
}

impl Relay {
    /// `files`: how many this process may have open.
    pub fn new(resolver: Arc<Resolver>, files: u64) -> Relay {
        // Half of them are for everything else.
        let limit = u32::try_from(files / 2).unwrap_or(u32::MAX);
        Relay(Rc::new(RelayParts {
            resolver,
            of_pods: RefCell::default(),
            of_all: Cell::new(0),
            limit: limit.min(MOST_OF_ALL),
            numbers: RandomState::new(),
            asked: Cell::new(0),
            buffer: RefCell::new(vec![0; 65535]),
        }))
    }

    /// Who knows what is wanted.
    pub fn resolver(&self) -> &Resolver {
        &self.0.resolver
    }

    /// Room for one message, for as long as nothing is waited for.
    pub fn buffer(&self) -> std::cell::RefMut<'_, Vec<u8>> {
        self.0.buffer.borrow_mut()
    }

    /// A number that nobody can tell beforehand: a keyed hash of a counter.
    pub fn number(&self) -> u16 {
        let asked = self.0.asked.get().wrapping_add(1);
        self.0.asked.set(asked);
        self.0.numbers.hash_one(asked) as u16
    }

    /// How many are under way.
    pub fn under_way(&self) -> u32 {
        self.0.of_all.get()
    }

    /// Takes a question of a client.
    pub fn take(&self, from: SocketAddr, message: &[u8]) -> Taken {
        let pod = from.ip().to_canonical();
        let counts = &self.resolver().counts;
        let Ok(question) = Question::parse(message) else {
            counts.question(DnsOutcome::Malformed);
            return Taken::Nothing;
        };
        if self.resolver().leave(pod, &question) == Leave::No {
            counts.question(DnsOutcome::NotAllowed);
            return Taken::Answer(question.refuse(message, Rcode::NxDomain));
        }
        match self.begin(pod) {
            Some(under_way) => Taken::Ask(question, under_way),
            None => {
                counts.question(DnsOutcome::Limited);
                Taken::Nothing
            }
        }
    }

    fn begin(&self, pod: IpAddr) -> Option<UnderWay> {
        let mut of_pods = self.0.of_pods.borrow_mut();
        let of_pod = of_pods.entry(pod).or_default();
        if *of_pod >= MOST_OF_A_POD || self.0.of_all.get() >= self.0.limit {
            return None;
        }
        *of_pod += 1;
        self.0.of_all.set(self.0.of_all.get() + 1);
        Some(UnderWay {
            shared: Rc::clone(&self.0),
            pod,
        })
    }

    /// Learns what an answer says, after which it may go out.
    ///
    /// # Errors
    /// It must not.
    pub fn learn(
        &self,
        question: &Question,
        under_way: &UnderWay,
        answer: &[u8],
    ) -> Result<(), Malformed> {
        let counts = &self.resolver().counts;
        let learned = self.resolver().answer(under_way.pod, question, answer);
        let learned = learned.inspect_err(|Malformed| counts.bad_answer())?;
        counts.question(match learned {
            Learned::Name => DnsOutcome::Learned,
            Learned::Nothing => DnsOutcome::Relayed,
        });
        Ok(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared
            .of_all
            .set(self.shared.of_all.get().saturating_sub(1));
        let mut of_pods = self.shared.of_pods.borrow_mut();
        if let Some(of_pod) = of_pods.get_mut(&self.pod) {
            *of_pod -= 1;
            if *of_pod == 0 {
                of_pods.remove(&self.pod);
            }
        }
    }
}
