//! Lines read again: from what `egressway logs -o json` printed, as it is printed.

use std::io::{self, BufRead};

use super::line::{Kind, Line};
use super::loss::Loss;

/// What is beside the log lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Lines that are no log lines.
    pub count: u64,
    /// Where the first one is, such as `line 3 of pods.log`.
    pub first: Option<String>,
    /// Log messages that were lost, by the log itself.
    pub lost: u64,
    /// The log ends before it was known how many more were lost.
    pub lost_more: bool,
}

/// Shows every log line of the text called `name` to `see`, and `at` how many bytes have been read.
///
/// # Errors
/// Those of `from`. What is no log line is none: it is counted in `skipped`.
pub fn read(
    mut from: impl BufRead,
    name: &str,
    skipped: &mut Skipped,
    mut see: impl FnMut(Line),
    mut at: impl FnMut(u64),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut number: u64 = 0;
    let mut done = 0;
    loop {
        bytes.clear();
        let count = from.read_until(b'\n', &mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        number += 1;
        done += count as u64;
        at(done);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if let Ok(line) = serde_json::from_slice(&bytes) {
            see(line);
        } else if let Ok(loss) = serde_json::from_slice::<Loss>(&bytes) {
            skipped.lost += loss.lost;
            skipped.lost_more = loss.lost_more;
        } else if !is_agents_log(&bytes) {
            skipped.count += 1;
            skipped
                .first
                .get_or_insert_with(|| format!("line {number} of {name}"));
        }
    }
}

/// `kubectl logs` of an agent has what the agent says of itself, too: nobody misses that.
fn is_agents_log(line: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Any {
        kind: Kind,
    }
    serde_json::from_slice::<Any>(line).is_ok_and(|any| any.kind == Kind::Log)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"kind":"verdict","v":1,"time":"2026-01-02T03:04:05.060000Z","#,
        r#""node":"a","namespace":"shop","pod":"web-1","podUID":"1-2","workload":"Deployment/web","#,
        r#""verdict":"deny","rule":"pod:erp","protocol":"tcp","#,
        r#""source":"10.244.0.5","sourcePort":40000,"#,
        r#""destination":"203.0.113.9","destinationPort":443,"#,
        r#""interface":"lo","egressIP":"203.0.113.10"}"#,
    );

    fn read_text(text: &[u8]) -> (Vec<Line>, Skipped) {
        let (mut lines, mut skipped) = (Vec::new(), Skipped::default());
        read(text, "test", &mut skipped, |line| lines.push(line), |_| {}).unwrap();
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
        let agents =
            r#"{"kind":"log","v":1,"time":"2026-01-02T03:04:05.060000Z","message":"ready"}"#;
        let text = [
            newer.as_bytes(),
            agents.as_bytes(),
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
        assert_eq!((none.lost, none.lost_more), (0, false));
        let text = [
            loss(0, true),
            LINE.to_owned(),
            loss(7, false),
            loss(1, false),
        ]
        .join("\n");
        let (lines, skipped) = read_text(text.as_bytes());
        assert_eq!((lines.len(), skipped.count), (1, 0));
        assert_eq!((skipped.lost, skipped.lost_more), (8, false));
        let (_, skipped) = read_text(loss(8, true).as_bytes());
        assert_eq!((skipped.lost, skipped.lost_more), (8, true));
    }
}
