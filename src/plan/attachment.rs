//! One attachment's own objects: its chain, its veth's anti-spoofing, its elements.
//!
//! `pod-ID` leads to the shared policy; `if-ID`, `nd-ID` and `mc-ID` are in [`super::veth`].

use std::net::{IpAddr, Ipv6Addr};

use nft::{
    Chain, Element, Elements, Family, Field, Hook, Rule, Table, Transaction, Value, Verdict,
};

use super::base::{self, ingress};
use super::bridge::Bridge;
use super::names::{self, many_chain, nd_chain, pod_chain, veth_chain};
use super::{INET, NETDEV};

/// All that the kernel has to know of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentPlan {
    /// 16 hex digits.
    pub id: String,
    /// The host side's device.
    pub veth: String,
    /// The pod side's MAC.
    pub mac: [u8; 6],
    /// The pod's addresses, link-local ones apart.
    pub addresses: Vec<IpAddr>,
    /// Its link-local IPv6 addresses.
    pub link_local: Vec<Ipv6Addr>,
    /// The device by which its packets come to the IP layer: the veth, or the bridge that it is a port of.
    pub iif: Option<u32>,
    /// The bridge to which its packets are sent.
    pub bridge: Option<Bridge>,
    /// Where the policy starts: [`super::Compiled::name`].
    pub policy: String,
    /// What the outside sees, of each family at most one.
    pub egress: Vec<IpAddr>,
}

/// An element of one of the base's sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseElement {
    /// In which table.
    pub table: &'static Table,
    /// In which set or map.
    pub set: &'static str,
    /// The element.
    pub element: Element,
}

impl AttachmentPlan {
    /// `pod-ID`
    pub fn pod_chain(&self) -> String {
        pod_chain(&self.id)
    }

    /// `if-ID`
    pub fn veth_chain(&self) -> String {
        veth_chain(&self.id)
    }

    /// `nd-ID`
    pub fn nd_chain(&self) -> String {
        nd_chain(&self.id)
    }

    /// `mc-ID`
    pub fn many_chain(&self) -> String {
        many_chain(&self.id)
    }

    /// The hook of `if-ID`.
    pub fn veth_hook(&self) -> Hook {
        ingress(&self.veth, -500, false)
    }

    /// Chains, rules, then elements: the order in which the kernel wants them.
    pub fn add(&self) -> Transaction {
        let mut ops = Transaction::new();
        ops.add(&NETDEV, Chain::new(self.many_chain()));
        ops.add(&NETDEV, Chain::new(self.nd_chain()));
        ops.add(&NETDEV, Chain::base(self.veth_chain(), self.veth_hook()));
        ops.add(&INET, Chain::new(self.pod_chain()));
        let mut rules = |table, chain: String, rules: Vec<Rule>| {
            for rule in rules {
                ops.add(table, rule.in_chain(chain.clone()));
            }
        };
        rules(&NETDEV, self.many_chain(), self.many_rules());
        rules(&NETDEV, self.nd_chain(), self.nd_rules());
        rules(&NETDEV, self.veth_chain(), self.veth_rules());
        rules(&INET, self.pod_chain(), self.pod_rules());
        for BaseElement {
            table,
            set,
            element,
        } in self.entries()
        {
            ops.add(table, Elements::new(set, vec![element]));
        }
        for address in &self.egress {
            let set = base::egress(Family::of(address));
            ops.add(&INET, Elements::address(set, *address));
        }
        ops
    }

    /// The elements that belong to this attachment alone.
    pub fn entries(&self) -> Vec<BaseElement> {
        let mut entries = Vec::new();
        for address in &self.addresses {
            let family = Family::of(address);
            let plain = Element::of(*address);
            let mut inet = |set, element| {
                entries.push(BaseElement {
                    table: &INET,
                    set,
                    element,
                })
            };
            inet(
                base::pods(family),
                Element::of(*address).goto(self.pod_chain()),
            );
            inet(base::denied(family), plain.clone());
            inet(base::judged(family), plain.clone());
            if names::has_names(&self.policy) {
                inet(base::led(family), plain.clone());
            }
            if let Some(egress) = self.egress.iter().find(|e| Family::of(e) == family) {
                inet(base::snat(family), Element::of(*address).to(*egress));
                inet(base::snatted(family), plain.clone());
            }
            if self.bridge.is_some() {
                let set = base::bridged(family);
                entries.push(BaseElement {
                    table: &NETDEV,
                    set,
                    element: plain,
                });
            }
        }
        entries
    }

    /// The rules of `pod-ID`. The last one leads to the policy. What has the pod's address and comes from
    /// elsewhere is not the pod's.
    pub fn pod_rules(&self) -> Vec<Rule> {
        let elsewhere = self.iif.map(|iif| {
            let rule = Rule::new().not(Field::Iif, Value::Index(iif));
            rule.counter().then(Verdict::Drop)
        });
        let policy = Rule::new().then(Verdict::goto(&*self.policy));
        elsewhere.into_iter().chain([policy]).collect()
    }
}
