//! The one answer of a call: exactly one JSON document on stdout or nothing, in time, whatever
//! happens.
//!
//! Two threads may want to answer: the one that does the work, and the watchdog when the work takes
//! too long. [`Gate`] lets the first of them do it.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{io, panic, thread};

use tracing::Span;

use super::DEADLINE;
use super::error::CniError;
use super::version::CniVersion;
use crate::nft;

/// What goes to stdout, and with which exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    stdout: Vec<u8>,
    success: bool,
}

impl Answer {
    /// Success. Empty for the verbs that have no result.
    pub fn success(stdout: Vec<u8>) -> Self {
        Answer {
            stdout,
            success: true,
        }
    }

    /// Failure, in the version of the configuration.
    pub fn failure(error: &CniError, version: CniVersion) -> Self {
        Answer {
            stdout: error.to_json(version),
            success: false,
        }
    }

    /// Prints the answer. Success that can't be told is none: the runtime would wait for a result
    /// that never comes, and has to clean up.
    fn print(&self) -> bool {
        let mut stdout = io::stdout().lock();
        let printed = stdout.write_all(&self.stdout).and_then(|()| stdout.flush());
        if let Err(error) = &printed {
            tracing::error!(%error, "cannot write the answer to stdout");
        }
        printed.is_ok() && self.success
    }
}

/// Decides who answers, and remembers what both need for it.
#[derive(Debug, Default)]
pub struct Gate {
    taken: AtomicBool,
    version: OnceLock<CniVersion>,
    span: OnceLock<Span>,
}

impl Gate {
    /// True for exactly one caller.
    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Tells the configuration's version, once it is known.
    pub fn set_version(&self, version: CniVersion) {
        // Set once a call; a second value could only be the same.
        let _ = self.version.set(version);
    }

    /// Tells the span whose fields say which call this is, once logging has started.
    pub fn set_span(&self, span: Span) {
        let _ = self.span.set(span);
    }

    fn span(&self) -> Span {
        self.span.get().cloned().unwrap_or_else(Span::none)
    }

    fn version(&self) -> CniVersion {
        self.version.get().copied().unwrap_or(CniVersion::CURRENT)
    }
}

/// After the deadline the answer itself may take this long: a runtime that doesn't read its pipe
/// must not keep the process alive.
const GRACE: Duration = Duration::from_secs(1);

/// Does `work` and prints its answer. A panic becomes error 999, and if the work isn't done at
/// `deadline`, the answer is error 11 and the process ends.
pub fn answer(
    deadline: Instant,
    work: impl FnOnce(&Gate) -> Result<Vec<u8>, CniError>,
) -> ExitCode {
    panic::set_hook(Box::new(remember_panic));
    let gate = Arc::new(Gate::default());
    let watched = Arc::clone(&gate);
    let watchdog = thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watch(&watched, deadline));
    let result = match watchdog {
        Ok(_) => guarded(|| work(&gate)),
        // Without a watchdog a call could hang for ever and block every other pod's.
        Err(error) => Err(CniError::try_again(format!(
            "cannot start a thread: {error}"
        ))),
    };
    let _span = gate.span().entered();
    let answer = match result {
        Ok(stdout) => Answer::success(stdout),
        Err(error) => {
            tracing::error!(code = error.code, %error, "failed");
            Answer::failure(&error, gate.version())
        }
    };
    if !gate.take() {
        // The watchdog is answering and ends the process.
        loop {
            thread::park();
        }
    }
    if answer.print() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How long a call may take altogether whose transaction the kernel is at work on: see
/// [`nft::in_transaction`]. Stopped there, it would leave a whole attachment behind a failed ADD.
const TRANSACTION: Duration = Duration::from_secs(30);

fn watch(gate: &Arc<Gate>, deadline: Instant) {
    thread::sleep(deadline.saturating_duration_since(Instant::now()));
    if nft::in_transaction() {
        wait_while(nft::in_transaction, deadline + (TRANSACTION - DEADLINE));
        thread::sleep(GRACE); // what is left to do after it takes milliseconds
    }
    if gate.take() {
        let gate = Arc::clone(gate);
        // In a thread of its own, for stdout may block. If it can't be started, silence remains.
        let _ = thread::Builder::new().spawn(move || {
            let error =
                CniError::try_again(format!("not done within {} s; stopped", DEADLINE.as_secs()));
            let _span = gate.span().entered();
            tracing::error!(code = error.code, %error, "failed");
            Answer::failure(&error, gate.version()).print();
            exit(1);
        });
    }
    thread::sleep(GRACE);
    exit(1);
}

/// Waits for the end of what is `busy`, until `end` at most.
fn wait_while(busy: impl Fn() -> bool, end: Instant) {
    while busy() && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
}

/// The last panic's place and message. The hook knows the place, the catcher answers.
static LAST_PANIC: RwLock<String> = RwLock::new(String::new());

fn remember_panic(info: &panic::PanicHookInfo<'_>) {
    let text = info.to_string();
    // Not eprintln!: it would panic again when stderr is closed.
    let _ = writeln!(io::stderr(), "egress-cni: {text}");
    *LAST_PANIC.write().unwrap_or_else(PoisonError::into_inner) = text;
}

fn guarded<T>(work: impl FnOnce() -> Result<T, CniError>) -> Result<T, CniError> {
    // Nothing of the work is used after a panic, so no broken state can be seen.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let place = LAST_PANIC.read().unwrap_or_else(PoisonError::into_inner);
        Err(CniError::internal("internal error; please report it").with_details(place.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_answers() {
        let gate = Gate::default();
        let winners = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| gate.take())).collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn a_transaction_is_waited_for_but_not_for_ever() {
        let asked = std::cell::Cell::new(0);
        let busy_twice = || {
            asked.set(asked.get() + 1);
            asked.get() <= 2
        };
        wait_while(busy_twice, Instant::now() + Duration::from_secs(60));
        assert_eq!(asked.get(), 3);
        let end = Instant::now() + Duration::from_millis(120);
        wait_while(|| true, end);
        assert!(Instant::now() >= end);
        assert!(DEADLINE < TRANSACTION && TRANSACTION <= Duration::from_secs(30));
    }

    #[test]
    fn a_panic_is_error_999() {
        let index = std::hint::black_box(7);
        let error = guarded(|| Ok([1, 2, 3][index])).unwrap_err();
        assert_eq!(error.code, 999);
        assert_eq!(guarded(|| Ok(1)), Ok(1));
    }

    #[test]
    fn errors_are_told_in_the_configurations_version() {
        let gate = Gate::default();
        assert_eq!(gate.version(), CniVersion::CURRENT);
        gate.set_version(CniVersion::V0_3_1);
        assert_eq!(gate.version(), CniVersion::V0_3_1);
    }
}
