//! What a link leaves to its device: checksums of what it sends, joining of what it receives
//! (ethtool's ioctl, linux/ethtool.h).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Error;

/// net/ethtool/ioctl.c
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Something that a device can do instead of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Checksums of packets that are sent, all kinds of them. Without it the kernel writes them before
    /// the device sees the packet, and cuts large TCP packets itself, too.
    TransmitChecksums,
    /// Joining packets that are received into larger ones. A veth can since Linux 5.13; before, the
    /// setting means nothing there.
    ReceiveJoining,
}

impl Offload {
    /// ETHTOOL_GTXCSUM and ETHTOOL_STXCSUM, ETHTOOL_GGRO and ETHTOOL_SGRO.
    fn commands(self) -> (u32, u32) {
        match self {
            Offload::TransmitChecksums => (0x16, 0x17),
            Offload::ReceiveJoining => (0x2b, 0x2c),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Offload::TransmitChecksums => "TX checksum offload",
            Offload::ReceiveJoining => "generic receive offload",
        }
    }

    /// Whether it is on at a link of the calling thread's namespace.
    ///
    /// # Errors
    /// No such link (ENODEV).
    pub fn get(self, link: &str) -> Result<bool, Error> {
        let value = ethtool(link, self.commands().0, 0)
            .map_err(|cause| Error::system(format!("read the {} of {link}", self.name()), cause))?;
        Ok(value != 0)
    }

    /// Switches it at a link of the calling thread's namespace.
    ///
    /// # Errors
    /// No such link (ENODEV), no permission, or a device that can't do otherwise.
    pub fn set(self, link: &str, on: bool) -> Result<(), Error> {
        let what = if on { "on" } else { "off" };
        let operation = || format!("switch the {} of {link} {what}", self.name());
        ethtool(link, self.commands().1, on.into())
            .map_err(|cause| Error::system(operation(), cause))?;
        // Some are taken back in silence.
        if self.get(link)? != on {
            let cause = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            return Err(Error::system(operation(), cause));
        }
        Ok(())
    }
}

/// struct ethtool_value
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// struct ifreq with its member `ifr_data`, as long as with its longest.
#[repr(C)]
struct EthtoolRequest {
    name: [u8; libc::IFNAMSIZ],
    value: *mut Value,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<EthtoolRequest>() == size_of::<libc::ifreq>());

fn ethtool(link: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    let mut request = EthtoolRequest {
        name: [0; libc::IFNAMSIZ],
        value: &raw mut value,
        rest: [0; 2],
    };
    // One byte stays for the NUL.
    if link.is_empty() || link.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    request.name[..link.len()].copy_from_slice(link.as_bytes());
    let any: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: `request` is as long as a struct ifreq (asserted above) and outlives the call, and so
    // does the struct ethtool_value that it leads to, which is all that these commands read and write.
    let result = unsafe { libc::ioctl(any.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `value` is a live, initialised local, to which the kernel may have written through the
    // address in `request`.
    Ok(unsafe { (&raw const value.data).read_volatile() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{in_fresh_netns, ip};

    #[test]
    fn switches_both_ways() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            for offload in [Offload::TransmitChecksums, Offload::ReceiveJoining] {
                let before = offload.get("v0").unwrap();
                for on in [!before, before, before] {
                    offload.set("v0", on).unwrap();
                    assert_eq!(offload.get("v0").unwrap(), on, "{offload:?}");
                    assert_eq!(offload.get("v1").unwrap(), before, "{offload:?}");
                }
            }
        });
    }

    #[test]
    fn a_missing_link_is_said() {
        in_fresh_netns(|| {
            for name in ["eth9", "", "sixteen-letters-"] {
                let error = Offload::TransmitChecksums.set(name, false).unwrap_err();
                assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
            }
        });
    }

    /// lo can't: it has nothing that it could leave to the kernel.
    #[test]
    fn what_a_device_does_not_do_is_an_error() {
        in_fresh_netns(|| {
            let error = Offload::TransmitChecksums.set("lo", false).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("switch the TX checksum offload of lo off"),
                "{text}"
            );
        });
    }
}
