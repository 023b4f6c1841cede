//! What the kernel has counted: packets and bytes of rules, and of the elements of sets.

use std::net::IpAddr;
use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

use super::attrs;
use super::elements::{address, verdict_chain};
use crate::error::Error;
use crate::socket::Nft;
use crate::table::Table;
use crate::uapi::*;
use crate::wire::Attrs;

/// Packets and their bytes, from the IP header on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// How many packets.
    pub packets: u64,
    /// How many bytes they had together.
    pub bytes: u64,
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl std::iter::Sum for Counter {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |mut sum, counter| {
            sum += counter;
            sum
        })
    }
}

/// A rule that counts, or an element that does so for a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleCounter {
    /// Its comment.
    pub comment: Option<String>,
    /// What it counted.
    pub counter: Counter,
}

/// An element of a set or map that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementCounter {
    /// Which element.
    pub address: IpAddr,
    /// In a verdict map, the chain that it leads to.
    pub chain: Option<String>,
    /// What it counted.
    pub counter: Counter,
}

impl Nft {
    /// The rules of a chain that have a counter, in their order; none if there is no such chain.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn rule_counters(&mut self, table: &Table, chain: &str) -> Result<Vec<RuleCounter>, Error> {
        let rules = self.dump_rules(table, chain)?;
        Ok(rules
            .iter()
            .filter_map(|b| rule_counter(attrs(b)))
            .collect())
    }

    /// The elements of a set or map of addresses, each with its counter; none if there is no such
    /// set.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn element_counters(
        &mut self,
        table: &Table,
        set: &str,
    ) -> Result<Vec<ElementCounter>, Error> {
        self.elements(table, set, element_counter)
    }

    /// What a set's elements that count for rules have counted; none if there is no such set.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn cell_counters(&mut self, table: &Table, set: &str) -> Result<Vec<RuleCounter>, Error> {
        self.elements(table, set, cell_counter)
    }
}

impl Nft {
    /// How long ago a packet brought each element of a set that rules fill, and in which elements
    /// live so long; none if there is no such set. Exact to a tick of the kernel's, at most 10 ms.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn element_ages(
        &mut self,
        table: &Table,
        set: &str,
        timeout: Duration,
    ) -> Result<Vec<(IpAddr, Duration)>, Error> {
        self.elements(table, set, |element| {
            let key = element.nest(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?;
            let left = Duration::from_millis(element.be64(NFTA_SET_ELEM_EXPIRATION)?);
            Some((address(key)?, timeout.saturating_sub(left)))
        })
    }
}

/// None: the element is only the end of an interval.
fn cell_counter(element: Attrs<'_>) -> Option<RuleCounter> {
    Some(RuleCounter {
        comment: element.get(NFTA_SET_ELEM_USERDATA).and_then(comment),
        counter: counter(element.nest(NFTA_SET_ELEM_EXPR)?)?,
    })
}

/// None: the rule has no counter.
fn rule_counter(rule: Attrs<'_>) -> Option<RuleCounter> {
    let expressions = rule.nest(NFTA_RULE_EXPRESSIONS)?;
    Some(RuleCounter {
        comment: rule.get(NFTA_RULE_USERDATA).and_then(comment),
        counter: expressions
            .iter()
            .find_map(|(_, _, expression)| counter(Attrs(expression)))?,
    })
}

