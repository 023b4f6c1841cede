//! A node with an outside world, each a network namespace.
//!
//! ```text
//!   pods ── cni0 / veths ── node 172.30.0.11, fd30::11 ── eth0 | eth0 ── ext 172.30.0.100, fd30::100
//!                                                                        │ lo: 198.51.100.100, 2001:db8:99::100
//!                                                                        │     169.254.169.254, fd00:ec2::254
//! ```
//! ext routes the pods' addresses back to the node: a packet that leaks with a pod's source would be answered,
//! and so be seen.

use super::cni::{self, Call, PluginRun};
use super::{Echo, Netns, Policy};
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, net};
use tempfile::TempDir;

/// The node's own addresses on the LAN.
pub const NODE: [&str; 2] = ["172.30.0.11", "fd30::11"];
/// The neighbour on the LAN; private addresses.
pub const EXT: [&str; 2] = ["172.30.0.100", "fd30::100"];
/// Behind the neighbour; the internet.
pub const FAR: [&str; 2] = ["198.51.100.100", "2001:db8:99::100"];
/// A cloud's metadata service, behind the neighbour.
pub const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];
/// The cluster's DNS Service.
pub const DNS_VIP: [&str; 2] = ["10.96.0.10", "fd96::a"];

pub fn ip(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|e: net::AddrParseError| panic!("{text}: {e}"))
}

#[derive(Debug, Clone, Copy, Default)]
pub struct NodeOptions {
    /// bridge-nf-call-iptables and -ip6tables: whether bridged packets pass the IP hooks.
    pub bridge_nf: bool,
    /// Duplicate address detection on the node's eth0, for tests of egress addresses.
    pub dad: bool,
}

/// A node under test.
#[derive(Debug)]
pub struct Node {
    pub netns: Netns,
    pub ext: Netns,
    /// Our plugin's entry in the conflist.
    pub ours: Map<String, Value>,
    pub dir: TempDir,
    serial: AtomicU32,
    /// Where the namespaces of its pods are. Not held open: a namespace has to end with its pod.
    pods: Mutex<Vec<PathBuf>>,
}

impl Node {
    pub fn new(options: NodeOptions) -> Self {
        let (netns, ext) = (Netns::new("node"), Netns::new("ext"));
        let bridge_nf = if options.bridge_nf { "1" } else { "0" };
        netns.sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/bridge/bridge-nf-call-iptables", bridge_nf),
            ("net/bridge/bridge-nf-call-ip6tables", bridge_nf),
        ]);
        netns.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}
             addr add 172.30.0.11/24 dev eth0
             addr add fd30::11/64 dev eth0 nodad
             link set eth0 up
             route add default via 172.30.0.100
             route add default via fd30::100",
            ext.name()
        ));
        ext.ip("addr add 172.30.0.100/24 dev eth0
             addr add fd30::100/64 dev eth0 nodad
             addr add 198.51.100.100/32 dev lo
             addr add 2001:db8:99::100/128 dev lo nodad
             addr add 169.254.169.254/32 dev lo
             addr add fd00:ec2::254/128 dev lo nodad
             link set eth0 up
             route add 10.244.0.0/16 via 172.30.0.11
             route add fd44::/16 via fd30::11");
        if options.dad {
            netns.sysctls(&[
                ("net/ipv6/conf/eth0/accept_dad", "1"),
                ("net/ipv6/conf/eth0/dad_transmits", "1"),
            ]);
        }
        let dir = tempfile::Builder::new()
            .prefix("egressway-")
            .tempdir()
            .expect("a temporary directory");
        let Value::Object(ours) = json!({
            "type": "egressway",
            "capabilities": {cni::POD_ANNOTATIONS: true},
            "policyFile": dir.path().join("policy.yaml"),
            "stateDir": dir.path().join("state"),
            "logFile": dir.path().join("egressway.log"),
            "logLevel": "debug",
        }) else {
            unreachable!("an object literal")
        };
        let node = Self {
            netns,
            ext,
            ours,
            dir,
            serial: AtomicU32::new(1),
            pods: Mutex::default(),
        };
        node.set_policy(&Policy::default());
        node
    }

    /// Replaces the policy file; the next ADD reads it.
    pub fn set_policy(&self, policy: &Policy) {
        fs::write(self.dir.path().join("policy.yaml"), policy.text())
            .expect("write the policy file");
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A pod's namespace, which [`Node::hosts`] has from now on.
    pub fn joined_by(&self, pod: &Netns) {
        self.pods
            .lock()
            .expect("the pods")
            .push(PathBuf::from(pod.path()));
    }

    /// All namespaces that packets can come to: the node, ext and the pods that there are.
    pub fn hosts(&self) -> Vec<Netns> {
        let mut hosts = vec![self.netns.again(), self.ext.again()];
        let pods = self.pods.lock().expect("the pods");
        hosts.extend(
            pods.iter()
                .filter(|path| path.exists())
                .map(|path| Netns::of_another(path)),
        );
        hosts
    }

    /// A number not given before on this node.
    pub fn next(&self) -> u32 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Servers on every address of ext.
    pub fn serve_ext(&self, ports: &[u16]) -> Echo {
        let addresses: Vec<IpAddr> = [EXT, FAR, METADATA].concat().into_iter().map(ip).collect();
        Echo::start(&self.ext, &addresses, ports)
    }

    /// Servers on the node's LAN addresses.
    pub fn serve_node(&self, ports: &[u16]) -> Echo {
        Echo::start(&self.netns, &NODE.map(ip), ports)
    }

    /// A call of our plugin that concerns no pod: GC, STATUS, VERSION.
    pub fn call(&self, verb: &str, version: &str, extra: &[(&str, Value)]) -> Call {
        let mut conf = self.ours.clone();
        conf.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        Call::new("egressway", verb, cni::stdin(&conf, version, None, None))
    }

    pub fn run(&self, call: &Call) -> PluginRun {
        call.run(&self.netns)
    }

    /// For failure messages: the rules in the kernel and the plugin's log.
    pub fn describe(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("egressway.log")).unwrap_or_default();
        format!(
            "--- nft list ruleset in {}\n{}\n--- the plugin's log\n{log}",
            self.netns.name(),
            self.netns.exec("nft list ruleset")
        )
    }
}
