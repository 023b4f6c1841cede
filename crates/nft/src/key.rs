//! What the key of a set is made of: one such kind, or several in a row.

/// One kind of key, as nft and libnftnl know it (nft's `enum datatypes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The kernel keeps it for `nft list`.
    pub number: u32,
    /// nft's word.
    pub name: &'static str,
    /// In bytes.
    pub length: u32,
}

const fn key(number: u32, name: &'static str, length: u32) -> Key {
    Key {
        number,
        name,
        length,
    }
}

pub(super) const IPV4: Key = key(7, "ipv4_addr", 4);
pub(super) const IPV6: Key = key(8, "ipv6_addr", 16);
pub(super) const ETHER: Key = key(9, "ether_addr", 6);
pub(super) const PROTOCOL: Key = key(12, "inet_proto", 1);
pub(super) const SERVICE: Key = key(13, "inet_service", 2);
pub(super) const ICMP_TYPE: Key = key(14, "icmp_type", 1);
pub(super) const MARK: Key = key(19, "mark", 4);
pub(super) const ICMPV6_TYPE: Key = key(29, "icmpv6_type", 1);
pub(super) const FIB_ADDRTYPE: Key = key(38, "fib_addrtype", 4);
pub(super) const INTERFACE: Key = key(41, "ifname", 16);
