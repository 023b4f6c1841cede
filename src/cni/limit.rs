//! The time limit of a call: at its end a signal interrupts whatever the process is doing, and the
//! answer is error 11.
//!
//! A signal and not a thread, because a thread would make every call slower: when a process ends, each
//! of its threads has to be woken first. Nor could a thread do more: a process ends only when the
//! system calls of all its threads do, and then the signal comes, too.
//!
//! A signal handler may neither allocate nor lock. So all that it says is made ready beforehand.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{alarm, write};
use tracing::Span;

use crate::conf::DEADLINE;
use crate::logging;
use crate::refusal::CniError;
use crate::refusal::version::CniVersion;

/// After the deadline the answer itself may take this long: a runtime that doesn't read its pipe
/// must not keep the process alive.
const GRACE: Duration = Duration::from_secs(1);

/// How long a call may take altogether whose transaction the kernel is at work on: see
/// [`nft::in_transaction`]. Stopped there, it would leave a whole attachment behind a failed ADD.
const TRANSACTION: Duration = Duration::from_secs(30);

/// What is known of the call, for its answer.
#[derive(Debug, Default)]
pub struct Call {
    version: OnceLock<CniVersion>,
    span: OnceLock<Span>,
}

impl Call {
    /// Tells the configuration's version, once it is known.
    pub fn set_version(&self, version: CniVersion) {
        // Set once a call; a second value could only be the same.
        let _ = self.version.set(version);
        let _ = ANSWER.set(too_late().to_json(version));
    }

    /// Tells the span whose fields say which call this is, once logging has started, and the same in
    /// a few words.
    pub fn set_span(&self, span: Span, title: &str) {
        let _ = self.span.set(span);
        let line = format!("ERROR {title}: {}", too_late().msg);
        let _ = LOG.set((logging::descriptor(), logging::one_line(&line)));
    }

    /// The span, or none so far.
    pub fn span(&self) -> Span {
        self.span.get().cloned().unwrap_or_else(Span::none)
    }

    /// In which version errors are told.
    pub fn version(&self) -> CniVersion {
        self.version.get().copied().unwrap_or(CniVersion::CURRENT)
    }
}

fn too_late() -> CniError {
    CniError::try_again(format!("timed out after {} s", DEADLINE.as_secs()))
}

/// The answer when time is up, before the configuration's version is known.
static EARLY: OnceLock<Vec<u8>> = OnceLock::new();
/// The same in the configuration's version.
static ANSWER: OnceLock<Vec<u8>> = OnceLock::new();
/// Where the plugin's own log is, and what it is told when time is up.
static LOG: OnceLock<(RawFd, String)> = OnceLock::new();
static PROGRESS: Progress = Progress::new();

/// Sets the clock going.
///
/// # Errors
/// Code 11: the system refuses.
pub fn start() -> Result<(), CniError> {
    let _ = EARLY.set(too_late().to_json(CniVersion::CURRENT));
    let failed = |errno: Errno| CniError::try_again(format!("cannot set a time limit: {errno}"));
    let handler = SigHandler::Handler(on_alarm);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only reads what is complete, and calls poll, write, alarm and _exit, which
    // signal-safety(7) lists.
    unsafe { sigaction(Signal::SIGALRM, &action) }.map_err(failed)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGALRM);
    // Whoever started this process may have blocked it.
    signals.thread_unblock().map_err(failed)?;
    again_in(DEADLINE);
    Ok(())
}

/// True for exactly one caller: who answers.
pub fn take() -> bool {
    PROGRESS.take()
}

fn again_in(time: Duration) {
    alarm::set(time.as_secs() as libc::c_uint);
}

extern "C" fn on_alarm(_: libc::c_int) {
    match PROGRESS.next(nft::in_transaction()) {
        OnAlarm::Wait => again_in(GRACE),
        OnAlarm::Answer => {
            if let Some((log, line)) = LOG.get() {
                say(*log, line.as_bytes());
            }
            if let Some(answer) = ANSWER.get().or_else(|| EARLY.get()) {
                say(libc::STDOUT_FILENO, answer);
            }
            end();
        }
        OnAlarm::End => end(),
    }
}

