//! DNS messages (RFC 1035), as far as a relay reads them: the question, and the addresses of an answer.
//!
//! Bytes go on as they came. Nothing here follows a compression pointer: a question has none, and of the
//! answer's records only their ends are looked for. So no message can make this loop.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a message's header.
const HEADER: usize = 12;
/// Length of what follows a question's name: type, class.
const QUESTION_END: usize = 4;
/// Length of what follows a record's name: type, class, TTL, length.
const RECORD_HEAD: usize = 10;
/// The longest name, with the lengths of its labels and the empty one at the end.
const LONGEST_NAME: usize = 255;

/// Type of IPv4 addresses.
pub const A: u16 = 1;
/// Type of IPv6 addresses.
pub const AAAA: u16 = 28;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
const IN: u16 = 1;
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

// In the third and fourth byte.
const IS_ANSWER: u8 = 0x80;
const OPCODE: u8 = 0x78;
const IS_TRUNCATED: u8 = 0x02;
const RECURSION_WANTED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const RCODE: u8 = 0x0f;

/// What a query is answered with that goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// The servers can't be reached.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
}

/// A message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its number: answers have the same.
    pub id: u16,
    /// What is asked for, as patterns are compared with it: in lower case, without a dot at the end. Bytes that no
    /// host's name has are written as `\046`, so that no label can be taken for two.
    pub name: String,
    /// The type of what is asked for.
    pub kind: u16,
    /// It is a query, and not an update, say.
    is_query: bool,
    /// Name, type and class, as they came.
    wire: Vec<u8>,
}

/// What an answer says of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Each with its time to live in seconds.
    pub found: Vec<(IpAddr, u32)>,
    /// There were more than anybody wants.
    pub cut: bool,
}

/// The number of a message.
pub fn id(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*message.first_chunk()?))
}

/// Gives a message another number.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

impl Question {
    /// What a client has sent.
    ///
    /// # Errors
    /// It is no message, an answer, or has not exactly one question.
    pub fn parse(message: &[u8]) -> Result<Question, Malformed> {
        let flags = *message.get(2).ok_or(Malformed)?;
        if flags & IS_ANSWER != 0 || count(message, 4)? != 1 {
            return Err(Malformed);
        }
        let end = question_end(message)?;
        let wire = message.get(HEADER..end).ok_or(Malformed)?;
        let (name, rest) = wire.split_last_chunk::<QUESTION_END>().ok_or(Malformed)?;
        Ok(Question {
            id: id(message).ok_or(Malformed)?,
            name: text(name),
            kind: u16::from_be_bytes([rest[0], rest[1]]),
            is_query: flags & OPCODE == 0,
            wire: wire.to_vec(),
        })
    }

    /// Whether a message answers it that was asked with the number `id`. Servers repeat the question as it was asked;
    /// only what they don't understand they may send back without it.
    pub fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        let same_id = self::id(message) == Some(id);
        let (Some(high), Some(low)) = (message.get(2), message.get(3)) else {
            return false;
        };
        if !same_id || high & IS_ANSWER == 0 {
            return false;
        }
        match count(message, 4) {
            Ok(0) => low & RCODE != 0 && message.len() >= HEADER,
            Ok(1) => message
                .get(HEADER..HEADER + self.wire.len())
                .is_some_and(|wire| is_same(wire, &self.wire)),
            _ => false,
        }
    }

    /// An answer without records.
    pub fn refuse(&self, query: &[u8], rcode: Rcode) -> Vec<u8> {
        let flags = |at: usize| query.get(at).copied().unwrap_or(0);
        let mut answer = Vec::with_capacity(HEADER + self.wire.len());
        answer.extend(self.id.to_be_bytes());
        answer.push(IS_ANSWER | flags(2) & (OPCODE | RECURSION_WANTED));
        answer.push(RECURSION_AVAILABLE | flags(3) & CHECKING_DISABLED | rcode as u8);
        answer.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        answer.extend(&self.wire);
        answer
    }

    /// The addresses in an answer to this, at most `most`.
    ///
    /// # Errors
    /// Its records are not what its header says.
    pub fn addresses(&self, answer: &[u8], most: usize) -> Result<Addresses, Malformed> {
        let mut addresses = Addresses::default();
        let (Some(high), Some(low)) = (answer.get(2), answer.get(3)) else {
            return Err(Malformed);
        };
        if low & RCODE != 0 || !self.is_query || count(answer, 4)? == 0 {
            return Ok(addresses);
        }
        let mut rest = answer.get(question_end(answer)?..).ok_or(Malformed)?;
        for _ in 0..count(answer, 6)? {
            let Some((record, behind)) = record(rest) else {
                // What was cut off may be cut anywhere.
                return match high & IS_TRUNCATED != 0 {
                    true => Ok(addresses),
                    false => Err(Malformed),
                };
            };
            rest = behind;
            record.addresses(&mut |address| {
                let found = &mut addresses.found;
                if found.iter().any(|(known, _)| *known == address) {
                    return;
                }
                match found.len() < most {
                    true => found.push((address, record.ttl)),
                    false => addresses.cut = true,
                }
            })?;
        }
        Ok(addresses)
    }
}

