//! Frames whose checksum is left to the kernel or the device (packet(7), `PACKET_VNET_HDR`;
//! linux/virtio_net.h): what a pod can do to write into its packet behind the firewall.

use std::io;

use super::packet_socket::PacketSocket;

/// Not in the libc crate for all targets (linux/if_packet.h).
const PACKET_VNET_HDR: libc::c_int = 15;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM
const NEEDS_CSUM: u8 = 1;

/// A way to send such frames from one link of the calling thread's namespace.
#[derive(Debug)]
pub struct Unfinished(PacketSocket);

impl Unfinished {
    /// Opens it.
    ///
    /// # Errors
    /// No CAP_NET_RAW, no such link.
    pub fn open(link: u32) -> io::Result<Self> {
        let socket = PacketSocket::open(link, 0, &[])?;
        socket.set_option(libc::SOL_PACKET, PACKET_VNET_HDR, &1i32)?;
        Ok(Unfinished(socket))
    }

    /// Sends a frame, Ethernet header included. With a place (where summing begins, and how far from
    /// there the sum belongs, in bytes), its checksum is still to be written.
    ///
    /// # Errors
    /// The place is outside of the frame, or the link takes nothing.
    pub fn send(&self, frame: &[u8], checksum: Option<(u16, u16)>) -> io::Result<()> {
        // struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
        let mut bytes = vec![0; 10];
        if let Some((start, offset)) = checksum {
            bytes[0] = NEEDS_CSUM;
            bytes[6..8].copy_from_slice(&start.to_ne_bytes());
            bytes[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        bytes.extend_from_slice(frame);
        self.0.send(&bytes)
    }
}
