//! A pod with NET_RAW lies: about its address, its MAC, its neighbours. Every lie is first seen to arrive from the
//! same pod without our plugin, and must not arrive with it.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;

under_every_primary!(poisoned_neighbours, the_nodes_view_of_the_victim);

/// An attacker and a victim on one node, neither covered yet.
struct Scene<'n> {
    attacker: Pod<'n>,
    victim: Pod<'n>,
    /// The MAC that the attacker's gateway has.
    gateway: String,
    bridged: bool,
}

impl<'n> Scene<'n> {
    fn new(node: &'n Node, primary: Primary) -> Self {
        let attacker = node.pod(PodSpec::new("attacker", primary).uncovered());
        let victim = node.pod(PodSpec::new("victim", primary).uncovered());
        let bridged = primary == Primary::Bridge;
        let gateway = node
            .netns
            .mac(if bridged { "cni0" } else { &attacker.veth });
        Self {
            attacker,
            victim,
            gateway,
            bridged,
        }
    }

    fn cover(&self) {
        self.attacker.ours("ADD").ok();
        self.victim.ours("ADD").ok();
    }

    /// Runs scapy lines in the attacker with the scene's names defined; `m(name)` is a marked payload.
    fn attack(&self, tag: &str, lines: &str) {
        let program = format!(
            "
me4, me6, mac = '{}', '{}', '{}'
victim4, victim6, victim_mac = '{}', '{}', '{}'
gw, ext4, ext6 = '{}', '{}', '{}'
fake_mac = '02:66:66:66:66:66'
my_ll = [a for a, s, i in in6_getifaddr() if i == 'eth0' and a.startswith('fe80')][0]
def m(name): return Raw(('{tag}-%s-' % name).encode() + b'.' * 46)
def udp(): return UDP(sport=4000, dport=9)
{lines}
",
            self.attacker.v4,
            self.attacker.v6,
            self.attacker.mac,
            self.victim.v4,
            self.victim.v6,
            self.victim.mac,
            self.gateway,
            EXT[0],
            EXT[1],
        );
        scapy(&self.attacker.netns, &program);
    }
}

/// The victim's idea of where its gateway is must not change by what a neighbour says.
fn poisoned_neighbours(primary: Primary, bridge_nf: bool) {
    if primary != Primary::Bridge {
        return routed_neighbours(primary);
    }
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let scene = Scene::new(&node, primary);
    let victim = &scene.victim.netns;
    // An entry may be replaced at once; the kernel's one second of grace is no defence.
    victim.sysctls(&[("net/ipv4/neigh/eth0/locktime", "0")]);
    let learn = || {
        // Known and unquestioned, as after a fresh exchange.
        victim.ip(&format!(
            "neigh replace 10.244.1.1 lladdr {gw} dev eth0 nud stale
             neigh replace fd44:1::1 lladdr {gw} dev eth0 nud stale",
            gw = scene.gateway
        ));
        check(
            &node,
            &[
                Probe::ping(victim, ip("10.244.1.1"), Want::Reached),
                Probe::ping(victim, ip("fd44:1::1"), Want::Reached),
            ],
        );
    };
    let gateway_of = |address: &str| -> String {
        let entries = victim.ip_json(&format!("neigh show {address} dev eth0"));
        entries[0]["lladdr"].as_str().unwrap_or_default().to_owned()
    };
    let poison = "
for _ in range(3):
    tx(Ether(src=mac, dst=victim_mac) / ARP(op=2, psrc='10.244.1.1', hwsrc=mac, pdst=victim4, hwdst=victim_mac))
    tx(Ether(src=mac, dst='ff:ff:ff:ff:ff:ff') / ARP(op=1, psrc='10.244.1.1', hwsrc=mac, pdst=victim4))
    for src in ['fd44:1::1', my_ll, me6]:
        tx(Ether(src=mac, dst=victim_mac) / IPv6(src=src, dst=victim6, hlim=255) / ICMPv6ND_NA(R=1, S=0, O=1, tgt='fd44:1::1') / ICMPv6NDOptDstLLAddr(lladdr=mac))
tx(Ether(src=mac, dst=victim_mac) / IP(src=me4, dst=victim4) / udp() / m('end'))
";
    let capture = Capture::start(victim);
    learn();
    scene.attack("bare", poison);
    assert!(capture.wait_for_marker("bare-end-", soon()));
    assert_eq!(
        gateway_of("10.244.1.1"),
        scene.attacker.mac,
        "poison must work without the plugin"
    );
    assert_eq!(
        gateway_of("fd44:1::1"),
        scene.attacker.mac,
        "poison must work without the plugin"
    );
    scene.cover();
    learn();
    scene.attack("covered", poison);
    assert!(capture.wait_for_marker("covered-end-", soon()));
    assert_eq!(
        gateway_of("10.244.1.1"),
        scene.gateway,
        "{}",
        node.describe()
    );
    assert_eq!(
        gateway_of("fd44:1::1"),
        scene.gateway,
        "{}",
        node.describe()
    );
}

