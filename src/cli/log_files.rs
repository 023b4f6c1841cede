//! Reads what `egressway logs -o json` printed: from files, or live from stdin.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::logs::{Line, Loss};
use super::progress::Progress;

/// A file that can't be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub(super) struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// What is beside the log lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Lines that are no log lines.
    pub count: u64,
    /// Where the first one is, such as `line 3 of pods.log`.
    pub first: Option<String>,
    /// Log messages that were lost, by the log itself.
    pub lost: u64,
    /// The log ends before it was known how many more were lost.
    pub lost_more: bool,
}

impl Skipped {
    /// How many messages the log itself misses. None: none.
    pub(super) fn lost(&self) -> Option<String> {
        let more = if self.lost_more { "more than " } else { "" };
        (self.lost > 0 || self.lost_more)
            .then(|| format!("{more}{}", how_many(self.lost, "log message")))
    }

    /// Tells on stderr, if there is anything.
    pub(super) fn tell(&self) {
        if let Some(lost) = self.lost() {
            let _ = writeln!(
                io::stderr(),
                "egressway: {lost} were lost when the log was made: what they would have told is missing here"
            );
        }
        if let Some(first) = &self.first {
            // The result matters more than this: it may fail.
            let _ = writeln!(
                io::stderr(),
                "egressway: left out what is no line of `egressway logs -o json`: {}, the first is {first}",
                how_many(self.count, "line")
            );
        }
    }
}

/// `1 line`, `2 lines`.
pub(super) fn how_many(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Shows every log line of the files to `see`, one file after the other; `-` is stdin.
pub(super) fn read(files: &[PathBuf], mut see: impl FnMut(Line)) -> Result<Skipped, ReadError> {
    let mut skipped = Skipped::default();
    for path in files {
        let failed = |source| ReadError {
            path: path.clone(),
            source,
        };
        if path == Path::new("-") {
            let from = io::stdin().lock();
            read_from(from, 0, "stdin", &mut skipped, &mut see).map_err(failed)?;
        } else {
            let file = File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            let name = path.display().to_string();
            let from = BufReader::new(file);
            read_from(from, length, &name, &mut skipped, &mut see).map_err(failed)?;
        }
    }
    Ok(skipped)
}

/// `length`: how many bytes there are; 0 if nobody knows.
fn read_from(
    mut from: impl BufRead,
    length: u64,
    name: &str,
    skipped: &mut Skipped,
    see: &mut impl FnMut(Line),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut number: u64 = 0;
    let mut progress = Progress::new("reading the log", length);
    let mut done = 0;
    loop {
        bytes.clear();
        let count = from.read_until(b'\n', &mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        number += 1;
        done += count as u64;
        progress.at(done);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if let Ok(line) = serde_json::from_slice(&bytes) {
            see(line);
        } else if let Ok(loss) = serde_json::from_slice::<Loss>(&bytes) {
            skipped.lost += loss.lost;
            skipped.lost_more = loss.lost_more;
        } else {
            skipped.count += 1;
            skipped
                .first
                .get_or_insert_with(|| format!("line {number} of {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"time":"2026-01-02T03:04:05.060000Z","namespace":"shop","pod":"web-1","#,
        r#""verdict":"deny","rule":"pod:erp","protocol":"tcp","#,
        r#""source":"10.244.0.5","sourcePort":40000,"#,
        r#""destination":"203.0.113.9","destinationPort":443,"#,
        r#""interface":"lo","egressIP":"203.0.113.10"}"#,
    );

    fn read_text(text: &[u8]) -> (Vec<Line>, Skipped) {
        let (mut lines, mut skipped) = (Vec::new(), Skipped::default());
        read_from(text, 0, "test", &mut skipped, &mut |line| lines.push(line)).unwrap();
        (lines, skipped)
    }

    #[test]
    fn a_line_is_read_as_it_was_printed() {
        let (lines, skipped) = read_text(LINE.as_bytes());
        assert_eq!(lines[0].json().trim_end(), LINE);
        assert_eq!(skipped, Skipped::default());
    }

    #[test]
    fn what_is_no_line_is_counted_and_what_is_new_is_passed_over() {
        let newer = LINE.replace('{', r#"{"new":[1],"#);
        let text = [
            newer.as_bytes(),
            b"",
            b"\xff\xfe",
            b"{}",
            LINE.as_bytes(),
            b"2026-01-02 text",
            &LINE.as_bytes()[..50],
        ]
        .join(&b'\n');
        let (lines, skipped) = read_text(&text);
        assert_eq!(lines.len(), 2);
        assert_eq!(skipped.count, 4);
        assert_eq!(skipped.first.as_deref(), Some("line 3 of test"));
    }

    #[test]
    fn what_was_lost_adds_up() {
        let loss = |lost: u64, more: bool| {
            format!(r#"{{"time":"2026-01-02T03:04:05.060000Z","lost":{lost},"lostMore":{more}}}"#)
        };
        let (_, none) = read_text(LINE.as_bytes());
        assert_eq!(none.lost(), None);
        let text = [
            loss(0, true),
            LINE.to_owned(),
            loss(7, false),
            loss(1, false),
        ]
        .join("\n");
        let (lines, skipped) = read_text(text.as_bytes());
        assert_eq!((lines.len(), skipped.count), (1, 0));
        assert_eq!(skipped.lost().as_deref(), Some("8 log messages"));
        let (_, skipped) = read_text(loss(8, true).as_bytes());
        assert_eq!(skipped.lost().as_deref(), Some("more than 8 log messages"));
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
