//! A bridge, its pods, and the ports that were there before us.

use sha2::{Digest, Sha256};

use nft::{Chain, Family, Field, Rule, Statement, Test, Transaction, Value, Verdict};

use super::NETDEV;
use rules::protocol::ICMPV6;

use super::base::{self, ingress};
use super::names;

/// A bridge that is its pods' gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its own MAC.
    pub mac: [u8; 6],
}

impl Bridge {
    /// The chain that sends a pod's IP packets to the bridge itself, whatever neighbour they were
    /// for: then even those to a pod on the same bridge are routed, and judged.
    pub fn chain(&self) -> String {
        names::bridge(&self.hash())
    }

    /// The chain of a port that is not ours (see [`Bridge::cover_port`]).
    pub fn port_chain(&self, port: &str) -> String {
        let digest = Sha256::digest(port.as_bytes());
        names::port(&self.chain(), &crate::hex::hex(&digest[..4]))
    }

    fn hash(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.name.as_bytes());
        digest.update([0]);
        digest.update(self.index.to_be_bytes());
        digest.update(self.mac);
        crate::hex::hex(&digest.finalize()[..4])
    }

    /// The rules of [`Bridge::chain`].
    pub fn rules(&self) -> Vec<Rule> {
        vec![
            Rule::new()
                .then(Statement::SetEtherDaddr(self.mac))
                .then(Verdict::Accept),
        ]
    }

    /// The operations that make [`Bridge::chain`].
    pub fn add(&self) -> Transaction {
        let chain = self.chain();
        let mut ops = Transaction::new();
        ops.add(&NETDEV, Chain::new(&chain));
        for rule in self.rules() {
            ops.add(&NETDEV, rule.in_chain(&chain));
        }
        ops
    }

    /// A port that was there before us. Its frames to our pods, too, must go through the host:
    /// conntrack has to see both directions of a connection, or the answers look like new ones. What has
    /// the address of one of our pods does not come in there.
    pub fn cover_port(&self, port: &str) -> Transaction {
        let chain = self.port_chain(port);
        let to_bridge = |rule: Rule| {
            let rewrite = Statement::SetEtherDaddr(self.mac);
            rule.then(rewrite).then(Verdict::Accept)
        };
        let from_pod = |ethertype, field, family| {
            Rule::new()
                .is(Field::EtherType, Value::EtherType(ethertype))
                .inside(field, base::bridged(family))
                .counter()
                .then(Verdict::Drop)
        };
        let rules = [
            // Our pods are at other ports.
            from_pod(0x0800, Field::IpSaddr, Family::V4),
            from_pod(0x86dd, Field::Ip6Saddr, Family::V6),
            // Neighbour discovery is for one link: forwarded, it is void (RFC 4861, 7.1).
            Rule::new()
                .is(Field::EtherType, Value::EtherType(0x86dd))
                .is(Field::Ip6Nexthdr, Value::Protocol(ICMPV6))
                .test(
                    Field::Icmpv6Type,
                    Test::Between(Value::U8(133), Value::U8(137)),
                )
                .then(Verdict::Accept),
            to_bridge(
                Rule::new()
                    .is(Field::EtherType, Value::EtherType(0x0800))
                    .inside(Field::IpDaddr, base::bridged(Family::V4)),
            ),
            to_bridge(
                Rule::new()
                    .is(Field::EtherType, Value::EtherType(0x86dd))
                    .inside(Field::Ip6Daddr, base::bridged(Family::V6)),
            ),
        ];
        let mut ops = Transaction::new();
        ops.add(&NETDEV, Chain::base(&chain, ingress(port, -400, true)));
        for rule in rules {
            ops.add(&NETDEV, rule.in_chain(&chain));
        }
        ops
    }
}
