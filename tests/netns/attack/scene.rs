//! An attacker, its victim, and eyes on everything around them.

use super::case::{Case, Place};
use crate::harness::capture::contains;
use crate::harness::egress::{BOTH, EGRESS};
use crate::harness::exec::{self, limit};
use crate::harness::node::{EXT, FAR, METADATA, NODE, ip};
use crate::harness::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::iter;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// What Services have in common with the harness: addresses that no interface has.
const VIPS: [&str; 2] = ["10.96.0.80", "fd96::80"];
/// The NFLOG group of the node's eye.
const GROUP: u16 = 9;
/// Before a case could have put the attacker's MAC there.
const NOBODY: &str = "02:00:00:00:00:01";

/// How the attacker is governed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// Our plugin is not in the chain.
    Absent,
    /// The attacker may do everything.
    Open,
    /// The attacker may reach the ports 10 and 30010, and nothing else.
    Closed,
}

pub struct Scene<'n> {
    node: &'n Node,
    attacker: Pod<'n>,
    victim: Pod<'n>,
    /// In its namespace are the egress addresses.
    _owner: Option<Pod<'n>>,
    /// Where the node meets its pods.
    device: String,
    eyes: Eyes,
}

struct Eyes {
    outside: Capture,
    victim: Capture,
    outside_sockets: Vec<UdpSocket>,
    victim_sockets: Vec<UdpSocket>,
    node: Nflog,
    outside_received: Vec<Vec<u8>>,
    victim_received: Vec<Vec<u8>>,
}

/// Cases by their number in the table, which is also their mark.
pub type Numbered<'c> = [(usize, &'c Case)];

impl<'n> Scene<'n> {
    pub fn node(bridge_nf: bool) -> Node {
        let node = Node::new(NodeOptions {
            bridge_nf,
            ..NodeOptions::default()
        });
        node.set_policy(&Policy::default().namespace("bank", "egress-ip", BOTH));
        node
    }

    pub fn new(node: &'n Node, primary: Primary, plugin: Plugin) -> Self {
        let pod = |name: &str, rules: Option<&str>| {
            let mut spec = PodSpec::new(name, primary);
            if plugin == Plugin::Absent {
                spec = spec.uncovered();
            }
            node.pod(match rules {
                Some(rules) => spec.rules(rules),
                None => spec,
            })
        };
        let closed = "deny to multicast\nallow 10/tcp, 10/udp, 30010/udp to any\ndeny to any";
        let attacker = pod("attacker", (plugin == Plugin::Closed).then_some(closed));
        let victim = pod("victim", None);
        let owner = if plugin == Plugin::Absent {
            for (address, length) in EGRESS.iter().zip([32, 128]) {
                let add = format!("addr add {address}/{length} dev eth0");
                node.netns.ip(&add);
            }
            None
        } else {
            Some(node.pod(PodSpec::new("owner", primary).namespace("bank")))
        };
        let device = match primary {
            Primary::Bridge => "cni0",
            _ => &attacker.veth,
        }
        .to_owned();
        let eyes = Eyes::open(node, &victim);
        let scene = Self {
            node,
            attacker,
            victim,
            _owner: owner,
            device,
            eyes,
        };
        scene.prepare();
        scene
    }

    /// Whatever slows an attack down without being a defence is taken away.
    fn prepare(&self) {
        // A known address may get another MAC at once, and proxy ARP answers at once.
        let device = &self.device;
        self.node.netns.sysctls(&[
            (&format!("net/ipv4/neigh/{device}/locktime"), "0"),
            (&format!("net/ipv4/neigh/{device}/proxy_delay"), "0"),
        ]);
        // What is believed is looked at when all is sent, which on a busy machine is later than the
        // kernel asks back: a case that worked would pass for one that did not.
        for (netns, device) in [(&self.node.netns, &**device), (&self.victim.netns, "eth0")] {
            for family in ["ipv4", "ipv6"] {
                let asks = format!("net/{family}/neigh/{device}/delay_first_probe_time");
                netns.sysctls(&[(&asks, "3600")]);
            }
        }
        // The victim is a router, as a VPN's pod is.
        self.victim.netns.sysctls(&[
            ("net/ipv4/neigh/eth0/locktime", "0"),
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/eth0/accept_ra", "0"),
        ]);
        // Everybody knows its neighbours: nothing waits in a queue while an attack runs.
        let mut probes = Vec::new();
        for (ext, family) in EXT.map(ip).into_iter().zip(0..) {
            probes.push(Probe::ping(&self.victim.netns, ext, Want::Reached));
            let address = self.attacker.addresses()[family];
            probes.push(Probe::ping(&self.node.ext, address, Want::Reached));
        }
        check(self.node, &probes);
    }

