//! Messages, for tests.

/// Of the Internet.
const IN: u16 = 1;

/// The number of all messages.
pub(super) const ID: u16 = 0x1234;

/// A name as messages have it.
pub(super) fn name(text: &str) -> Vec<u8> {
    let mut name = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        name.push(u8::try_from(label.len()).expect("short"));
        name.extend(label.as_bytes());
    }
    name.push(0);
    name
}

/// A message's beginning.
pub(super) fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let fields = [ID, flags].into_iter().chain(counts);
    fields.flat_map(u16::to_be_bytes).collect()
}

/// A query, as glibc sends it, with EDNS0.
pub(super) fn query(text: &str, kind: u16) -> Vec<u8> {
    let mut message = header(0x0100, [1, 0, 0, 1]);
    message.extend(name(text));
    message.extend(kind.to_be_bytes());
    message.extend(IN.to_be_bytes());
    message.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    message
}

/// One record, its name a pointer to the question.
pub(super) fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend(IN.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
    record.extend(data);
    record
}

/// An answer with these records.
pub(super) fn answer(text: &str, kind: u16, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).expect("few");
    let mut message = header(0x8180 | flags, [1, count, 0, 0]);
    message.extend(name(text));
    message.extend(kind.to_be_bytes());
    message.extend(IN.to_be_bytes());
    message.extend(records.concat());
    message
}
