//! One netlink socket: a request out, its answer in. The families build on it: [`Rtnl`] for
//! links, addresses and routes, `conntrack` for connection tracking.
//!
//! Requests are typed. Of answers only the attributes that are asked for are decoded, so that
//! one that is new, or longer in a newer kernel, is no error.
//!
//! [`Rtnl`]: super::Rtnl

use std::{io, os::fd::AsFd, time::Instant};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};

use super::{Error, wait};

/// The kernel never sends more than 32 KiB in one datagram (net/netlink/af_netlink.c).
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often a dump that the kernel calls inconsistent is started anew.
const DUMP_ATTEMPTS: usize = 10;
/// Length of struct nlmsghdr.
const HEADER_LENGTH: usize = 16;
/// The flags word of struct nlmsghdr: a dump was disturbed by a change (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;
/// An error's original request is cut off after its header (linux/netlink.h).
const NLM_F_CAPPED: u16 = 0x100;
/// An error carries attributes (linux/netlink.h).
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The error's text (linux/netlink.h).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A netlink socket in the namespace of the thread that opened it.
///
/// Waits end at the deadline. The kernel works on a request before `send` returns, and may
/// wait for its own locks there; no deadline can shorten that.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    deadline: Instant,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of a family such as `NETLINK_ROUTE`.
    pub(super) fn open(protocol: isize, deadline: Instant) -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.set_ext_ack(true)?;
            // Errors need not carry the request back.
            socket.set_cap_ack(true)?;
            // Without this, dump filters are taken for hints. It also makes the kernel refuse
            // what it doesn't know instead of passing over it.
            socket.set_netlink_get_strict_chk(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|cause| Error::system("open a netlink socket", cause))?;
        Ok(Netlink {
            socket,
            sequence: 0,
            deadline,
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// The socket itself, for what arrives without having been asked for.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Sends a request that changes something and waits for the kernel's acknowledgement.
    pub(super) fn change<M: NetlinkSerializable>(
        &mut self,
        operation: &str,
        message: &M,
        flags: u16,
    ) -> Result<(), Error> {
        self.exchange(operation, message, flags | NLM_F_ACK, |_| Ok(()))?;
        Ok(())
    }

    /// Asks for one object and decodes it.
    pub(super) fn get<M: NetlinkSerializable, T>(
        &mut self,
        operation: &str,
        message: &M,
        mut decode: impl FnMut(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut found = None;
        self.exchange(operation, message, 0, |payload| {
            found = Some(decode(payload)?);
            Ok(())
        })?;
        found.ok_or_else(|| Error::malformed(operation, "no object in it"))
    }

    /// Asks for a table and decodes what of it `decode` returns, in the kernel's order.
    ///
    /// A table that changes meanwhile is read again, so that the answer is of one moment.
    pub(super) fn dump<M: NetlinkSerializable, T>(
        &mut self,
        operation: &str,
        message: &M,
        mut decode: impl FnMut(&[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let outcome = self.exchange(operation, message, NLM_F_DUMP, |payload| {
                found.extend(decode(payload)?);
                Ok(())
            });
            match outcome {
                Ok(Consistency::Whole) => return Ok(found),
                Ok(Consistency::Disturbed) => continue,
                // The kernel had to drop a part of the answer.
                Err(error) if error.errno() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unstable {
            operation: operation.into(),
        })
    }

    /// Sends a request and hands on each object of the answer, until the message that closes it:
    /// an acknowledgement, an error, the end of a dump; without NLM_F_ACK and NLM_F_DUMP the object
    /// itself. Not until NLM_F_MULTI is missing: ctnetlink sets that also on single answers.
    fn exchange<M: NetlinkSerializable>(
        &mut self,
        operation: &str,
        message: &M,
        flags: u16,
        mut on_object: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Consistency, Error> {
        // Better not begun than begun and not known how it ended.
        if Instant::now() >= self.deadline {
            return Err(timeout(operation));
        }
        self.send(operation, message, flags)?;
        let mut consistency = Consistency::Whole;
        loop {
            let length = self.receive(operation)?;
            let mut rest = &self.buffer[..length];
            while !rest.is_empty() {
                let (message, after) = split_message(rest)
                    .ok_or_else(|| Error::malformed(operation, "a message is cut off"))?;
                rest = after;
                // What an earlier, abandoned request left behind.
                if message.sequence_number() != self.sequence {
                    continue;
                }
                if message.flags() & NLM_F_DUMP_INTR != 0 {
                    consistency = Consistency::Disturbed;
                }
                match message.message_type() {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => {
                        return Err(Error::malformed(operation, "data lost"));
                    }
                    NLMSG_ERROR | NLMSG_DONE => {
                        return match refusal(operation, &message) {
                            Some(error) => Err(error),
                            None => Ok(consistency),
                        };
                    }
                    _ => {
                        on_object(message.payload())?;
                        if flags & (NLM_F_ACK | NLM_F_DUMP) == 0 {
                            return Ok(consistency);
                        }
                    }
                }
            }
        }
    }

    fn send<M: NetlinkSerializable>(
        &mut self,
        operation: &str,
        message: &M,
        flags: u16,
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER_LENGTH + message.buffer_len();
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length)
            .map_err(|_| Error::system(operation, io::Error::from_raw_os_error(libc::EMSGSIZE)))?;
        header.message_type = message.message_type();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut bytes = vec![0; length];
        header.emit(&mut bytes);
        message.serialize(&mut bytes[HEADER_LENGTH..]);
        loop {
            match self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0) {
                Ok(_) => return Ok(()),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(Error::system(operation, cause)),
            }
        }
    }

    /// Receives one datagram from the kernel into the buffer and returns its length.
    fn receive(&mut self, operation: &str) -> Result<usize, Error> {
        loop {
            let mut window = &mut self.buffer[..];
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            match self.socket.recv_from(&mut window, flags) {
                // Any process may send to this socket; only port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() != 0 => continue,
                Ok((length, _)) if length > RECEIVE_BUFFER => {
                    return Err(Error::malformed(operation, "a datagram is too long"));
                }
                Ok((length, _)) => return Ok(length),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                // Seldom: most answers are there when the request has been sent.
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    let ready = wait::readable(&[self.socket.as_fd()], self.deadline)
                        .map_err(|cause| Error::system(operation, cause))?;
                    if !ready {
                        return Err(timeout(operation));
                    }
                }
                Err(cause) => return Err(Error::system(operation, cause)),
            }
        }
    }
}

/// Whether all parts of an answer are of the same moment.
enum Consistency {
    Whole,
    Disturbed,
}

fn timeout(operation: &str) -> Error {
    Error::Timeout {
        operation: operation.into(),
    }
}

/// Splits off the first message of a datagram. None: its length doesn't fit.
pub(super) fn split_message(bytes: &[u8]) -> Option<(NetlinkBuffer<&[u8]>, &[u8])> {
    let length = NetlinkBuffer::new_checked(bytes).ok()?.length() as usize;
    let (message, _) = bytes.split_at_checked(length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((NetlinkBuffer::new(message), after))
}

/// The error in a closing message (NLMSG_ERROR or NLMSG_DONE). None: all went well.
fn refusal(operation: &str, message: &NetlinkBuffer<&[u8]>) -> Option<Error> {
    let payload = message.payload();
    // A DONE without a payload is a success.
    let code = payload
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return None;
    }
    Some(Error::Refused {
        operation: operation.into(),
        cause: io::Error::from_raw_os_error(code.wrapping_abs()),
        detail: kernels_words(message),
    })
}

/// The kernel's own text about an error (NETLINK_EXT_ACK).
fn kernels_words(message: &NetlinkBuffer<&[u8]>) -> Option<String> {
    if message.flags() & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let after_code = message.payload().get(4..)?;
    let request_length = match message.message_type() {
        NLMSG_DONE => 0,
        _ if message.flags() & NLM_F_CAPPED != 0 => HEADER_LENGTH,
        _ => NetlinkBuffer::new_checked(after_code).ok()?.length() as usize,
    };
    let attributes = after_code.get(request_length.next_multiple_of(4)..)?;
    Attributes::new(attributes).string(NLMSGERR_ATTR_MSG)
}

/// The attributes of an object. Only those that are asked for are decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Attributes(bytes)
    }

    /// All attributes as (type, value). One whose length doesn't fit ends the list.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        NlasIterator::new(self.0).map_while(|attribute| {
            let attribute = attribute.ok()?;
            let length = usize::from(attribute.length());
            Some((attribute.kind(), attribute.into_inner().get(4..length)?))
        })
    }

    pub(super) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub(super) fn nested(&self, kind: u16) -> Option<Attributes<'a>> {
        self.bytes(kind).map(Attributes)
    }

    /// A number in the machine's byte order.
    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        let bytes = self.bytes(kind)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    }

    /// A signed number in the machine's byte order.
    pub(super) fn i32(&self, kind: u16) -> Option<i32> {
        self.u32(kind).map(u32::cast_signed)
    }

    /// Text, up to its terminating NUL.
    pub(super) fn string(&self, kind: u16) -> Option<String> {
        let text = self.bytes(kind)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of "Invalid argument", with `cut` bytes of the request after its header.
    fn nack(flags: u16, cut: usize) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend((-22i32).to_ne_bytes());
        bytes.extend([20, 0, 0, 0, 18, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([1, 2, 3, 4].iter().take(cut));
        bytes.extend([8, 0, NLMSGERR_ATTR_MSG as u8, 0, b'w', b'h', b'y', 0]);
        let length = bytes.len() as u32;
        let mut buffer = NetlinkBuffer::new(&mut bytes[..]);
        buffer.set_length(length);
        buffer.set_message_type(NLMSG_ERROR);
        buffer.set_flags(flags);
        bytes
    }

    fn text(bytes: &[u8]) -> String {
        let (message, _) = split_message(bytes).unwrap();
        refusal("do it", &message).unwrap().to_string()
    }

    #[test]
    fn errors_carry_the_kernels_words() {
        let with_words = "cannot do it: Invalid argument (os error 22) (why)";
        assert_eq!(text(&nack(NLM_F_ACK_TLVS | NLM_F_CAPPED, 0)), with_words);
        assert_eq!(text(&nack(NLM_F_ACK_TLVS, 4)), with_words);
        assert_eq!(
            text(&nack(NLM_F_CAPPED, 0)),
            "cannot do it: Invalid argument (os error 22)"
        );
    }

    #[test]
    fn a_cut_message_is_not_read() {
        let whole = nack(0, 4);
        assert!(split_message(&whole).is_some());
        assert!(split_message(&whole[..whole.len() - 1]).is_none());
        assert!(split_message(&whole[..15]).is_none());
        let mut short = whole;
        NetlinkBuffer::new(&mut short[..]).set_length(3);
        assert!(split_message(&short).is_none());
    }

    #[test]
    fn attributes_are_found_by_type() {
        let bytes = [
            5, 0, 1, 0, 9, 0, 0, 0, // type 1, one byte, padded
            8, 0, 2, 0x80, 4, 0, 3, 0, // type 2, nested: an empty type 3
            9, 0, 4, 0, b'v', b'e', b't', b'h', 0, // type 4, text
        ];
        let attributes = Attributes::new(&bytes);
        assert_eq!(attributes.bytes(1), Some(&[9][..]));
        assert_eq!(attributes.u32(1), None);
        assert_eq!(
            attributes.nested(2).and_then(|inner| inner.bytes(3)),
            Some(&[][..])
        );
        assert_eq!(attributes.string(4).as_deref(), Some("veth"));
        assert_eq!(attributes.bytes(5), None);
    }
}