    /// Translates Services as kube-proxy would.
    pub fn translate_services(&self) {
        let mut rules = String::new();
        for family in 0..2 {
            let (word, vip, ext) = (["ip", "ip6"][family], VIPS[family], ip(EXT[family]));
            let victim = self.victim.addresses()[family];
            let to = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port);
            for (matches, target) in [
                (format!("{word} daddr {vip} udp dport 10"), to(ext, 9)),
                (format!("{word} daddr {vip} udp dport 9"), to(ext, 10)),
                (format!("{word} daddr {vip} udp dport 30010"), to(victim, 9)),
                (
                    "fib daddr type local udp dport 30010".to_owned(),
                    to(ext, 9),
                ),
                (
                    "fib daddr type local udp dport 30011".to_owned(),
                    to(victim, 10),
                ),
            ] {
                let nfproto = ["ipv4", "ipv6"][family];
                let _ = writeln!(
                    rules,
                    "meta nfproto {nfproto} {matches} dnat {word} to {target}"
                );
            }
        }
        self.node.netns.nft(&format!(
            "table inet services {{\n chain translate {{\n type nat hook prerouting priority -100\n {rules} }}\n }}"
        ));
    }

    /// Sends all cases in one go and says which arrived. `expected` are waited for; what else comes, came before
    /// the truthful packets that follow.
    pub fn attack(&mut self, cases: &Numbered<'_>, expected: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut program = self.names() + include_str!("scene.py") + include_str!("flows.py");
        for (n, case) in cases {
            let claims = self.claims(*n);
            if matches!(case.at, Place::VictimsNeighbours | Place::NodesNeighbours) {
                self.let_know(&claims);
            }
            let _ = writeln!(
                program,
                "mark({n}); claim4, claim6 = '{}', '{}'\n{}",
                claims[0], claims[1], case.sends
            );
        }
        // The truth follows on every way: what is behind it in a queue is late, not stopped.
        let truths = [
            "tx(E / IP(src=me4, dst=ext4) / u10 / m)",
            "tx(E / IPv6(src=me6, dst=ext6) / u10 / m)",
            "tx(E / IP(src=me4, dst=victim4) / u10 / m)",
            "tx(E / IPv6(src=me6, dst=victim6) / u10 / m)",
            "tx(E / IP(src=me4, dst=node4) / u10 / m)",
            "tx(E / IPv6(src=me6, dst=node6) / u10 / m)",
        ];
        let places = [Place::Outside, Place::Victim, Place::Node];
        for (n, truth) in truths.iter().enumerate() {
            let _ = writeln!(program, "mark({})\n{truth}", TRUTH + n);
        }
        self.run(&program);
        let started = Instant::now();
        // What a neighbour table believed goes after a while: once seen is seen.
        let mut arrived = BTreeSet::new();
        loop {
            self.eyes.look();
            let now = cases.iter().filter(|(n, case)| self.arrived(*n, case.at));
            arrived.extend(now.map(|(n, _)| *n));
            let truthful = (0..truths.len()).all(|n| self.arrived(TRUTH + n, places[n / 2]));
            if truthful && expected.is_subset(&arrived) {
                return arrived;
            }
            if started.elapsed() > limit() {
                assert!(
                    truthful,
                    "the truth did not arrive\n{}",
                    self.node.describe()
                );
                return arrived;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, program: &str) {
        let mut python = Command::new("/usr/bin/python3");
        let child = self
            .attacker
            .netns
            .spawn(python.args(["-W", "ignore", "-"]));
        // Some two hundred frames, while other scenes do the same.
        let output = exec::finish_within(child, program.as_bytes(), "scapy", limit() * 4);
        assert_eq!(output.code, Some(0), "{}\n{program}", output.stderr);
    }

    /// An address of each family that only this case lies about.
    fn claims(&self, n: usize) -> [String; 2] {
        let beside = |address: IpAddr, separator: char, last: String| {
            let text = address.to_string();
            let (network, _) = text.rsplit_once(separator).expect("an address");
            format!("{network}{separator}{last}")
        };
        [
            beside(self.attacker.v4, '.', (100 + n).to_string()),
            beside(self.attacker.v6, ':', format!("c{n:03x}")),
        ]
    }

    /// Victim and node know these addresses, as somebody's.
    fn let_know(&self, claims: &[String; 2]) {
        for (netns, device) in [
            (&self.victim.netns, "eth0"),
            (&self.node.netns, &*self.device),
        ] {
            for claim in claims {
                netns.ip(&format!(
                    "neigh replace {claim} lladdr {NOBODY} dev {device} nud stale"
                ));
            }
        }
    }

    fn arrived(&self, n: usize, at: Place) -> bool {
        let mark = format!("~{n:04x}~");
        match at {
            Place::Outside => {
                self.eyes.outside.saw(&mark) || has(&self.eyes.outside_received, &mark)
            }
            Place::Victim => self.eyes.victim.saw(&mark) || has(&self.eyes.victim_received, &mark),
            Place::Node => self.eyes.node.saw(&mark),
            Place::VictimsNeighbours => self.believed(&self.victim.netns, "eth0", n),
            Place::NodesNeighbours => self.believed(&self.node.netns, &self.device, n),
        }
    }

    fn believed(&self, netns: &Netns, device: &str, n: usize) -> bool {
        self.claims(n).iter().any(|claim| {
            let entries = netns.ip_json(&format!("neigh show {claim} dev {device}"));
            entries[0]["lladdr"] == self.attacker.mac
        })
    }

    /// The program's names, as `table` explains them.
    fn names(&self) -> String {
        let (attacker, victim, node) = (&self.attacker, &self.victim, &self.node.netns);
        let gateway = self.gateway();
        let free = ["10.244.1.250", "fd44:1::250"];
        let network = attacker.v4.to_string();
        let all4 = format!("{}.255", network.rsplit_once('.').expect("an address").0);
        let mut names = String::new();
        for (name, value) in [
            ("HERE", attacker.netns.name()),
            ("EXT", self.node.ext.name()),
            ("VICTIM", victim.netns.name()),
            ("me4", &attacker.v4.to_string()),
            ("me6", &attacker.v6.to_string()),
            ("me_ll", &link_local(&attacker.netns, "eth0")),
            ("mac", &attacker.mac),
            ("victim4", &victim.v4.to_string()),
            ("victim6", &victim.v6.to_string()),
            ("victim_ll", &link_local(&victim.netns, "eth0")),
            ("victim_mac", &victim.mac),
            ("gw", &node.mac(&self.device)),
            ("gw4", &gateway[0]),
            ("gw6", &gateway[1]),
            ("node_ll", &link_local(node, &self.device)),
            ("node_mac", &node.mac("eth0")),
            ("ext_mac", &self.node.ext.mac("eth0")),
            ("node4", NODE[0]),
            ("node6", NODE[1]),
            ("ext4", EXT[0]),
            ("ext6", EXT[1]),
            ("far6", FAR[1]),
            ("meta4", METADATA[0]),
            ("meta6", METADATA[1]),
            ("egress4", EGRESS[0]),
            ("egress6", EGRESS[1]),
            ("vip4", VIPS[0]),
            ("vip6", VIPS[1]),
            ("free4", free[0]),
            ("free6", free[1]),
            ("all4", &all4),
            ("strange4", "10.244.9.9"),
            ("strange6", "fd44:9::9"),
            ("fake_mac", "02:66:66:66:66:66"),
        ] {
            let _ = writeln!(names, "{name} = '{value}'");
        }
        names
    }

    /// The gateway's addresses; where it has none of its own, the node's.
    fn gateway(&self) -> [String; 2] {
        let links = self
            .node
            .netns
            .ip_json(&format!("addr show dev {}", self.device));
        let infos = links[0]["addr_info"].as_array().expect("addresses").clone();
        ["inet", "inet6"].map(|family| {
            let own = infos
                .iter()
                .find(|info| info["family"] == family && info["scope"] == "global");
            let local = own.and_then(|info| info["local"].as_str());
            let nodes = NODE[usize::from(family == "inet6")];
            local.unwrap_or(nodes).to_owned()
        })
    }

    pub fn describe(&self) -> String {
        self.node.describe()
    }
}

/// Marks from here on are of packets that must arrive.
const TRUTH: usize = 0xff00;

fn has(datagrams: &[Vec<u8>], mark: &str) -> bool {
    datagrams.iter().any(|d| contains(d, mark.as_bytes()))
}

fn link_local(netns: &Netns, device: &str) -> String {
    let links = netns.ip_json(&format!("addr show dev {device}"));
    let infos = links[0]["addr_info"].as_array().expect("addresses");
    let own = infos.iter().find(|info| info["scope"] == "link");
    own.and_then(|info| info["local"].as_str())
        .expect("a link-local address")
        .to_owned()
}

impl Eyes {
    fn open(node: &Node, victim: &Pod<'_>) -> Self {
        let listen = |netns: &Netns, addresses: [IpAddr; 2]| -> Vec<UdpSocket> {
            let all = addresses.into_iter().flat_map(|a| [(a, 9), (a, 10)]);
            all.map(|at| {
                let socket = netns.run(|| UdpSocket::bind(at).expect("a socket"));
                socket.set_nonblocking(true).expect("a non-blocking socket");
                socket
            })
            .collect()
        };
        node.netns.nft(&format!(
            "table inet eye {{\n chain input {{\n type filter hook input priority 300\n log group {GROUP}\n }}\n }}"
        ));
        Self {
            outside: Capture::start(&node.ext),
            victim: Capture::start(&victim.netns),
            outside_sockets: listen(&node.ext, EXT.map(ip)),
            victim_sockets: listen(&victim.netns, victim.addresses()),
            node: Nflog::start(&node.netns, GROUP),
            outside_received: Vec::new(),
            victim_received: Vec::new(),
        }
    }

    /// Takes what waits in the sockets.
    fn look(&mut self) {
        self.outside_received
            .extend(self.outside_sockets.iter().flat_map(drain));
        self.victim_received
            .extend(self.victim_sockets.iter().flat_map(drain));
        self.node.read();
    }
}

/// All datagrams that wait in a socket.
fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec())).collect()
}
