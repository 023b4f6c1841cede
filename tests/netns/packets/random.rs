//! Random cases. The same seed makes the same case.

use std::net::IpAddr;

use fastrand::Rng;
use rules::effective::{DefaultAction, Effective, Tier, TierRules};

use super::case::{Case, Sent, Under, facts};
use super::world::NODE_AND_PODS;

/// Networks that meet: neighbours, one in the other, halves of the address space.
const TARGETS: [&str; 42] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "203.0.113.0/24",
    "203.0.113.0/25",
    "203.0.113.128/25",
    "203.0.113.7",
    "203.0.113.5-203.0.113.130",
    "203.0.113.53",
    "198.51.100.0/24",
    "198.51.100.100",
    "10.0.0.0/8",
    "10.1.2.0/23",
    "10.96.0.0/12",
    "10.96.0.10",
    "10.96.0.20",
    "10.244.0.0/16",
    "192.168.0.0/16",
    "192.168.7.0/30",
    "172.16.0.0/12",
    "172.30.0.11",
    "100.64.0.0/10",
    "169.254.169.254",
    "::/0",
    "::/1",
    "8000::/1",
    "2001:db8::/32",
    "2001:db8:99::/48",
    "2001:db8:99::53",
    "2001:db8:99::5-2001:db8:99::ff",
    "2001:db8:99::100",
    "fd30::11",
    "fd44::/16",
    "fd96::/112",
    "fd96::a",
    "fd00:ec2::254",
    "fc00::/7",
    "fd77::/17",
    "any",
    "Internet",
    "PRIVATE",
    "metadata",
];
const KEYWORDS: [&str; 7] = [
    "any", "internet", "private", "cluster", "node", "metadata", "dns",
];

/// At the ends of those networks, beside them, and elsewhere. All can be routed.
const DESTINATIONS: [&str; 58] = [
    "203.0.113.4",
    "203.0.113.5",
    "203.0.113.7",
    "203.0.113.8",
    "203.0.113.53",
    "203.0.113.127",
    "203.0.113.128",
    "203.0.113.130",
    "203.0.113.131",
    "203.0.114.0",
    "198.51.100.99",
    "198.51.100.100",
    "8.8.8.8",
    "128.0.0.1",
    "9.255.255.255",
    "10.0.0.1",
    "10.1.2.3",
    "10.1.4.0",
    "10.95.255.255",
    "10.96.0.10",
    "10.96.0.20",
    "10.96.0.21",
    "10.96.5.5",
    "10.112.0.0",
    "10.244.9.9",
    "10.245.0.0",
    "11.0.0.0",
    "192.168.7.3",
    "192.168.7.4",
    "192.169.0.0",
    "172.15.255.255",
    "172.16.0.1",
    "172.30.0.100",
    "172.32.0.0",
    "100.63.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "100.128.0.0",
    "169.254.169.254",
    "223.255.255.254",
    "240.0.0.1",
    "255.255.255.254",
    "2001:db8::1",
    "2001:db8:99::4",
    "2001:db8:99::5",
    "2001:db8:99::53",
    "2001:db8:99::ff",
    "2001:db8:99::100",
    "2001:db9::",
    "fd30::100",
    "fd44:9::9",
    "fd96::a",
    "fd96::20",
    "fd96::5:5",
    "fd00:ec2::254",
    "fd77::1",
    "fd77:8000::1",
    "2606:4700::1",
];

const PORTS: [&str; 27] = [
    "tcp",
    "UDP",
    "sctp",
    "443/tcp",
    "80/tcp",
    "8080/tcp",
    "53/udp",
    "53/tcp",
    "5353/udp",
    "1-1023/tcp",
    "1024-65535/tcp",
    "8000-8100/udp",
    "8000-8099/sctp",
    "443/sctp",
    "icmp",
    "icmp/8",
    "icmp/8/0",
    "icmp/3/4",
    "icmp/13",
    "icmpv6",
    "icmpv6/128",
    "icmpv6/1/3",
    "proto/47",
    "proto/253",
    "proto/17",
    "proto/1",
    "proto/58",
];
const PORT_NUMBERS: [u16; 13] = [
    443, 80, 53, 1, 1023, 1024, 5353, 7999, 8000, 8080, 8100, 8101, 65535,
];

const OPTIONS: [&str; 9] = [
    "log",
    "log=1000/s",
    "log=2/s",
    "priority=0",
    "priority=999",
    "priority=65535",
    "until=1970-01-01T00:00:00Z",
    "until=2020-05-31T23:59:59.5Z",
    "until=2250-01-01T00:00:00Z",
];

/// The case of a seed.
pub fn case(seed: u64, packets: usize) -> Case {
    let mut random = Random(Rng::with_seed(seed));
    let dns = random.chance(80);
    let mut tier = |most: usize| random.tier(most, dns);
    let mut case = Case {
        under: Under::Bridge,
        cluster_enforced: tier(4),
        namespace_enforced: tier(3),
        pod: tier(7),
        namespace_defaults: tier(4),
        cluster_defaults: tier(4),
        default_action: DefaultAction::Allow,
        cluster_audit: false,
        namespace_audit: false,
        dns,
        packets: Vec::new(),
    };
    case.under = random.one(&[Under::Bridge, Under::Ptp, Under::Calico]);
    case.cluster_audit = random.chance(12);
    case.namespace_audit = random.chance(15);
    if random.chance(50) {
        case.default_action = DefaultAction::Deny;
    }
    let mut listed = Vec::new();
    // Many rules that differ only in their addresses: what the compiler makes sets of.
    if random.chance(33) {
        let (lines, addresses) = random.list(dns);
        listed = addresses;
        let tier = match random.0.u8(0..3) {
            0 => &mut case.cluster_enforced,
            1 => &mut case.pod,
            _ => &mut case.namespace_defaults,
        };
        let at = random.0.usize(0..=tier.len());
        tier.splice(at..at, lines);
    }
    case.packets = (0..packets).map(|_| random.packet(&listed)).collect();
    for lines in [
        &mut case.cluster_enforced,
        &mut case.namespace_enforced,
        &mut case.pod,
        &mut case.namespace_defaults,
        &mut case.cluster_defaults,
    ] {
        for (n, line) in lines.iter_mut().enumerate() {
            *line = line.replace("rule-number", &format!("rule-{n}"));
        }
    }
    case
}

