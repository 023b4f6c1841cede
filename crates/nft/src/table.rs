//! Tables, which hold everything else.

use std::borrow::Cow;
use std::fmt;

use super::uapi::*;

/// The family of a table: which packets its chains may see (`enum nf_proto` in
/// `include/uapi/linux/netfilter.h`).
///
/// Not to be taken for [`Family`](super::Family), which tells IPv4 from IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
    /// Frames that a bridge forwards.
    Bridge,
    /// All frames of single devices, where they come in and go out.
    Netdev,
}

impl TableFamily {
    /// The kernel's number, `NFPROTO_*`.
    pub const fn number(self) -> u8 {
        match self {
            TableFamily::Ip => NFPROTO_IPV4,
            TableFamily::Ip6 => NFPROTO_IPV6,
            TableFamily::Inet => NFPROTO_INET,
            TableFamily::Arp => NFPROTO_ARP,
            TableFamily::Bridge => NFPROTO_BRIDGE,
            TableFamily::Netdev => NFPROTO_NETDEV,
        }
    }

    /// nft's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
            TableFamily::Inet => "inet",
            TableFamily::Arp => "arp",
            TableFamily::Bridge => "bridge",
            TableFamily::Netdev => "netdev",
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A table: `inet filter`.
///
/// Its name may be a constant, so that the table can be one, too:
///
/// ```
/// use nft::{Table, TableFamily};
///
/// const FILTER: Table = Table::new(TableFamily::Inet, "filter");
/// assert_eq!(FILTER.to_string(), "inet filter");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    /// Which packets its chains may see.
    pub family: TableFamily,
    /// Its name: at most 255 bytes, as all names of nf_tables. The kernel would take a word of nft's own language,
    /// too, such as `map` or `devices`; `nft -f` then does not read what a [`Transaction`](super::Transaction) prints.
    pub name: Cow<'static, str>,
}

impl Table {
    /// The table of this name.
    pub const fn new(family: TableFamily, name: &'static str) -> Self {
        let name = Cow::Borrowed(name);
        Self { family, name }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}