/// Whether two questions differ in their names' case at most.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let parts = |question| <[u8]>::split_last_chunk::<QUESTION_END>(question);
    match (parts(one), parts(other)) {
        (Some((name, end)), Some((other, others))) => {
            end == others && name.eq_ignore_ascii_case(other)
        }
        _ => false,
    }
}

/// One of the counts in the header.
fn count(message: &[u8], at: usize) -> Result<u16, Malformed> {
    let header = message.first_chunk::<HEADER>().ok_or(Malformed)?;
    Ok(u16::from_be_bytes([header[at], header[at + 1]]))
}

/// Where the first question ends, whose name must be whole.
fn question_end(message: &[u8]) -> Result<usize, Malformed> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at).ok_or(Malformed)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => at += length,
            _ => return Err(Malformed), // a pointer, or what nobody uses
        }
        if at - HEADER >= LONGEST_NAME {
            return Err(Malformed);
        }
    }
    at += QUESTION_END;
    match at <= message.len() {
        true => Ok(at),
        false => Err(Malformed),
    }
}

/// A name without pointers, which is whole.
fn text(mut name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    while let Some((length, rest)) = name.split_first() {
        let Some((label, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        name = rest;
        if label.is_empty() {
            break;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte.to_ascii_lowercase() {
                usual @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => text.push(usual.into()),
                other => {
                    let _ = write!(text, "\\{other:03}"); // a String takes everything
                }
            }
        }
    }
    text
}

/// A record of an answer.
struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

/// The first of `bytes`, and what is behind it.
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let bytes = behind_name(bytes)?;
    let (head, bytes) = bytes.split_first_chunk::<RECORD_HEAD>()?;
    let [k1, k0, c1, c0, t3, t2, t1, t0, l1, l0] = *head;
    let (data, rest) = bytes.split_at_checked(u16::from_be_bytes([l1, l0]).into())?;
    let ttl = u32::from_be_bytes([t3, t2, t1, t0]);
    let record = Record {
        kind: u16::from_be_bytes([k1, k0]),
        class: u16::from_be_bytes([c1, c0]),
        ttl: if ttl >> 31 == 1 { 0 } else { ttl }, // RFC 2181, section 8
        data,
    };
    Some((record, rest))
}

fn behind_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match *length {
            0 => return Some(rest),
            1..=63 => bytes = rest.get(usize::from(*length)..)?,
            0xc0.. => return rest.get(1..),
            _ => return None,
        }
    }
}

impl Record<'_> {
    fn addresses(&self, tell: &mut dyn FnMut(IpAddr)) -> Result<(), Malformed> {
        if self.class != IN {
            return Ok(());
        }
        match self.kind {
            A => tell(v4(self.data)?),
            AAAA => tell(v6(self.data)?),
            SVCB | HTTPS => self.hints(tell)?,
            _ => {}
        }
        Ok(())
    }

    /// RFC 9460, section 2.2: priority, target, parameters.
    fn hints(&self, tell: &mut dyn FnMut(IpAddr)) -> Result<(), Malformed> {
        let target = self.data.get(2..).ok_or(Malformed)?;
        let mut rest = behind_name(target).ok_or(Malformed)?;
        while !rest.is_empty() {
            let (head, behind) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            let [k1, k0, l1, l0] = *head;
            let length = usize::from(u16::from_be_bytes([l1, l0]));
            let (value, behind) = behind.split_at_checked(length).ok_or(Malformed)?;
            rest = behind;
            match u16::from_be_bytes([k1, k0]) {
                IPV4_HINT => value
                    .chunks(4)
                    .try_for_each(|one| v4(one).map(&mut *tell))?,
                IPV6_HINT => value
                    .chunks(16)
                    .try_for_each(|one| v6(one).map(&mut *tell))?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn v4(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| Malformed)?;
    Ok(Ipv4Addr::from(bytes).into())
}

fn v6(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| Malformed)?;
    Ok(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests;