struct Random(Rng);

impl Random {
    fn chance(&mut self, percent: u8) -> bool {
        self.0.u8(0..100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(0..of.len())]
    }

    fn some<'a>(&mut self, of: &[&'a str], most: usize) -> Vec<&'a str> {
        (0..self.0.usize(1..=most)).map(|_| self.one(of)).collect()
    }

    /// Rules that the grammar takes. It refuses those that can never match, and a policy refuses
    /// keywords that stand for nothing; any other refusal is a fault of this test.
    fn tier(&mut self, most: usize, dns: bool) -> Vec<String> {
        let lines: Vec<String> = (0..self.0.usize(0..=most)).map(|_| self.rule()).collect();
        lines
            .into_iter()
            .filter(|line| {
                let read = TierRules::parse(Tier::Pod, "random", line, false).and_then(|tier| {
                    Effective::new(vec![tier], DefaultAction::Allow, false, facts(dns))
                });
                read.map_err(|faults| {
                    let faults = faults.to_string();
                    let known = ["can never match", "stands for nothing"];
                    assert!(known.iter().any(|k| faults.contains(k)), "{faults}");
                })
                .is_ok()
            })
            .collect()
    }

    fn rule(&mut self) -> String {
        let verb = self.one(&[
            "allow", "allow", "allow", "deny", "deny", "reject", "reject", "pass",
        ]);
        let mut words = vec![verb.to_owned()];
        if self.chance(70) {
            words.push(self.some(&PORTS, 4).join(","));
        }
        if self.chance(75) {
            words.push(format!("to {}", self.targets(4)));
        }
        if self.chance(25) {
            words.push(format!("except {}", self.targets(3)));
        }
        let mut keys = Vec::new();
        for option in self.some(&OPTIONS, 3) {
            let key = option.split('=').next().unwrap_or_default();
            // a rule that passes on logs nothing
            if self.chance(50) && !keys.contains(&key) && (key != "log" || verb != "pass") {
                keys.push(key);
                words.push(option.to_owned());
            }
        }
        if self.chance(40) {
            words.push("name=rule-number".to_owned());
        }
        words.join(" ")
    }

    fn targets(&mut self, most: usize) -> String {
        let mut targets = self.some(&TARGETS, most);
        if self.chance(40) {
            targets.push(self.one(&KEYWORDS));
        }
        targets.join(", ")
    }

    /// Hundreds of rules of one address each, now and then broken by one that is different.
    fn list(&mut self, dns: bool) -> (Vec<String>, Vec<IpAddr>) {
        let (mut lines, mut addresses) = (Vec::new(), Vec::new());
        let mut verb = self.one(&["allow", "deny", "reject"]);
        let per_rule = self.chance(50);
        for _ in 0..self.0.usize(60..300) {
            let (third, last) = (self.0.u8(112..116), self.0.u8(..));
            let address: IpAddr = if self.chance(70) {
                IpAddr::from([203, 0, third, last])
            } else {
                let last = u16::from(last);
                IpAddr::from([0x2001, 0xdb8, 0x99, 0, 0, 0, 0, last])
            };
            addresses.push(address);
            let ports = self.one(&["443/tcp ", "443/tcp,53/udp ", "8000-8100/udp ", ""]);
            let prefix = match (self.chance(10), address) {
                (true, IpAddr::V4(_)) => "/30",
                (true, IpAddr::V6(_)) => "/126",
                _ => "",
            };
            let target = if prefix.is_empty() {
                address.to_string()
            } else {
                let net: ipnet::IpNet = format!("{address}{prefix}").parse().expect("a network");
                net.trunc().to_string()
            };
            let option = if per_rule {
                self.one(&["", "", " log=1000/s"])
            } else {
                ""
            };
            lines.push(format!("{verb} {ports}to {target}{option}"));
            if self.chance(3) {
                lines.extend(self.tier(1, dns));
            }
            if self.chance(2) {
                verb = self.one(&["allow", "deny", "reject"]);
            }
        }
        (lines, addresses)
    }

    fn packet(&mut self, listed: &[IpAddr]) -> Sent {
        let to: IpAddr = match self.0.u8(0..10) {
            0 => self.one(&NODE_AND_PODS).parse().expect("an address"),
            1..=5 if !listed.is_empty() => self.one(listed),
            _ => self.one(&DESTINATIONS).parse().expect("an address"),
        };
        let v4 = to.is_ipv4();
        let protocol = self.one(&[6, 6, 6, 17, 17, 132, 1, 58, 47, 253]);
        let icmp = match (protocol, v4) {
            // errors are the veth's business: they must quote what went to the pod
            (1, true) => Some(self.one(&[(8, 0), (8, 0), (0, 0), (13, 0)])),
            (58, false) => Some(self.one(&[(128, 0), (128, 0), (129, 0)])),
            _ => None,
        };
        let port = [6, 17, 132]
            .contains(&protocol)
            .then(|| self.one(&PORT_NUMBERS));
        Sent {
            to,
            protocol,
            port,
            icmp,
        }
    }
}
