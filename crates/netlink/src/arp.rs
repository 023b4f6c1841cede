//! ARP packets in Ethernet frames (RFC 826), as IPv4 address conflict detection uses them
//! (RFC 5227). Nothing here does I/O.

use std::net::Ipv4Addr;

pub(super) const ETHERTYPE: u16 = 0x0806;
/// Ethernet header, then a packet for Ethernet and IPv4.
const FRAME_LENGTH: usize = 14 + 28;
/// Hardware Ethernet, protocol IPv4, their address lengths.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

/// The question whether anybody uses an address, from somebody who doesn't yet (RFC 5227, 2.1.1).
pub(super) fn probe(sender: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    request(sender, Ipv4Addr::UNSPECIFIED, address)
}

/// The statement that an address is at a MAC from now on (RFC 5227, 2.3).
pub(super) fn announcement(sender: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    request(sender, address, address)
}

fn request(mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    frame[14..20].copy_from_slice(&ETHERNET_IPV4);
    frame[20..22].copy_from_slice(&REQUEST);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&from.octets());
    // The target's MAC, 32..38, is what is not known: zero.
    frame[38..42].copy_from_slice(&to.octets());
    frame
}

/// The address that a frame claims, with the MAC that claims it: by speaking from that address,
/// or by probing for it as we do. None: it claims none.
pub(super) fn claim(frame: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    let frame = frame.first_chunk::<FRAME_LENGTH>()?;
    if frame[12..14] != ETHERTYPE.to_be_bytes() || frame[14..20] != ETHERNET_IPV4 {
        return None;
    }
    let mac = *frame[22..28].first_chunk()?;
    let sender = Ipv4Addr::from(*frame[28..32].first_chunk()?);
    if !sender.is_unspecified() {
        return Some((sender, mac));
    }
    let target = Ipv4Addr::from(*frame[38..42].first_chunk()?);
    (frame[20..22] == REQUEST).then_some((target, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

    #[rustfmt::skip]
    const PROBE: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06, // Ethernet
        0, 1, 0x08, 0x00, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 1, 0, 0, 0, 0, // from
        0, 0, 0, 0, 0, 0, 203, 0, 113, 10, // to
    ];

    #[test]
    fn frames_are_as_the_rfc_says() {
        assert_eq!(probe(MAC, ADDRESS), PROBE);
        let mut announced = PROBE;
        announced[28..32].copy_from_slice(&[203, 0, 113, 10]);
        assert_eq!(announcement(MAC, ADDRESS), announced);
    }

    #[test]
    fn speaking_from_an_address_claims_it() {
        let mut frame = announcement(MAC, ADDRESS);
        assert_eq!(claim(&frame), Some((ADDRESS, MAC)));
        // A reply does too, and so does a request for another address.
        frame[21] = 2;
        frame[38..42].copy_from_slice(&[203, 0, 113, 1]);
        assert_eq!(claim(&frame), Some((ADDRESS, MAC)));
    }

    #[test]
    fn only_a_probe_claims_its_target() {
        assert_eq!(claim(&PROBE), Some((ADDRESS, MAC)));
        let mut reply_from_nowhere = PROBE;
        reply_from_nowhere[21] = 2;
        assert_eq!(claim(&reply_from_nowhere), None);
    }

    #[test]
    fn other_frames_claim_nothing() {
        assert_eq!(claim(&[]), None);
        assert_eq!(claim(&PROBE[..41]), None);
        for (offset, value) in [(13, 0), (15, 6), (16, 0x86), (18, 8), (19, 16)] {
            let mut other = PROBE;
            other[offset] = value;
            assert_eq!(claim(&other), None, "byte {offset}");
        }
        // Padding to Ethernet's minimum is normal.
        let mut padded = PROBE.to_vec();
        padded.resize(60, 0);
        assert!(claim(&padded).is_some());
    }
}
