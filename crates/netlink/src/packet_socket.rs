//! A socket for whole Ethernet frames of one protocol on one link (packet(7)).

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, recvfrom, send, socket},
};

/// Longer than any frame of ARP or neighbour discovery that matters; the rest is cut off.
const RECEIVE_BUFFER: usize = 1514;

/// A packet socket bound to a link and a protocol. It never blocks.
#[derive(Debug)]
pub(super) struct PacketSocket {
    fd: OwnedFd,
    link: libc::c_int,
}

impl PacketSocket {
    /// Opens a socket that receives what of an EtherType the filter (classic BPF on the frame)
    /// lets through. No filter: all of it.
    pub(super) fn open(
        link: u32,
        ethertype: u16,
        filter: &[libc::sock_filter],
    ) -> io::Result<Self> {
        // Without a protocol it receives nothing until it is bound, so that no frame is in it
        // that the filter hasn't seen.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        let link = libc::c_int::try_from(link).map_err(|_| Errno::ENODEV)?;
        let socket = PacketSocket { fd, link };
        if !filter.is_empty() {
            socket.attach(filter)?;
        }
        socket.bind(ethertype)?;
        Ok(socket)
    }

    /// Makes the link take in frames to a multicast MAC while the socket is open.
    pub(super) fn join(&self, group: [u8; 6]) -> io::Result<()> {
        let mut address = [0; 8];
        address[..group.len()].copy_from_slice(&group);
        let membership = libc::packet_mreq {
            mr_ifindex: self.link,
            mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
            mr_alen: group.len() as libc::c_ushort,
            mr_address: address,
        };
        self.set_option(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Sends a frame, Ethernet header included.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame that came in for this host, a group or all. None: no more for now.
    pub(super) fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; RECEIVE_BUFFER];
        loop {
            match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut frame) {
                // Frames that this host sends, and those to others: seen in promiscuous mode,
                // or of a VLAN that the link isn't in.
                Ok((_, Some(from)))
                    if [libc::PACKET_OUTGOING, libc::PACKET_OTHERHOST]
                        .contains(&from.pkttype()) =>
                {
                    continue;
                }
                Ok((length, _)) => {
                    frame.truncate(length);
                    return Ok(Some(frame));
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn attach(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: libc::c_ushort::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
            // The kernel only reads it.
            filter: filter.as_ptr().cast_mut(),
        };
        self.set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn bind(&self, ethertype: u16) -> io::Result<()> {
        // SAFETY: sockaddr_ll is plain data, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = self.link;
        // SAFETY: the pointer is to a whole sockaddr_ll, whose size is passed, and which
        // outlives the call.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(())
    }

    pub(super) fn set_option<T>(
        &self,
        level: libc::c_int,
        name: libc::c_int,
        value: &T,
    ) -> io::Result<()> {
        // SAFETY: the pointer is to a whole T, whose size is passed, and which outlives the
        // call. What a sock_fprog points to is borrowed by `attach` for as long.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (value as *const T).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