fn element_counter(element: Attrs<'_>) -> Option<ElementCounter> {
    let key = element.nest(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?;
    Some(ElementCounter {
        address: address(key)?,
        chain: verdict_chain(element),
        counter: element
            .nest(NFTA_SET_ELEM_EXPR)
            .and_then(counter)
            .unwrap_or_default(),
    })
}

/// None: the expression is not a counter.
fn counter(expression: Attrs<'_>) -> Option<Counter> {
    if expression.text(NFTA_EXPR_NAME) != Some("counter") {
        return None;
    }
    let data = expression.nest(NFTA_EXPR_DATA)?;
    Some(Counter {
        packets: data.be64(NFTA_COUNTER_PACKETS)?,
        bytes: data.be64(NFTA_COUNTER_BYTES)?,
    })
}

/// libnftnl's type, length, value; the value has a NUL at its end.
pub(super) fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        userdata = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::table::TableFamily;
    use crate::test_support::{in_fresh_netns, run};

    const FILTER: Table = Table::new(TableFamily::Inet, "filter");
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

    #[test]
    fn comments_are_found_behind_other_data() {
        assert_eq!(comment(b"\x00\x06pod:3\0").as_deref(), Some("pod:3"));
        assert_eq!(comment(b"\x05\x01x\x00\x02a\0").as_deref(), Some("a"));
        for broken in [&b""[..], b"\x00", b"\x00\x09pod", b"\x05\x01x"] {
            assert_eq!(comment(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn counters_are_those_that_nft_set() {
        let count = |packets, bytes| Counter { packets, bytes };
        in_fresh_netns(|| {
            run(
                "nft",
                &["add table inet filter
                   add chain inet filter pod-1
                   add map inet filter pod4 { type ipv4_addr : verdict; counter; }
                   add set inet filter denied6 { type ipv6_addr; counter; }
                   add rule inet filter pod-1 udp dport 7 counter packets 5 bytes 600 accept comment \"pod:3\"
                   add rule inet filter pod-1 udp dport 8 accept comment \"pod:4\"
                   add rule inet filter pod-1 counter drop
                   add element inet filter pod4 { 10.0.0.2 counter packets 4294967296 bytes 7 : goto pod-1 }
                   add element inet filter denied6 { fd00::2 counter packets 1 bytes 2 }"],
            );
            let mut nft = Nft::open().expect("a socket");
            let rules = nft.rule_counters(&FILTER, "pod-1").expect("rules");
            let seen: Vec<_> = rules
                .iter()
                .map(|r| (r.comment.as_deref(), r.counter))
                .collect();
            assert_eq!(seen, [(Some("pod:3"), count(5, 600)), (None, count(0, 0))]);
            let judged = nft.element_counters(&FILTER, "pod4").expect("elements");
            assert_eq!(
                judged,
                [ElementCounter {
                    address: IpAddr::from([10, 0, 0, 2]),
                    chain: Some("pod-1".to_owned()),
                    counter: count(4_294_967_296, 7),
                }]
            );
            let denied = nft.element_counters(&FILTER, "denied6").expect("elements");
            assert_eq!(denied[0].address.to_string(), "fd00::2");
            assert_eq!(
                (denied[0].chain.clone(), denied[0].counter),
                (None, count(1, 2))
            );
            for missing in ["pod6", "no-such-set"] {
                assert_eq!(
                    nft.element_counters(&FILTER, missing).expect("no error"),
                    []
                );
            }
            assert_eq!(nft.rule_counters(&FILTER, "pod-2").expect("no error"), []);
        });
    }

    #[test]
    fn what_packets_bring_has_an_age() {
        in_fresh_netns(|| {
            run(
                "nft",
                &["add table inet filter
                   add set inet filter last4 { type ipv4_addr; size 9; flags dynamic,timeout; timeout 30d; }
                   add element inet filter last4 { 127.0.0.2 timeout 30d expires 29d23h }
                   add chain inet filter c { type filter hook output priority 0; }
                   add rule inet filter c update @last4 { ip daddr }"],
            );
            let mut nft = Nft::open().expect("a socket");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket.send_to(b"x", "127.0.0.1:9").expect("send");
            let mut ages = nft.element_ages(&FILTER, "last4", MONTH).expect("elements");
            ages.sort();
            let minutes: Vec<_> = ages
                .iter()
                .map(|(address, age)| (address.to_string(), age.as_secs() / 600))
                .collect();
            let wanted = [("127.0.0.1".to_owned(), 0), ("127.0.0.2".to_owned(), 6)];
            assert_eq!(minutes, wanted);
            assert_eq!(
                nft.element_ages(&FILTER, "no-such-set", MONTH)
                    .expect("no error"),
                []
            );
        });
    }
}
