//! What words of rules mean where nodes, clouds and links have their own ways.

use crate::harness::capture::contains;
use crate::harness::node::{EXT, FAR, NODE, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;
use serde_json::json;

mod multicast;

under_every_primary!(
    class_e_is_unicast,
    a_node_is_also_what_everybody_on_its_links_is_sent,
    no_tunnel_is_opened,
);

/// Some clouds give 240.0.0.0/4 to pods and nodes.
fn class_e_is_unicast(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let addresses = ["240.0.0.5", "255.255.255.254"];
    for address in addresses {
        node.ext.ip(&format!("addr add {address}/32 dev lo"));
    }
    let _servers = Echo::start(&node.ext, &addresses.map(ip), &[8001, 8002]);
    let pod = node.pod(PodSpec::new("a", primary).rules("deny 8002/tcp to internet"));
    let mut probes = Vec::new();
    for address in addresses.map(ip) {
        let own = Want::From(pod.v4);
        probes.extend([
            Probe::tcp(&pod.netns, address, 8001, own),
            Probe::udp(&pod.netns, address, 8001, own),
            Probe::tcp(&pod.netns, address, 8002, Want::Silence),
        ]);
    }
    check(&node, &probes);
    pod.delete();
    node.assert_nothing_left();
}

/// Broadcast and anycast addresses of a node lead to its own sockets as its others do.
fn a_node_is_also_what_everybody_on_its_links_is_sent(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let bare = node.pod(PodSpec::new("bare", primary).uncovered());
    let pod = node.pod(PodSpec::new("a", primary).rules("deny to node\nallow"));
    let addresses = [NODE[0], NODE[1], "172.30.0.255", "fd30::"].map(ip);
    for address in addresses {
        let outcome = probe::run_all(&node, &[Probe::udp(&bare.netns, address, 9, Want::Silence)]);
        assert!(
            matches!(&outcome[..], [Outcome::Arrived(_) | Outcome::Refused]),
            "{address} is none of the node's: {outcome:?}"
        );
    }
    let silence = addresses.map(|address| Probe::udp(&pod.netns, address, 9, Want::Silence));
    check(&node, &silence);
    for address in &addresses[2..] {
        let said = node.tool(&format!("explain shop/a [{address}]:9/udp -o json"));
        let said = said.stdout_text();
        assert!(said.contains("\"pod:1\""), "{address}: {said}");
    }
    pod.delete();
    bare.delete();
    node.assert_nothing_left();
}

/// The MAC of each node's tunnel.
const TUNNEL: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// Each node opens VXLAN as flannel has it: at all of its addresses, of which one is the cluster's; from
/// whomever.
fn no_tunnel_is_opened(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    for (netns, own, address) in [
        (&node.ext, EXT[0], "10.244.9.0"),
        (&node.netns, NODE[0], "10.244.8.0"),
    ] {
        netns.ip(&format!(
            "link add flannel.1 address 02:00:00:00:00:99 type vxlan id 1 dstport 8472 local {own} nolearning
             addr add {address}/32 dev flannel.1
             link set flannel.1 up"
        ));
    }
    node.set_policy(
        &Policy::default()
            .set("nodeCIDRs", json!(["172.30.0.0/24", "fd30::/64"]))
            .set("tunnelPorts", json!([51820]))
            .namespace(
                "tunnels",
                "enforced-rules",
                "allow 8472/udp to cluster log name=flannel",
            ),
    );
    let program = |tag: &str| {
        format!(
            "
def inner(name): return Ether(src='02:00:00:00:00:98', dst='02:00:00:00:00:99') / ip_inside(name)
def ip_inside(name): return IP(src='10.77.2.99', dst='{far}') / UDP(dport=9) / Raw(('{tag}-' + name + '-').encode())
def vxlan(to, port, name): send(IP(dst=to) / UDP(sport=5000, dport=port) / VXLAN(vni=1, flags=8) / inner(name))
vxlan('10.244.9.0', 8472, 'flannel')
vxlan('{ext}', 8472, 'lan')
vxlan('10.244.8.0', 8472, 'own')
vxlan('{own}', 8472, 'own-lan')
for port in (4789, 6081, 4799, 51820): vxlan('10.244.9.0', port, str(port))
send(IP(dst='10.244.9.0', proto=4) / ip_inside('ipip'))
send(IP(dst='10.244.9.0', proto=41) / IPv6(dst='{far6}') / UDP(dport=9) / Raw(b'{tag}-6in4-'))
send(IP(dst='10.244.9.0') / GRE() / ip_inside('gre'))
send(IPv6(dst='{ext6}') / UDP(sport=5000, dport=4789) / VXLAN(vni=1, flags=8) / inner('lan6'))
send(IP(dst='{far}') / UDP(dport=8472) / Raw(b'{tag}-elsewhere-'))
",
            far = FAR[0],
            far6 = FAR[1],
            ext = EXT[0],
            ext6 = EXT[1],
            own = NODE[0],
        )
    };
    let names = [
        "flannel", "lan", "4789", "6081", "4799", "51820", "ipip", "6in4", "gre", "lan6",
    ];
    let (outside, inside) = (Capture::start(&node.ext), Capture::start(&node.netns));
    let is_opened = |frame: &[u8], marker: &str| {
        frame.starts_with(&TUNNEL) && contains(frame, marker.as_bytes())
    };
    let opened = |eye: &Capture, marker: &str| eye.frames().iter().any(|f| is_opened(f, marker));

    let bare = node.pod(PodSpec::new("bare", primary).uncovered());
    scapy(&bare.netns, &program("bare"));
    for name in names {
        let marker = format!("bare-{name}-");
        assert!(outside.wait_for_marker(&marker, soon()), "{marker}");
    }
    for (eye, name) in [
        (&outside, "flannel"),
        (&outside, "lan"),
        (&inside, "own"),
        (&inside, "own-lan"),
    ] {
        let marker = format!("bare-{name}-");
        let found = eye.wait_for(soon(), |frame| is_opened(frame, &marker));
        assert!(
            found.is_some(),
            "{marker} is opened where nobody forbids it"
        );
    }
    bare.delete();

    let mut log = Nflog::start(&node.netns, 100);
    let pod = node.pod(PodSpec::new("a", primary).rules("allow to cluster\nallow"));
    silently(&node, || scapy(&pod.netns, &program("covered")));
    assert!(
        outside.wait_for_marker("covered-elsewhere-", soon()),
        "{}",
        node.describe()
    );
    for name in names {
        let marker = format!("covered-{name}-");
        assert!(!outside.saw(&marker), "{marker}\n{}", node.describe());
    }
    for name in ["own", "own-lan"] {
        let marker = format!("covered-{name}-");
        assert!(!opened(&inside, &marker), "{marker}\n{}", node.describe());
    }
    let line = log.wait_for(soon(), |line| {
        line.prefix.trim_end() == "egressway built-in:no-tunnels deny"
    });
    assert!(line.is_some(), "{:?}", log.read());
    let said = node.tool("explain shop/a 10.244.9.0:8472/udp");
    assert_eq!(said.code, Some(1), "{}", said.stdout_text());
    assert!(
        said.stdout_text().contains("built-in:no-tunnels"),
        "{}",
        said.stdout_text()
    );

    // Only who enforces rules can allow one.
    let free = node.pod(PodSpec::new("b", primary).namespace("tunnels"));
    silently(&node, || scapy(&free.netns, &program("free")));
    let found = outside.wait_for(soon(), |frame| is_opened(frame, "free-flannel-"));
    assert!(found.is_some(), "{}", node.describe());
    assert!(!outside.saw("free-4789-") && !outside.saw("free-gre-"));
    pod.delete();
    free.delete();
    node.assert_nothing_left();
}

/// The kernel of the test need not have ip_vs, nor dummy devices: what tells the mode is the name of the device that
/// kube-proxy makes, and here it is a veth.
#[test]
fn pods_of_a_node_with_ipvs_are_refused_by_name() {
    let mut node = Node::new(NodeOptions::default());
    node.netns
        .ip("link add kube-ipvs0 type veth peer name kube-ipvs1");
    let refused = node.add_pod(PodSpec::new("a", Primary::Bridge).rules("deny"));
    let error = refused
        .expect_err("Services are translated behind the rules")
        .error;
    assert_eq!(error.code, 101, "{error:?}");
    assert!(
        error.text().contains("kube-proxy is in IPVS mode"),
        "{error:?}"
    );
    let looked = node.netns.exec_with(
        std::process::Command::new(cni::binary("egressway")).args(["install", "--check"]),
        b"",
    );
    let said = looked.stdout_text();
    assert!(said.contains("kube-ipvs0"), "{said}");
    node.assert_nothing_left();
    node.ours.insert("unenforceable".to_owned(), json!("allow"));
    node.pod(PodSpec::new("a", Primary::Bridge).rules("deny"))
        .delete();
    node.netns.ip("link del kube-ipvs0");
    node.ours.remove("unenforceable");
    node.pod(PodSpec::new("a", Primary::Bridge).rules("deny"))
        .delete();
    node.assert_nothing_left();
}

#[test]
fn texts_beyond_the_limits_are_refused_with_both_numbers() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(&Policy::default().set("limits", json!({"rules": 3000})));
    let plain: String = (0..3412)
        .map(|n| {
            format!(
                "allow {},{}/tcp to 192.0.2.1,192.0.2.2 until=2100-01-01T00:00:00Z\n",
                n + 1,
                n + 2
            )
        })
        .map(|rule| rule.replacen(',', "/tcp,", 1))
        .collect();
    let many = "deny to 192.0.2.1\n".repeat(3001);
    for (rules, told) in [
        (
            &plain,
            "there are 3412 rules here: the policy file's `limits.rules` is 3000",
        ),
        (
            &many,
            "there are 3001 rules here: the policy file's `limits.rules` is 3000",
        ),
        (&"deny to node\n".repeat(257), "`limits.plainRules` is 256"),
    ] {
        let refused = node.add_pod(PodSpec::new("a", Primary::Bridge).rules(rules));
        let error = refused.expect_err("there is a limit").error;
        assert_eq!(error.code, 100, "{error:?}");
        assert!(error.text().contains(told), "{error:?}");
    }
    node.assert_nothing_left();
}

