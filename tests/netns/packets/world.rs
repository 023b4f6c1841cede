//! The node on which cases are tried: pods of three kinds, Services, a neighbour and the world
//! outside, which swallow what reaches them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use netlink::nflog::{Logged, Nflog};
use rules::verdict::Verdict;
use serde_json::{Value, json};

use super::bytes;
use super::case::{CLUSTER, Case, DNS, Sent, Under};
use super::expected::{Expected, Fate};
use super::eye::{Eye, Hand};
use super::sightings::{Disagreement, Sightings};
use crate::harness::cni::binary;
use crate::harness::{Netns, Node, Pod, PodSpec, Policy, Primary, exec};

/// The node's own addresses, as far as packets are sent there.
pub const LOCAL: [&str; 4] = ["172.30.0.11", "10.244.1.1", "fd30::11", "fd44:1::1"];
/// These, and the neighbour on the bridge.
pub const NODE_AND_PODS: [&str; 6] = [
    "172.30.0.11",
    "10.244.1.1",
    "fd30::11",
    "fd44:1::1",
    "10.244.1.2",
    "fd44:1::2",
];

/// Services: address, port and protocol as asked, address and port behind it.
const SERVICES: [(&str, u16, u8, &str, u16); 9] = [
    ("10.96.0.10", 53, 17, "203.0.113.53", 5353),
    ("10.96.0.10", 53, 6, "203.0.113.53", 5353),
    ("fd96::a", 53, 17, "2001:db8:99::53", 5353),
    ("fd96::a", 53, 6, "2001:db8:99::53", 53),
    ("10.96.0.20", 80, 6, "198.51.100.100", 8080),
    ("10.96.0.20", 443, 6, "10.244.1.2", 443),
    ("10.96.0.21", 80, 6, "172.30.0.11", 8080),
    ("fd96::20", 80, 6, "2001:db8:99::100", 8080),
    ("fd96::20", 443, 132, "fd44:1::2", 443),
];

/// Where a packet really goes.
pub fn translated(sent: &Sent) -> (IpAddr, Option<u16>) {
    let service = SERVICES.iter().find(|(address, port, protocol, ..)| {
        (address.parse(), Some(*port), *protocol) == (Ok(sent.to), sent.port, sent.protocol)
    });
    match service {
        Some((.., to, port)) => (to.parse().expect("an address"), Some(*port)),
        None => (sent.to, sent.port),
    }
}

/// The log groups of the platform's rules, and of all others.
const RULES: [u16; 2] = [100, 101];
/// A log group of packets that the node itself got.
const ARRIVED: u16 = 201;

/// Where to look at what happens.
pub struct World<'n> {
    node: &'n Node,
    pods: Vec<(Under, Pod<'n>, Hand, Eye)>,
    outside: Eye,
    neighbour: Eye,
    rules: [Nflog; 2],
    arrived: Nflog,
    serial: u32,
    /// How many packets met each fate, by what was expected.
    pub fates: BTreeMap<Fate, usize>,
    // keeps the neighbour
    _peer: Pod<'n>,
}

impl<'n> World<'n> {
    pub fn new(node: &'n Node) -> Self {
        let peer = node.pod(PodSpec::new("peer", Primary::Bridge));
        assert_eq!(
            peer.addresses().map(|a| a.to_string()),
            [NODE_AND_PODS[4], NODE_AND_PODS[5]]
        );
        for netns in [&node.ext, &peer.netns] {
            swallow(netns);
        }
        node.netns.nft(&services());
        // No rate limit keeps an ICMP error from being seen.
        node.netns.sysctls(&[
            ("net/ipv4/icmp_ratemask", "0"),
            ("net/ipv6/icmp/ratemask", "255"),
        ]);
        let kinds = [
            (Under::Bridge, Primary::Bridge),
            (Under::Ptp, Primary::Ptp),
            (Under::Calico, Primary::Calico),
        ];
        let pods = kinds.map(|(under, primary)| {
            let pod = node.pod(PodSpec::new(&format!("{under:?}").to_lowercase(), primary));
            let (hand, eye) = (Hand::open(&pod.netns), Eye::open(&pod.netns));
            (under, pod, hand, eye)
        });
        let nflog = |group| {
            node.netns
                .run(|| Nflog::bind(group, Instant::now() + exec::seconds(5)))
                .expect("a log group")
        };
        Self {
            node,
            pods: pods.into(),
            outside: Eye::open(&node.ext),
            neighbour: Eye::open(&peer.netns),
            rules: RULES.map(nflog),
            arrived: nflog(ARRIVED),
            serial: 0,
            fates: BTreeMap::new(),
            _peer: peer,
        }
    }