/// Without a bridge, the node is the only neighbour: it must not be told a wrong address of another pod.
fn routed_neighbours(primary: Primary) {
    let node = Node::new(NodeOptions::default());
    let scene = Scene::new(&node, primary);
    let veth = &scene.attacker.veth;
    node.netns.sysctls(&[
        (&format!("net/ipv4/neigh/{veth}/locktime"), "0"),
        (&format!("net/ipv4/neigh/{veth}/proxy_delay"), "0"),
    ]);
    let own = scene.attacker.v4;
    let claimed = "10.244.9.9";
    let poison = format!(
        "
for address in [me4, '{claimed}']:
    tx(Ether(src=mac, dst=gw) / ARP(op=2, psrc=address, hwsrc=fake_mac, pdst='169.254.1.1', hwdst=gw))
tx(Ether(src=mac, dst=gw) / IP(src=me4, dst=ext4) / udp() / m('end'))
"
    );
    let node_knows = |address: &str| -> String {
        let entries = node
            .netns
            .ip_json(&format!("neigh show {address} dev {veth}"));
        entries[0]["lladdr"].as_str().unwrap_or_default().to_owned()
    };
    let learn = || {
        node.netns.ip(&format!(
            "neigh replace {own} lladdr {} dev {veth} nud stale",
            scene.attacker.mac
        ));
        node.netns.ip(&format!(
            "neigh replace {claimed} lladdr 02:00:00:00:00:01 dev {veth} nud stale"
        ));
    };
    let capture = Capture::start(&node.ext);
    learn();
    scene.attack("bare", &poison);
    assert!(capture.wait_for_marker("bare-end-", soon()));
    assert_eq!(
        node_knows(claimed),
        "02:66:66:66:66:66",
        "poison must work without the plugin"
    );
    scene.cover();
    learn();
    scene.attack("covered", &poison);
    assert!(capture.wait_for_marker("covered-end-", soon()));
    assert_eq!(
        node_knows(claimed),
        "02:00:00:00:00:01",
        "{}",
        node.describe()
    );
    assert_eq!(
        node_knows(&own.to_string()),
        scene.attacker.mac,
        "{}",
        node.describe()
    );
}

/// The node's entry for the victim must not follow the attacker, however the advertisement is wrapped.
fn the_nodes_view_of_the_victim(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let scene = Scene::new(&node, primary);
    // Where the node looks the victim up; without a bridge a lie of the attacker can only touch its own link.
    let device = if scene.bridged {
        "cni0"
    } else {
        &scene.attacker.veth
    };
    // No grace before an entry is replaced; and proxy ARP answers at once, not when the next round has begun.
    node.netns.sysctls(&[
        (&format!("net/ipv4/neigh/{device}/locktime"), "0"),
        (&format!("net/ipv4/neigh/{device}/proxy_delay"), "0"),
    ]);
    let true_mac = &scene.victim.mac;
    let victims = scene.victim.addresses();
    let links = node.netns.ip_json(&format!("addr show dev {device}"));
    let addresses = links[0]["addr_info"].as_array().expect("addresses");
    let node_ll = addresses
        .iter()
        .filter_map(|info| info["local"].as_str())
        .find(|address| address.starts_with("fe80"))
        .expect("the node's link-local address");
    let wrappings = [
        ("plain", ""),
        ("hop", "IPv6ExtHdrHopByHop() /"),
        ("dests", "IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() /"),
    ];
    let learn = || {
        for victim in victims {
            node.netns.ip(&format!(
                "neigh replace {victim} lladdr {true_mac} dev {device} nud stale"
            ));
        }
    };
    let seen = || {
        victims.map(|victim| {
            let entries = node
                .netns
                .ip_json(&format!("neigh show {victim} dev {device}"));
            entries[0]["lladdr"].as_str().unwrap_or_default().to_owned()
        })
    };
    let capture = Capture::start(&node.ext);
    let lie = |tag: &str, wrapping: &str| {
        scene.attack(
            tag,
            &format!(
                "
for there in ['{node_ll}', 'ff02::1']:
    to = gw if there[:2] == 'fe' else '33:33:00:00:00:01'
    for src in [my_ll, me6, victim6]:
        tx(Ether(src=mac, dst=to) / IPv6(src=src, dst=there, hlim=255) / {wrapping} ICMPv6ND_NA(R=0, S=0, O=1, tgt=victim6) / ICMPv6NDOptDstLLAddr(lladdr=mac))
tx(Ether(src=mac, dst=gw) / IPv6(src=victim6, dst='{node_ll}', hlim=255) / {wrapping} ICMPv6ND_NS(tgt='{node_ll}') / ICMPv6NDOptSrcLLAddr(lladdr=mac))
tx(Ether(src=mac, dst='ff:ff:ff:ff:ff:ff') / ARP(op=1, psrc=victim4, hwsrc=mac, pdst=victim4))
tx(Ether(src=mac, dst=gw) / ARP(op=2, psrc=victim4, hwsrc=mac, pdst='169.254.1.1', hwdst=gw))
tx(Ether(src=mac, dst=gw) / IP(src=me4, dst=ext4) / udp() / m('end'))
"
            ),
        );
        assert!(capture.wait_for_marker(&format!("{tag}-end-"), soon()));
    };
    for (name, wrapping) in wrappings {
        learn();
        lie(&format!("bare{name}"), wrapping);
        let attacker = scene.attacker.mac.clone();
        assert_eq!(
            seen(),
            [attacker.clone(), attacker],
            "{name}: must work without the plugin"
        );
    }
    scene.cover();
    for (name, wrapping) in wrappings {
        learn();
        lie(&format!("covered{name}"), wrapping);
        assert_eq!(
            seen(),
            [true_mac.clone(), true_mac.clone()],
            "{name}\n{}",
            node.describe()
        );
    }
}
