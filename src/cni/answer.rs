//! The one answer of a call: exactly one JSON document on stdout or nothing, in time, whatever
//! happens.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};
use std::{io, panic, thread};

use super::limit::{self, Call};
use crate::refusal::CniError;
use crate::refusal::version::CniVersion;

/// What goes to stdout, and with which exit status.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    stdout: Vec<u8>,
    success: bool,
}

impl Reply {
    /// Success. Empty for the verbs that have no result.
    fn success(stdout: Vec<u8>) -> Self {
        Reply {
            stdout,
            success: true,
        }
    }

    /// Failure, in the version of the configuration.
    fn failure(error: &CniError, version: CniVersion) -> Self {
        Reply {
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

/// Does `work` and prints its answer. A panic becomes error 999, and if the work isn't done within
/// [`DEADLINE`](crate::conf::DEADLINE), the answer is error 11 and the process ends.
pub fn answer(work: impl FnOnce(&Call) -> Result<Vec<u8>, CniError>) -> ExitCode {
    panic::set_hook(Box::new(remember_panic));
    let call = Call::default();
    // Without a limit a call could hang for ever and block every other pod's.
    let result = limit::start().and_then(|()| guarded(|| work(&call)));
    let _span = call.span().entered();
    let answer = match result {
        Ok(stdout) => Reply::success(stdout),
        Err(error) => {
            tracing::error!(code = error.code, %error, "failed");
            Reply::failure(&error, call.version())
        }
    };
    if !limit::take() {
        // Another thread was interrupted to answer, and ends the process.
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

/// The last panic's place and message. The hook knows the place, the catcher answers.
static LAST_PANIC: RwLock<String> = RwLock::new(String::new());

fn remember_panic(info: &panic::PanicHookInfo<'_>) {
    let text = info.to_string();
    // Not eprintln!: it would panic again when stderr is closed.
    let _ = writeln!(io::stderr(), "egressway: {text}");
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
    fn a_panic_is_error_999() {
        let index = std::hint::black_box(7);
        let error = guarded(|| Ok([1, 2, 3][index])).unwrap_err();
        assert_eq!(error.code, 999);
        assert_eq!(guarded(|| Ok(1)), Ok(1));
    }
}
