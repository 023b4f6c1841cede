//! Netlink messages and attributes, byte by byte (`include/uapi/linux/netlink.h`).
//!
//! nf_tables nests attributes deeply and mixes byte orders: its own numbers are big-endian, the
//! values that registers are compared with are whatever the packet or the kernel holds.

/// `NLA_F_NESTED`: the attribute's payload is attributes.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the type without its flags.
const TYPE_MASK: u16 = 0x3fff;
/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Length of `struct nfgenmsg`, which follows the header in every nfnetlink message.
pub const NFGENMSG: usize = 4;

/// Builds one netlink message after another in one buffer.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    /// Appends a message: header, `nfgenmsg`, then what `body` writes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]); // length, set below
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]); // port: the kernel fills it in
        self.bytes.extend_from_slice(&[family, 0]); // NFNETLINK_V0
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute with a payload as it is.
    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        let length = (payload.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    /// A string attribute, NUL-terminated.
    pub fn str(&mut self, kind: u16, text: &str) {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.attr(kind, &payload);
    }

    pub fn be16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute whose payload is the attributes that `body` writes. At most 65535 bytes.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One message of a reply.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    /// Everything after the header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind `nfgenmsg`.
    pub fn attrs(&self) -> Attrs<'a> {
        Attrs(self.body.get(NFGENMSG..).unwrap_or_default())
    }
}

/// Splits what one `recv` returned into messages; a truncated rest is left out.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            seq: u32_at(bytes, 8)?,
            body: &bytes[HEADER..length],
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A run of attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// Type (without flags), whether its payload is attributes, and payload.
    pub fn iter(self) -> impl Iterator<Item = (u16, bool, &'a [u8])> {
        let mut bytes = self.0;
        std::iter::from_fn(move || {
            let length = u16_at(bytes, 0)? as usize;
            let kind = u16_at(bytes, 2)?;
            if length < 4 || length > bytes.len() {
                return None;
            }
            let payload = &bytes[4..length];
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind & TYPE_MASK, kind & NESTED != 0, payload))
        })
    }

    /// The payload of the first attribute of this type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find(|(k, _, _)| *k == kind)
            .map(|(_, _, payload)| payload)
    }

    /// The attributes inside the first attribute of this type.
    pub fn nest(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    /// A string without its NUL.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    pub fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut w = Writer::default();
        w.message(7, 5, 42, 1, 10, |w| {
            w.str(1, "table");
            w.nested(2, |w| {
                w.be32(3, 0x0102_0304);
                w.attr(4, &[9]);
            });
        });
        let message = messages(&w.bytes).next().expect("one message");
        assert_eq!((message.kind, message.flags, message.seq), (7, 5, 42));
        assert_eq!(message.attrs().text(1), Some("table"));
        let nested = message.attrs().nest(2).expect("nested");
        assert_eq!(nested.be32(3), Some(0x0102_0304));
        assert_eq!(nested.get(4), Some(&[9u8][..]));
        assert_eq!(w.bytes.len() % 4, 0);
    }

    #[test]
    fn truncated_input_ends_quietly() {
        let mut w = Writer::default();
        w.message(1, 0, 1, 0, 0, |w| w.str(1, "abcdef"));
        for cut in 0..w.bytes.len() {
            for message in messages(&w.bytes[..cut]) {
                message.attrs().iter().for_each(drop);
            }
        }
        assert_eq!(
            Attrs(&[3, 0, 1, 0]).iter().count(),
            0,
            "shorter than its own header"
        );
    }
}