    /// Tries a case. Err: what is different from what the evaluator says, and the packets concerned.
    pub fn try_case(&mut self, case: &Case) -> Result<(), Disagreement> {
        // The kernel goes on counting for a policy that it has already: make each a new one.
        let mut case = case.clone();
        case.cluster_defaults
            .insert(0, format!("deny to 192.0.2.1 name=try-{}", self.serial));
        let case = &case;
        let pod = self.attach(case);
        let effective = case.effective();
        let expected: Vec<Expected> = case
            .packets
            .iter()
            .map(|sent| Expected::of(&effective, sent))
            .collect();
        for expected in &expected {
            *self.fates.entry(expected.fate).or_default() += 1;
        }
        let before = self.totals(pod);
        let first = self.serial;
        self.serial += case.packets.len() as u32;
        let seen = self.send(pod, case, first, &expected);
        let mut wrong = Disagreement::default();
        for (n, what) in seen.differences(&expected) {
            wrong.packets.push(n);
            let (sent, expected) = (&case.packets[n], &expected[n]);
            wrong.note(Some(format!("{sent:?}: {what}; expected {expected:?}")));
        }
        wrong.note(seen.log_difference(&expected));
        wrong.note(self.counters(pod, case, &expected, before));
        self.explanations(pod, case, &expected, &mut wrong);
        if wrong.text.is_empty() {
            Ok(())
        } else {
            Err(wrong)
        }
    }

    /// Makes the policy the pod's, and says which pod it is.
    fn attach(&mut self, case: &Case) -> usize {
        let [
            enforced,
            namespace_enforced,
            pod,
            namespace_defaults,
            defaults,
        ] = case.tiers().map(|(_, text)| text);
        let audit = |audit| if audit { "audit" } else { "enforce" };
        let mut policy = Policy::default()
            .set("clusterCIDRs", json!(CLUSTER))
            .set("clusterDNS", if case.dns { json!(DNS) } else { json!([]) })
            .enforced(&enforced)
            .defaults(&defaults)
            .default_action(case.default_action.as_str())
            .mode(audit(case.cluster_audit))
            .namespace("shop", "mode", audit(case.namespace_audit));
        for (key, text) in [
            ("enforced-rules", namespace_enforced),
            ("default-rules", namespace_defaults),
        ] {
            if !text.is_empty() {
                policy = policy.namespace("shop", key, &text);
            }
        }
        self.node.set_policy(&policy);
        let found = self
            .pods
            .iter()
            .position(|(under, ..)| *under == case.under);
        let n = found.expect("a pod of each kind");
        self.pods[n].1.readd(&pod);
        n
    }

