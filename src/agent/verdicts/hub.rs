//! Where the reader of the groups meets everybody who wants the lines. Nobody waits for anybody: the reader adds
//! to a bounded ring, and whoever is slower than that is told what it misses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netlink::nflog::Lost;
use rules::verdict::Verdict;
use tokio::sync::watch;

use crate::verdicts::ring::{Cursor, Entry, Ring};

/// How much of what was logged is kept: more than ten minutes of 50 lines a second.
const MOST_BYTES: usize = 16 * 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(3600);

/// How much of the agent's own log may wait for a stdout that nobody reads.
const MOST_LOG: usize = 256 * 1024;

/// Shared by all.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Held>);

#[derive(Debug)]
struct Held {
    state: Mutex<State>,
    /// For the thread that writes to stdout.
    written: Condvar,
    /// For readers of the socket.
    news: watch::Sender<()>,
    counts: Counts,
}

/// What is under the lock.
#[derive(Debug)]
pub struct State {
    /// The last lines.
    pub ring: Ring,
    /// The agent's own log, on its way to stdout.
    pub log: VecDeque<Vec<u8>>,
    log_bytes: usize,
    log_lost: u64,
    /// Stdout has been given all.
    pub is_idle: bool,
    reading: Reading,
}

/// Whether the groups are read.
#[derive(Debug, Clone)]
pub enum Reading {
    /// They are.
    Now {
        /// Whether messages tell where packets went before translation.
        tells_original: bool,
    },
    /// They are not, and why.
    Not(String),
}

/// What is counted of the log.
#[derive(Debug, Default)]
pub struct Counts {
    by_verdict: [AtomicU64; Verdict::ALL.len()],
    lost: AtomicU64,
}

impl Counts {
    /// How many lines there were, by verdict.
    pub fn by_verdict(&self) -> impl Iterator<Item = (Verdict, u64)> {
        let counts = self.by_verdict.iter().map(|n| n.load(Ordering::Relaxed));
        Verdict::ALL.into_iter().zip(counts)
    }

    /// How many are missing on stdout: lost by the kernel, or since nobody read it.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts a line.
    pub fn line(&self, verdict: Verdict) {
        let index = Verdict::ALL.iter().position(|known| *known == verdict);
        if let Some(count) = index.and_then(|index| self.by_verdict.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what stdout misses.
    pub fn missed(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Default for Hub {
    fn default() -> Self {
        Hub(Arc::new(Held {
            state: Mutex::new(State {
                ring: Ring::new(MOST_BYTES, LONGEST),
                log: VecDeque::new(),
                log_bytes: 0,
                log_lost: 0,
                is_idle: true,
                reading: Reading::Not("the agent has just started".to_owned()),
            }),
            written: Condvar::new(),
            news: watch::Sender::new(()),
            counts: Counts::default(),
        }))
    }
}

impl Hub {
    /// The state, which nobody may hold for long.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Adds lines, before which the kernel has lost this much in all.
    pub fn push(&self, entries: Vec<Entry>, lost: Lost) {
        self.state().ring.push(entries, lost, Instant::now());
        self.wake();
    }

    fn wake(&self) {
        self.0.written.notify_one();
        self.0.news.send_replace(());
    }

    /// Adds a line of the agent's own log.
    pub fn log(&self, line: &[u8]) {
        let mut state = self.state();
        if state.log_bytes + line.len() > MOST_LOG {
            state.log_lost += 1;
            return;
        }
        state.log_bytes += line.len();
        state.log.push_back(line.to_vec());
        drop(state);
        self.0.written.notify_one();
    }

    /// Waits until there is something for stdout.
    pub fn wait<'a>(
        &'a self,
        cursor: &Cursor,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        while state.log.is_empty() && !state.ring.has_news(cursor) {
            state.is_idle = true;
            let waited = self.0.written.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.is_idle = false;
        state
    }

    /// Waits until stdout has got all, but no longer than this.
    pub fn drain(&self, longest: Duration) {
        let until = Instant::now() + longest;
        while Instant::now() < until {
            let state = self.state();
            if state.is_idle && state.log.is_empty() {
                return;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Word of everything new.
    pub fn follow(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// Says whether the groups are read; true: it was not so before.
    pub fn set_reading(&self, reading: Reading) -> bool {
        let mut state = self.state();
        let was = std::mem::replace(&mut state.reading, reading);
        match (&was, &state.reading) {
            (Reading::Now { .. }, Reading::Now { .. }) => false,
            (Reading::Not(was), Reading::Not(now)) => was != now,
            _ => true,
        }
    }

    /// Whether the groups are read.
    pub fn reading(&self) -> Reading {
        self.state().reading.clone()
    }
}

impl State {
    /// Takes the agent's own log, and how many lines of it are missing.
    pub fn take_log(&mut self) -> (VecDeque<Vec<u8>>, u64) {
        self.log_bytes = 0;
        (
            std::mem::take(&mut self.log),
            std::mem::take(&mut self.log_lost),
        )
    }
}
