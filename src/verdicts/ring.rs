//! The last lines, for readers that come later or are slow. It is bounded, by bytes and by age: what it
//! had to let go is counted, and each reader that misses some is told how many.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use netlink::nflog::Lost;

use super::loss::Loss;

/// What an entry takes beside its bytes, about.
const OVERHEAD: usize = 96;

/// A line, and the packet that it is about.
#[derive(Debug)]
pub struct Entry {
    /// JSON, with its line feed.
    pub line: Box<[u8]>,
    /// EtherType.
    pub ether_type: u16,
    /// The packet's first bytes.
    pub packet: Box<[u8]>,
}

impl Entry {
    fn size(&self) -> usize {
        self.line.len() + self.packet.len() + OVERHEAD
    }
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    /// When it came.
    at: Instant,
    /// What the kernel had lost by then.
    lost: u64,
}

/// The last lines.
#[derive(Debug)]
pub struct Ring {
    most_bytes: usize,
    longest: Duration,
    kept: VecDeque<Kept>,
    /// The number of the first one that is kept.
    first: u64,
    bytes: usize,
    /// All that came since is here.
    complete_since: Instant,
    /// What the kernel has lost.
    lost: Lost,
}

/// How far a reader is.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    next: u64,
    lost: u64,
    more: bool,
}

/// What a reader gets with each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Only the line.
    Nothing,
    /// The packet, too.
    Packets,
}

impl Ring {
    /// Keeps so many bytes, and nothing longer than this.
    pub fn new(most_bytes: usize, longest: Duration) -> Ring {
        Ring {
            most_bytes,
            longest,
            kept: VecDeque::new(),
            first: 0,
            bytes: 0,
            complete_since: Instant::now(),
            lost: Lost::default(),
        }
    }

    /// Adds what has come `now`, before which the kernel has lost this much in all.
    pub fn push(&mut self, entries: impl IntoIterator<Item = Entry>, lost: Lost, now: Instant) {
        self.lost = lost;
        for entry in entries {
            self.bytes += entry.size();
            self.kept.push_back(Kept {
                entry,
                at: now,
                lost: lost.messages,
            });
        }
        while let Some(first) = self.kept.front() {
            let is_old = now.saturating_duration_since(first.at) > self.longest;
            if self.bytes <= self.most_bytes && !is_old {
                break;
            }
            self.bytes -= first.entry.size();
            self.complete_since = first.at;
            self.first += 1;
            self.kept.pop_front();
        }
    }

    /// Where a reader begins who wants only what comes.
    pub fn end(&self) -> Cursor {
        Cursor {
            next: self.first + self.kept.len() as u64,
            lost: self.lost.messages,
            more: self.lost.more,
        }
    }

    /// Where one begins who wants what came since then, as far as it is here.
    pub fn since(&self, since: Instant) -> Cursor {
        let older = self.kept.partition_point(|kept| kept.at < since);
        let Some(first) = self.kept.get(older) else {
            return self.end();
        };
        let before = older.checked_sub(1).and_then(|last| self.kept.get(last));
        Cursor {
            next: self.first + older as u64,
            lost: before.map_or(first.lost, |before| before.lost),
            more: false,
        }
    }

    /// All that came since is here, but for what the kernel has lost.
    pub fn complete_since(&self) -> Instant {
        self.complete_since
    }

    /// Whether there is something to read.
    pub fn has_news(&self, cursor: &Cursor) -> bool {
        let end = self.end();
        (cursor.next, cursor.lost) != (end.next, end.lost) || (end.more && !cursor.more)
    }

    /// Appends what comes next to `out`, until that is about `most` bytes long; the number of lines that are lost for
    /// this reader. Records of what was lost stand where it was lost, one for a part at most.
    pub fn read(&self, cursor: &mut Cursor, with: With, most: usize, out: &mut Vec<u8>) -> u64 {
        let missed = self.first.saturating_sub(cursor.next);
        let from = cursor.next.max(self.first);
        let index = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        let mut next = from;
        let begin = out.len();
        // What the kernel lost before the first of these is told before it, the rest behind the last.
        let first = self.kept.get(index).map_or(self.lost.messages, |k| k.lost);
        let before = missed + first.saturating_sub(cursor.lost);
        if before > 0 {
            out.extend_from_slice(loss(before, false).as_bytes());
        }
        let mut lost = first.max(cursor.lost);
        let mut behind = 0;
        for kept in self.kept.iter().skip(index) {
            if out.len() - begin >= most {
                break;
            }
            if kept.lost > lost {
                behind += kept.lost - lost;
                lost = kept.lost;
            }
            append(&kept.entry, with, out);
            next += 1;
        }
        let is_end = next == self.first + self.kept.len() as u64;
        if is_end && self.lost.messages > lost {
            behind += self.lost.messages - lost;
            lost = self.lost.messages;
        }
        let more = is_end && self.lost.more;
        if behind > 0 || (more && !cursor.more) {
            out.extend_from_slice(loss(behind, more).as_bytes());
        }
        *cursor = Cursor { next, lost, more };
        before + behind
    }
}