    /// Sends all packets, and looks until everything expected has been seen, or for long.
    fn send(&mut self, pod: usize, case: &Case, first: u32, expected: &[Expected]) -> Sightings {
        let mut seen = Sightings::new(first, case.packets.len());
        for (n, sent) in case.packets.iter().enumerate() {
            let (_, from, hand, _) = &self.pods[pod];
            let from = if sent.to.is_ipv4() { from.v4 } else { from.v6 };
            hand.send(sent.to, &bytes::build(from, sent, first + n as u32));
            if n % 32 == 31 {
                self.look(pod, &mut seen);
            }
        }
        let started = Instant::now();
        loop {
            self.look(pod, &mut seen);
            if seen.differences(expected).is_empty() && seen.log_difference(expected).is_none() {
                return seen;
            }
            if started.elapsed() > exec::seconds(3) {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn look(&mut self, pod: usize, seen: &mut Sightings) {
        for eye in [&mut self.outside, &mut self.neighbour] {
            eye.read().iter().for_each(|packet| seen.arrival(packet));
        }
        for logged in receive(&mut self.arrived) {
            seen.arrival(&bytes::read(&logged.payload).expect("an IP packet"));
        }
        let (_, pod, _, eye) = &mut self.pods[pod];
        for packet in eye.read() {
            seen.refusal(&packet);
        }
        for logged in self.rules.iter_mut().flat_map(receive) {
            seen.log_line(&logged, pod.addresses());
        }
    }

    /// What `show` says of the pod.
    fn detail(&self, pod: usize) -> Value {
        let name = &self.pods[pod].1.spec.name;
        self.tool(&format!("show shop/{name} -o json"))
    }

    /// How many of the pod's packets were judged and denied since it was attached first.
    fn totals(&self, pod: usize) -> (u64, u64) {
        totals(&self.detail(pod))
    }

    /// What `show` says that rules counted, and what the pod's totals have risen by since `before`, against
    /// what should have moved.
    fn counters(
        &self,
        pod: usize,
        case: &Case,
        expected: &[Expected],
        before: (u64, u64),
    ) -> Option<String> {
        let detail = self.detail(pod);
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for label in expected.iter().flat_map(|e| &e.counted) {
            *wanted.entry(label).or_default() += 1;
        }
        let tiers = detail["tiers"].as_array().into_iter().flatten();
        let rules = tiers.flat_map(|tier| tier["rules"].as_array().into_iter().flatten());
        let found: BTreeMap<&str, u64> = rules
            .chain([&detail["default"]])
            .filter_map(|rule| {
                let count = rule["counted"]["packets"].as_u64().filter(|n| *n > 0)?;
                Some((rule["rule"].as_str()?, count))
            })
            .collect();
        let denied = expected
            .iter()
            .filter(|e| e.verdict != Verdict::Allow)
            .count();
        let wanted_totals = (case.packets.len() as u64, denied as u64);
        let (judged, denied_by_now) = totals(&detail);
        let totals = (judged - before.0, denied_by_now - before.1);
        let problems = &detail["problems"];
        (found != wanted || totals != wanted_totals || problems != &json!([])).then(|| {
            format!(
                "counters {found:?}, expected {wanted:?}\n\
                 judged and denied {totals:?}, expected {wanted_totals:?}; problems {problems}"
            )
        })
    }

    /// What `explain` says of some of the packets.
    fn explanations(
        &self,
        pod: usize,
        case: &Case,
        expected: &[Expected],
        wrong: &mut Disagreement,
    ) {
        let name = &self.pods[pod].1.spec.name;
        let every = case.packets.len().div_ceil(EXPLAINED);
        for (n, sent) in case.packets.iter().enumerate().step_by(every.max(1)) {
            // `explain` knows no ICMP of the other family.
            if sent.icmp.is_none() && [1, 58].contains(&sent.protocol) {
                continue;
            }
            let expected = &expected[n];
            let question = question(sent, expected);
            let line = format!("explain shop/{name} {question} -o json");
            let answer = self.tool(&line)["answers"][0].take();
            let said = (answer["verdict"].as_str(), answer["rule"].as_str());
            if said != (Some(expected.verdict.as_str()), Some(&expected.label)) {
                wrong.packets.push(n);
                wrong.note(Some(format!("{line}: {said:?}; expected {expected:?}")));
            }
        }
    }

    /// What a subcommand says, as JSON, whatever its exit status.
    fn tool(&self, words: &str) -> Value {
        let mut command = Command::new(binary("egressway"));
        command.args(words.split_whitespace());
        command.arg("--state-dir").arg(self.node.state_dir());
        let output = self.node.netns.exec_with(&mut command, b"");
        let text = output.stdout_text();
        serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{words}: {e}: {text}{}", output.stderr))
    }
}

/// How many packets of a case are explained: each is a call of the tool.
const EXPLAINED: usize = 8;

fn question(sent: &Sent, expected: &Expected) -> String {
    let to = expected.destination;
    let at = match to {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    };
    let traffic = match (sent.protocol, sent.icmp, expected.port) {
        (6, _, Some(port)) => format!("{at}:{port}/tcp"),
        (17, _, Some(port)) => format!("{at}:{port}/udp"),
        (132, _, Some(port)) => format!("{at}:{port}/sctp"),
        (1, Some((kind, code)), _) => format!("{to}/icmp/{kind}/{code}"),
        (58, Some((kind, code)), _) => format!("{to}/icmpv6/{kind}/{code}"),
        (protocol, ..) => format!("{to}/proto/{protocol}"),
    };
    if to == sent.to {
        return traffic;
    }
    let via = std::net::SocketAddr::new(sent.to, sent.port.unwrap_or_default());
    format!("{traffic} --via {via}")
}

fn receive(log: &mut Nflog) -> Vec<Logged> {
    let mut all = Vec::new();
    loop {
        let some = log.receive().expect("log messages");
        if some.is_empty() {
            assert_eq!(log.lost(), Default::default(), "log messages were lost");
            return all;
        }
        all.extend(some);
    }
}

/// Answers nothing, so that every packet is its flow's first.
fn swallow(netns: &Netns) {
    netns.nft(
        "table inet swallow {
           chain incoming {
             type filter hook prerouting priority -400; policy drop;
             icmpv6 type { 133-137 } accept
           }
         }",
    );
}

/// The Services, as kube-proxy translates them; and a log of what the node itself gets.
fn services() -> String {
    let mut rules = String::new();
    for (address, port, protocol, to, to_port) in SERVICES {
        let (ip, to) = match to.parse() {
            Ok(IpAddr::V6(_)) => ("ip6", format!("[{to}]")),
            _ => ("ip", to.to_owned()),
        };
        let protocol = match protocol {
            6 => "tcp",
            17 => "udp",
            _ => "sctp",
        };
        rules.push_str(&format!(
            "{ip} daddr {address} {protocol} dport {port} dnat {ip} to {to}:{to_port}\n"
        ));
    }
    format!(
        "table inet services {{
           chain translate {{ type nat hook prerouting priority -100; {rules} }}
         }}
         table inet eye {{
           chain input {{
             type filter hook input priority -300;
             iifname != {{ lo, eth0 }} log group {ARRIVED} snaplen 128
           }}
         }}"
    )
}

/// Judged and denied packets.
fn totals(detail: &Value) -> (u64, u64) {
    let total = |of: &str| detail[of]["packets"].as_u64().unwrap_or(0);
    (total("judged"), total("denied"))
}
