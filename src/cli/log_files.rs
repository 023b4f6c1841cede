//! Files of `egressway logs -o json` that are named on the command line; `-` is stdin, also live.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::output::{how_many, shown};
use super::progress::Progress;
use crate::verdicts::Line;
use crate::verdicts::files::{self, Skipped};

/// A file that can't be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", shown(path))]
pub(super) struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// How many messages the log itself misses. `None`: none.
pub(super) fn lost(skipped: &Skipped) -> Option<String> {
    let more = if skipped.lost_more { "more than " } else { "" };
    (skipped.lost > 0 || skipped.lost_more)
        .then(|| format!("{more}{}", how_many(skipped.lost, "log message")))
}

/// Tells on stderr what is beside the log lines, if there is anything.
pub(super) fn tell(skipped: &Skipped) {
    if let Some(lost) = lost(skipped) {
        let _ = writeln!(
            io::stderr(),
            "egressway: {lost} were lost when the log was made, and are missing here"
        );
    }
    if let Some(first) = &skipped.first {
        // The result matters more than this: it may fail.
        let _ = writeln!(
            io::stderr(),
            "egressway: left out what is no line of `egressway logs -o json`: {}, the first is {first}",
            how_many(skipped.count, "line")
        );
    }
}

/// Shows every log line of the files to `see`, one file after the other.
pub(super) fn read(paths: &[PathBuf], mut see: impl FnMut(Line)) -> Result<Skipped, ReadError> {
    let mut skipped = Skipped::default();
    for path in paths {
        let failed = |source| ReadError {
            path: path.clone(),
            source,
        };
        let (from, length, name): (Box<dyn BufRead>, u64, String) = if path == Path::new("-") {
            // How long it is, nobody knows.
            (Box::new(io::stdin().lock()), 0, "stdin".to_owned())
        } else {
            let file = File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            let name = shown(path);
            (Box::new(BufReader::new(file)), length, name)
        };
        let mut progress = Progress::new("reading the log", length);
        let read = files::read(from, &name, &mut skipped, &mut see, |done| {
            progress.at(done);
        });
        read.map_err(failed)?;
    }
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_as_far_as_they_are_known() {
        let told = [(0, false), (8, false), (8, true), (0, true)].map(|(count, more)| {
            lost(&Skipped {
                lost: count,
                lost_more: more,
                ..Skipped::default()
            })
        });
        let told = told.each_ref().map(Option::as_deref);
        let messages = "more than 0 log messages";
        assert_eq!(
            told,
            [
                None,
                Some("8 log messages"),
                Some("more than 8 log messages"),
                Some(messages)
            ]
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(&["/nonexistent/pods.log".into()], |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("cannot read /nonexistent/pods.log: "),
            "{text}"
        );
    }
}
