//! Word of what others change: the kernel tells each transaction's objects, and then who made it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::error::Error;
use super::table::Table;
use super::uapi::*;
use super::wire::{self, Message};

/// `NFNLGRP_NFTABLES` (`include/uapi/linux/netfilter/nfnetlink.h`).
const GROUP: u32 = 7;

/// The attribute that names the table, in messages about tables and about all that is in one.
const NFTA_ANY_TABLE: u16 = 1;

/// What the kernel may keep for a reader that has no time, in bytes. It is used only as far as it is needed.
const BACKLOG: usize = 2 * 1024 * 1024;

/// One datagram.
const DATAGRAM: usize = 1 << 16;

/// The rulesets' changes of the network namespace in which it was opened, as far as they concern some tables.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    tables: Vec<(u8, String)>,
    buffer: Vec<u8>,
    /// The transaction whose objects are being told concerns one of the tables.
    concerns: bool,
}

/// A transaction that concerned one of the tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    /// The process that made it, by its number in the first namespace of processes: where this one runs in another,
    /// it may know that process by another number, or not at all.
    pub pid: u32,
    /// The name of that process, as it has chosen it.
    pub name: String,
}

/// What was told since the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The transactions, in their order.
    pub changed: Vec<Changed>,
    /// Something was told that had no room any more: anything may have changed.
    pub lost: bool,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Watch {
    /// Begins to listen: what is changed from now on is told.
    ///
    /// # Errors
    /// The kernel has no nfnetlink, or no file descriptor is left.
    pub fn open(tables: &[&Table]) -> Result<Self, Error> {
        let failed = |operation| move |errno| Error::Socket { operation, errno };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open"))?;
        let bound = socket.bind(&SocketAddr::new(0, 0));
        bound.map_err(failed("bind"))?;
        // Without the right to it the usual size has to do; what is lost then is told.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG);
        let joined = socket.add_membership(GROUP);
        joined.map_err(failed("listen at"))?;
        let tables = tables.iter();
        Ok(Watch {
            socket,
            tables: tables
                .map(|table| (table.family.number(), table.name.to_string()))
                .collect(),
            buffer: vec![0; DATAGRAM],
            concerns: false,
        })
    }

    /// Takes all that has been told, without waiting for more. To wait, poll the descriptor.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub fn read(&mut self) -> Result<Heard, Error> {
        let mut heard = Heard::default();
        loop {
            let mut window = &mut self.buffer[..];
            match self.socket.recv_from(&mut window, libc::MSG_DONTWAIT) {
                // Any process may send to this socket; only port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) => self.decode(length, &mut heard),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => heard.lost = true,
                Err(errno) => {
                    return Err(Error::Socket {
                        operation: "read from",
                        errno,
                    });
                }
            }
        }
    }

    fn decode(&mut self, length: usize, heard: &mut Heard) {
        let bytes = self.buffer.get(..length).unwrap_or_default();
        for message in wire::messages(bytes) {
            if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
                continue;
            }
            if message.kind & 0xff != NFT_MSG_NEWGEN {
                self.concerns |= concerns(&self.tables, &message);
                continue;
            }
            let attrs = message.attrs();
            if std::mem::take(&mut self.concerns) {
                heard.changed.push(Changed {
                    pid: attrs.be32(NFTA_GEN_PROC_PID).unwrap_or(0),
                    name: attrs.text(NFTA_GEN_PROC_NAME).unwrap_or("").to_owned(),
                });
            }
        }
    }
}

fn concerns(tables: &[(u8, String)], message: &Message<'_>) -> bool {
    let name = message.attrs().text(NFTA_ANY_TABLE);
    let mut tables = tables.iter();
    tables
        .any(|(family, table)| message.body.first() == Some(family) && name == Some(table.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::*;
    use crate::{Chain, Nft, Object, TableFamily, Transaction};

    const OURS: Table = Table::new(TableFamily::Inet, "ours");

    #[test]
    fn only_what_concerns_a_table_is_told_with_who_did_it() {
        in_fresh_netns(|| {
            let mut watch = Watch::open(&[&OURS]).expect("a socket");
            assert_eq!(watch.read().expect("told"), Heard::default());
            run("nft", &["add table inet others; add chain inet others c"]);
            run("nft", &["add table ip ours; add chain ip ours c"]);
            assert_eq!(watch.read().expect("told"), Heard::default());
            let mut nft = Nft::open().expect("a socket");
            let mut ops = Transaction::new();
            ops.add(&OURS, Object::Table)
                .add(&OURS, Chain::new("c"))
                .add(&OURS, Chain::new("d"));
            nft.commit(&ops).expect("committed");
            let own = watch.read().expect("told").changed;
            let name = std::fs::read_to_string("/proc/thread-self/comm").expect("a name");
            let names: Vec<&str> = own.iter().map(|changed| changed.name.as_str()).collect();
            assert_eq!(names, [name.trim_end()]);
            for text in [
                "delete chain inet ours d",
                "add set inet ours s { type ipv4_addr; }",
                "add element inet ours s { 192.0.2.1 }",
                "add rule inet ours c accept",
                "flush ruleset",
            ] {
                run("nft", &[text]);
                let heard = watch.read().expect("told");
                let by: Vec<&str> = heard.changed.iter().map(|by| by.name.as_str()).collect();
                assert_eq!((by, heard.lost), (vec!["nft"], false), "{text}");
                assert!(heard.changed[0].pid != own[0].pid);
            }
        });
    }

    #[test]
    fn what_has_no_room_is_told_as_lost() {
        in_fresh_netns(|| {
            let mut watch = Watch::open(&[&OURS]).expect("a socket");
            setsockopt(&watch.socket, sockopt::RcvBufForce, &4096).expect("a smaller backlog");
            for n in 0..100 {
                let mut ops = Transaction::new();
                let table = Table::new(TableFamily::Inet, "ours");
                ops.add(&table, Object::Table)
                    .add(&table, Chain::new(format!("c{n}")));
                let mut nft = Nft::open().expect("a socket");
                nft.commit(&ops).expect("committed");
            }
            assert!(watch.read().expect("told").lost);
            setsockopt(&watch.socket, sockopt::RcvBufForce, &BACKLOG).expect("a larger backlog");
            run("nft", &["flush ruleset"]);
            let after = watch.read().expect("told");
            assert_eq!((after.changed.len(), after.lost), (1, false));
        });
    }
}