/// The lines of enforced rules have a group of their own, and are read whatever the pod's own rules log.
#[test]
fn a_flood_of_own_lines_drowns_nothing_of_the_platforms() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced("deny 7001/udp log=1000/s name=platform")
            .set("limits", json!({"logPerSecond": 10000})),
    );
    let pod = node
        .pod(PodSpec::new("a", Primary::Bridge).rules("deny 7002/udp log=10000/s name=own\nallow"));
    // Enforced rules, and all others.
    let (mut platform, mut others) = (
        Nflog::of(&node.netns, &[100]),
        Nflog::of(&node.netns, &[101]),
    );
    let send = |port: u16, packets: usize| {
        pod.netns.run(|| {
            let socket = std::net::UdpSocket::bind((pod.v4, 0)).expect("a socket");
            for _ in 0..packets {
                let _ = socket.send_to(b"x", (EXT[0], port));
            }
        });
    };
    send(7001, 1);
    send(7002, 1);
    let is = |prefix: &'static str| move |line: &nflog::Logged| line.prefix.trim_end() == prefix;
    assert!(
        platform
            .wait_for(soon(), is("egressway cluster-enforced:platform deny"))
            .is_some()
    );
    assert!(
        others
            .wait_for(soon(), is("egressway pod:own deny"))
            .is_some()
    );
    assert!(
        platform
            .read()
            .iter()
            .all(|line| !line.prefix.contains("pod:own"))
    );
    assert!(
        others
            .read()
            .iter()
            .all(|line| !line.prefix.contains("platform"))
    );
    drop((platform, others));

    // A reader that does not get to read while the pod floods.
    let words = "logs -o json --count 20 --rule cluster-enforced:platform";
    let reader = node.netns.spawn(&mut node.tool_command(words));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(reader.id()).expect("a number"));
    let started = std::time::Instant::now();
    let list = "/proc/thread-self/net/netfilter/nfnetlink_log";
    while node
        .netns
        .run(|| std::fs::read_to_string(list))
        .expect("a list")
        .lines()
        .count()
        < 2
    {
        assert!(started.elapsed() < exec::limit(), "both groups are read");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let signal = |signal| nix::sys::signal::kill(pid, signal).expect("it runs");
    signal(nix::sys::signal::Signal::SIGSTOP);
    send(7002, 100_000);
    send(7001, 20);
    send(7002, 100_000);
    signal(nix::sys::signal::Signal::SIGCONT);
    // It ends with the twentieth line: none is lost.
    let read = exec::finish(reader, b"", "logs");
    let text = read.stdout_text();
    let lines = text
        .lines()
        .filter(|line| line.contains("cluster-enforced:platform"));
    assert_eq!(lines.count(), 20, "{text}{}", read.stderr);
    pod.delete();
    node.assert_nothing_left();
}