/// Unless it would have to wait for longer than [`GRACE`].
fn say(descriptor: RawFd, text: &[u8]) {
    // SAFETY: stdout and the log are never closed while the process lives; if somebody closed them
    // before, the calls fail.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut waiting = [PollFd::new(descriptor, PollFlags::POLLOUT)];
    let limit = PollTimeout::try_from(GRACE).unwrap_or(PollTimeout::ZERO);
    if poll(&mut waiting, limit) == Ok(1) {
        let _ = write(descriptor, text); // nobody is left to be told
    }
}

fn end() {
    // SAFETY: ends the process at once, whatever its state, without running anything of it.
    unsafe { libc::_exit(1) }
}

/// What to do when the clock rings.
#[derive(Debug, PartialEq, Eq)]
enum OnAlarm {
    Wait,
    Answer,
    End,
}

/// What has happened since the deadline.
#[derive(Debug)]
struct Progress {
    taken: AtomicBool,
    /// How often the clock has rung before, about once a second.
    rings: AtomicU64,
    was_in_transaction: AtomicBool,
    is_ending: AtomicBool,
}

impl Progress {
    const fn new() -> Self {
        Progress {
            taken: AtomicBool::new(false),
            rings: AtomicU64::new(0),
            was_in_transaction: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        }
    }

    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    fn next(&self, in_transaction: bool) -> OnAlarm {
        let waited = GRACE.as_secs() * self.rings.fetch_add(1, Ordering::Relaxed);
        if in_transaction && DEADLINE.as_secs() + waited < TRANSACTION.as_secs() {
            self.was_in_transaction.store(true, Ordering::Relaxed);
            return OnAlarm::Wait;
        }
        // What is left to do after a transaction takes milliseconds.
        if !in_transaction && self.was_in_transaction.swap(false, Ordering::Relaxed) {
            return OnAlarm::Wait;
        }
        if self.take() {
            return OnAlarm::Answer;
        }
        // The call is printing its own answer, and may finish that.
        match self.is_ending.swap(true, Ordering::Relaxed) {
            false => OnAlarm::Wait,
            true => OnAlarm::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_answers() {
        let progress = Progress::new();
        let winners = std::thread::scope(|scope| {
            let take = || scope.spawn(|| progress.take());
            let threads: Vec<_> = (0..8).map(|_| take()).collect();
            let won = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            won.filter(|won| *won).count()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn whoever_is_late_is_answered_for_at_once() {
        assert_eq!(Progress::new().next(false), OnAlarm::Answer);
        assert!(DEADLINE.as_secs() > 0, "an alarm in zero seconds is none");
    }

    #[test]
    fn a_transaction_is_waited_for_but_not_for_ever() {
        let progress = Progress::new();
        for _ in 0..3 {
            assert_eq!(progress.next(true), OnAlarm::Wait);
        }
        assert_eq!(
            progress.next(false),
            OnAlarm::Wait,
            "a second for what follows"
        );
        assert_eq!(progress.next(false), OnAlarm::Answer);

        let hangs = Progress::new();
        let waits = (0..)
            .take_while(|_| hangs.next(true) == OnAlarm::Wait)
            .count();
        let seconds = DEADLINE.as_secs() + GRACE.as_secs() * waits as u64;
        assert_eq!(seconds, TRANSACTION.as_secs());
        assert_eq!(seconds, 30);
    }

    #[test]
    fn an_answer_that_nobody_reads_ends_the_process() {
        let progress = Progress::new();
        assert!(progress.take());
        assert_eq!(progress.next(false), OnAlarm::Wait);
        assert_eq!(progress.next(false), OnAlarm::End);
    }

    #[test]
    fn errors_are_told_in_the_configurations_version() {
        let call = Call::default();
        assert_eq!(call.version(), CniVersion::CURRENT);
        call.set_version(CniVersion::V0_3_1);
        assert_eq!(call.version(), CniVersion::V0_3_1);
    }
}