fn loss(lost: u64, lost_more: bool) -> String {
    let time = Timestamp::now();
    Loss {
        time,
        lost,
        lost_more,
    }
    .json()
}

fn append(entry: &Entry, with: With, out: &mut Vec<u8>) {
    match (with, entry.line.strip_suffix(b"}\n")) {
        (With::Packets, Some(line)) => {
            out.extend_from_slice(line);
            let (kind, packet) = (entry.ether_type, crate::hex::hex(&entry.packet));
            let packet = format!(",\"etherType\":{kind},\"packet\":\"{packet}\"}}\n");
            out.extend_from_slice(packet.as_bytes());
        }
        _ => out.extend_from_slice(&entry.line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry {
            line: format!("{{\"n\":{text}}}\n").into_bytes().into(),
            ether_type: 0x0800,
            packet: vec![0x45, 0].into(),
        }
    }

    fn lost(messages: u64, more: bool) -> Lost {
        Lost { messages, more }
    }

    /// The lines' numbers, and `-N` for a record of N that are lost, `-N?` for one of more.
    fn said(ring: &Ring, cursor: &mut Cursor, most: usize) -> Vec<String> {
        let mut out = Vec::new();
        ring.read(cursor, With::Nothing, most, &mut out);
        let text = String::from_utf8(out).unwrap();
        let word = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            match (&value["n"], &value["lost"]) {
                (n, serde_json::Value::Null) => n.to_string(),
                (_, lost) => format!(
                    "-{lost}{}",
                    if value["lostMore"] == true { "?" } else { "" }
                ),
            }
        };
        text.lines().map(word).collect()
    }

    #[test]
    fn a_slow_reader_is_told_how_many_it_misses() {
        let size = entry("10").size();
        let mut ring = Ring::new(3 * size, Duration::from_secs(60));
        let mut slow = ring.end();
        let mut quick = ring.end();
        let now = Instant::now();
        for n in 10..20 {
            ring.push([entry(&n.to_string())], lost(0, false), now);
            assert_eq!(said(&ring, &mut quick, 1000), [n.to_string()]);
        }
        assert_eq!(said(&ring, &mut slow, 1000), ["-7", "17", "18", "19"]);
        assert!(!ring.has_news(&slow) && !ring.has_news(&quick));
        assert_eq!(said(&ring, &mut slow, 1000), [""; 0]);
    }

    #[test]
    fn what_the_kernel_lost_adds_up_for_everybody() {
        let mut ring = Ring::new(usize::MAX, Duration::from_secs(60));
        let mut whole = ring.end();
        let mut pieces = ring.end();
        let now = Instant::now();
        ring.push([entry("1")], lost(5, false), now);
        ring.push([entry("2"), entry("3")], lost(5, false), now);
        ring.push([entry("4")], lost(12, false), now);
        ring.push([], lost(12, true), now);
        assert_eq!(
            said(&ring, &mut whole, 1000),
            ["-5", "1", "2", "3", "4", "-7?"]
        );
        assert_eq!(said(&ring, &mut pieces, 1), ["-5"]);
        for n in ["1", "2", "3"] {
            assert_eq!(said(&ring, &mut pieces, 1), [n]);
        }
        assert_eq!(said(&ring, &mut pieces, 20), ["-7"]);
        assert_eq!(said(&ring, &mut pieces, 20), ["4", "-0?"]);
        ring.push([entry("5")], lost(20, false), now);
        assert_eq!(said(&ring, &mut whole, 1000), ["-8", "5"]);
        // One who comes later did not miss what was lost before.
        assert_eq!(said(&ring, &mut ring.end(), 1000), [""; 0]);
    }

    #[test]
    fn history_reaches_as_far_back_as_it_says() {
        let mut ring = Ring::new(usize::MAX, Duration::from_secs(60));
        let began = ring.complete_since();
        let at = |seconds| began + Duration::from_secs(seconds);
        for n in 1..=9_u64 {
            ring.push([entry(&n.to_string())], lost(0, false), at(n * 10));
        }
        assert_eq!(ring.complete_since(), at(20));
        assert_eq!(said(&ring, &mut ring.since(at(75)), 1000), ["8", "9"]);
        assert_eq!(said(&ring, &mut ring.since(at(0)), 1000)[0], "3");
        assert_eq!(said(&ring, &mut ring.since(at(95)), 1000), [""; 0]);
    }

    #[test]
    fn packets_come_with_the_lines_for_those_who_want_them() {
        let mut ring = Ring::new(usize::MAX, Duration::from_secs(60));
        let mut cursor = ring.end();
        ring.push([entry("1")], lost(0, false), Instant::now());
        let mut out = Vec::new();
        ring.read(&mut cursor, With::Packets, 1000, &mut out);
        assert_eq!(out, b"{\"n\":1,\"etherType\":2048,\"packet\":\"4500\"}\n");
    }
}
