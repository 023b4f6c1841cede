//! The one thread that writes to stdout: verdicts and the agent's own log. A pipe that nobody reads holds up
//! nothing but this.

use std::io::{self, Write};
use std::thread;

use super::hub::Hub;
use crate::logging;
use crate::verdicts::ring::{Cursor, With};

/// How much is written at once.
const CHUNK: usize = 64 * 1024;

/// Starts the thread.
///
/// # Errors
/// The system gives none.
pub fn start(hub: Hub) -> io::Result<()> {
    let builder = thread::Builder::new().name("stdout".to_owned());
    let cursor = hub.state().ring.end();
    builder
        .spawn(move || write(&hub, cursor, io::stdout()))
        .map(drop)
}

fn write(hub: &Hub, mut cursor: Cursor, mut out: impl Write) {
    let mut buffer = Vec::with_capacity(CHUNK + 4096);
    // Somebody may have closed it: then nothing more is written, and all is counted as ever.
    let mut is_open = true;
    loop {
        buffer.clear();
        let mut state = hub.wait(&cursor, hub.state());
        let (log, log_lost) = state.take_log();
        let lost = state
            .ring
            .read(&mut cursor, With::Nothing, CHUNK, &mut buffer);
        drop(state);
        hub.counts().missed(lost);
        let mut own = log.into_iter().flatten().collect::<Vec<u8>>();
        if log_lost > 0 {
            let message = format!("{log_lost} lines of this log are lost: stdout was not read");
            own.extend_from_slice(logging::json_line("warn", &message).as_bytes());
        }
        is_open = is_open
            && out
                .write_all(&own)
                .and_then(|()| out.write_all(&buffer))
                .and_then(|()| out.flush())
                .is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdicts::ring::Entry;
    use netlink::nflog::Lost;
    use std::io::{BufRead, BufReader, pipe};

    #[test]
    fn a_stdout_that_nobody_reads_holds_up_nobody() {
        let hub = Hub::default();
        let (reader, writer) = pipe().expect("a pipe");
        let its = hub.clone();
        let cursor = hub.state().ring.end();
        thread::spawn(move || write(&its, cursor, writer));
        const LINES: u64 = 60_000;
        for n in 0..LINES {
            let line = format!("{{\"n\":{n},\"x\":\"{}\"}}\n", "x".repeat(400));
            let entry = Entry {
                line: line.into_bytes().into(),
                ether_type: 0,
                packet: Box::default(),
            };
            hub.push(vec![entry], Lost::default());
        }
        for n in 0..10_000 {
            hub.log(format!("{{\"log\":{n},\"x\":\"{}\"}}\n", "x".repeat(100)).as_bytes());
        }
        hub.push(
            Vec::new(),
            Lost {
                messages: 3,
                more: false,
            },
        );
        let (mut seen, mut lost, mut own, mut own_lost) = (0, 0, 0, 0);
        let mut lines = BufReader::new(reader).lines();
        while seen + lost < LINES + 3 || own + own_lost < 10_000 {
            let line = lines.next().expect("it goes on").expect("it can be read");
            let value: serde_json::Value = serde_json::from_str(&line).expect("whole lines");
            match (value["lost"].as_u64(), value["message"].as_str()) {
                (Some(n), _) => lost += n,
                (_, Some(message)) => {
                    let words: Vec<&str> = message.split(' ').collect();
                    own_lost += words[0].parse::<u64>().expect("a number");
                }
                _ if value.get("log").is_some() => own += 1,
                _ => seen += 1,
            }
        }
        assert!(
            lost > 3 && own_lost > 0,
            "{lost} {own_lost}: the test shows nothing"
        );
        assert_eq!((seen + lost, own + own_lost), (LINES + 3, 10_000));
        hub.drain(std::time::Duration::from_secs(5));
        assert_eq!(hub.counts().lost(), lost);
    }
}
