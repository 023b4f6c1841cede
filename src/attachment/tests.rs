//! Real links in namespaces of their own, some of them arranged to look like another's.

use std::fs;

use super::*;
use netlink::test_support::{
    in_fresh_netns, ip, link, new_netns, path_of, rtnl, soon, until, veth,
};

const MAC: &str = "06:8f:f8:62:38:a5";
const LINK_LOCAL: &str = "fe80::48f:f8ff:fe62:38a5";

/// In the calling thread's namespace, which is the node.
fn inspected(pod: &Netns, result: &PodResult) -> Result<Attachment, Error> {
    let mut nft = Nft::open().expect("a socket");
    inspect(&mut nft, &mut rtnl(), pod, "eth0", result, soon())
}

fn refused(pod: &Netns, result: &PodResult) -> Unenforceable {
    match inspected(pod, result) {
        Err(Error::Unenforceable(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn result(addresses: &[&str], gateways: &[&str]) -> PodResult {
    let parse = |list: &[&str]| {
        list.iter()
            .map(|a| a.parse().expect("an address"))
            .collect()
    };
    PodResult {
        addresses: parse(addresses),
        gateways: parse(gateways),
        host_interfaces: Vec::new(),
    }
}

/// Runs `ip` in the pod's namespace.
fn inside(pod: &Netns, lines: &[&str]) {
    pod.run(|| lines.iter().for_each(|line| ip(line)))
        .expect("the pod's namespace");
}

/// A pod whose eth0 has index 200, and its other end index 100 in a namespace that is not the node's.
fn pod_of_another_node(elsewhere: &Netns) -> Netns {
    let pod = new_netns();
    let lines = [
        "link add eth0 index 200 type veth peer name far index 100".to_owned(),
        format!("link set far netns {}", path_of(elsewhere)),
    ];
    inside(&pod, &lines.each_ref().map(String::as_str));
    pod
}

fn bridge_nf(on: bool) {
    for name in ["iptables", "ip6tables"] {
        let file = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
        match fs::write(&file, if on { "1" } else { "0" }) {
            Err(_) if !on => {} // no br_netfilter: it is off
            written => written.expect("br_netfilter"),
        }
    }
}

#[test]
fn the_link_local_address_of_a_mac() {
    let address = eui64([0x06, 0x8f, 0xf8, 0x62, 0x38, 0xa5]);
    assert_eq!(address.to_string(), LINK_LOCAL);
}

/// It comes up with that address later, and speaks from it.
#[test]
fn the_address_that_the_mac_gives_is_the_pods_own() {
    in_fresh_netns(|| {
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        inside(&pod, &[&format!("link set eth0 address {MAC}")]);
        let attachment = inspected(&pod, &result(&["10.1.0.2"], &[])).expect("enforceable");
        assert_eq!(attachment.veth, link("host0"));
        assert_eq!(
            attachment.link_local,
            [LINK_LOCAL.parse::<Ipv6Addr>().expect("one")]
        );
        assert_eq!(attachment.bridge, None);
    });
}

#[test]
fn addresses_of_the_result_and_inside_are_the_pods() {
    in_fresh_netns(|| {
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        inside(
            &pod,
            &[
                "addr add 10.1.0.2/24 dev eth0",
                "addr add 10.1.0.3/24 dev eth0",
                "addr add fd01::3/64 dev eth0 nodad",
                "addr add fe80::7/64 dev eth0 nodad",
            ],
        );
        let result = result(&["10.1.0.2", "10.1.0.9", "127.0.0.1", "::", "ff02::1"], &[]);
        let attachment = inspected(&pod, &result).expect("enforceable");
        let of = |list: &[IpAddr]| list.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        let want = ["10.1.0.2", "10.1.0.9", "10.1.0.3", "fd01::3"];
        assert_eq!(of(&attachment.addresses), want);
        let seven = "fe80::7".parse().expect("one");
        assert!(attachment.link_local.contains(&seven), "{attachment:?}");
    });
}

#[test]
fn without_an_address_there_is_nothing_to_judge() {
    in_fresh_netns(|| {
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        for of_nobody in [&[][..], &["127.0.0.1", "fe80::1", "224.0.0.1"]] {
            let why = refused(&pod, &result(of_nobody, &[]));
            assert!(matches!(why, Unenforceable::NoAddress { .. }), "{why}");
        }
    });
}

/// The same indexes by chance: the node's interface 100 has a peer with index 200, but in another
/// namespace than the pod's.
#[test]
fn the_peer_lives_in_the_pods_namespace() {
    in_fresh_netns(|| {
        let (elsewhere, other) = (new_netns(), new_netns());
        let pod = pod_of_another_node(&elsewhere);
        ip("link add host0 index 100 type veth peer name eth0 index 200");
        ip(&format!("link set eth0 netns {}", path_of(&other)));
        let result = result(&["10.1.0.2"], &[]);
        let why = refused(&pod, &result);
        assert!(matches!(why, Unenforceable::PeerElsewhere { .. }), "{why}");
        assert_eq!(
            inspected(&other, &result).expect("its own").veth.name,
            "host0"
        );
    });
}

/// The node's interface 100 leads into the pod, but to another interface of it.
#[test]
fn the_peer_is_the_very_interface() {
    in_fresh_netns(|| {
        let elsewhere = new_netns();
        let pod = pod_of_another_node(&elsewhere);
        ip("link add host0 index 100 type veth peer name eth1 index 201");
        ip(&format!("link set eth1 netns {}", path_of(&pod)));
        let why = refused(&pod, &result(&["10.1.0.2"], &[]));
        assert!(matches!(why, Unenforceable::PeerElsewhere { .. }), "{why}");
    });
}

/// The node's interface 100 is tied to the pod's eth0, but is no end of it.
#[test]
fn the_peer_is_a_veth() {
    in_fresh_netns(|| {
        let elsewhere = new_netns();
        let pod = pod_of_another_node(&elsewhere);
        let node = Netns::current().expect("the node's namespace");
        let lines = [
            "link add above link eth0 index 100 type macvlan".to_owned(),
            format!("link set above netns {}", path_of(&node)),
        ];
        inside(&pod, &lines.each_ref().map(String::as_str));
        assert_eq!(
            (link("above").index, link("above").peer_index),
            (100, Some(200))
        );
        let why = refused(&pod, &result(&["10.1.0.2"], &[]));
        assert!(matches!(why, Unenforceable::PeerElsewhere { .. }), "{why}");
    });
}

#[test]
fn an_interface_that_is_no_veth_is_refused_by_its_kind() {
    in_fresh_netns(|| {
        let pod = new_netns();
        inside(&pod, &["link add eth0 type ifb"]);
        let why = refused(&pod, &result(&["10.1.0.2"], &[]));
        assert!(why.to_string().contains("eth0 is a ifb"), "{why}");
    });
}

/// Its pods' packets are sent to the bridge only if it routes those of all their addresses.
#[test]
fn a_bridge_is_the_gateway_of_all_addresses_or_of_none() {
    in_fresh_netns(|| {
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{path}"), "1").expect("writable");
        }
        bridge_nf(false);
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        ip("link add br0 type bridge");
        ip("link set host0 master br0");
        let four = "10.1.0.2";
        let both = [four, "fd01::2"];
        let why = refused(&pod, &result(&both[..1], &["10.1.0.1"]));
        assert!(matches!(why, Unenforceable::NotGateway { .. }), "{why}");

        ip("addr add 10.1.0.1/24 dev br0");
        let is_gateway = |addresses: &[&str], gateways: &[&str]| {
            let attachment = inspected(&pod, &result(addresses, gateways)).expect("enforceable");
            let bridge = attachment.bridge;
            bridge
                .map(|b| assert_eq!(b.index, link("br0").index))
                .is_some()
        };
        assert!(is_gateway(&[four], &[]));
        let why = refused(&pod, &result(&both, &[]));
        assert!(matches!(why, Unenforceable::NotGateway { .. }), "{why}");
        // Outside its network, but the primary plugin says that it is the gateway.
        let why = refused(&pod, &result(&["10.9.0.2"], &["10.1.0.254"]));
        assert!(matches!(why, Unenforceable::NotGateway { .. }), "{why}");
        assert!(is_gateway(&["10.9.0.2"], &["10.1.0.1"]));

        // With br_netfilter its packets are judged all the same, if it is on for their families.
        bridge_nf(true);
        assert!(!is_gateway(&both, &[]));
        fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0").expect("a sysctl");
        let why = refused(&pod, &result(&both, &[]));
        assert!(matches!(why, Unenforceable::NotGateway { .. }), "{why}");
        ip("addr add fd01::1/64 dev br0 nodad");
        assert!(is_gateway(&both, &[]));
    });
}

/// What comes in by another device is not the pod's.
#[test]
fn it_is_known_by_which_device_a_pods_packets_come_in() {
    in_fresh_netns(|| {
        bridge_nf(true);
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        let comes_by = |gateways: &[&str]| {
            let attachment = inspected(&pod, &result(&["10.1.0.2"], gateways));
            attachment.expect("enforceable").iif
        };
        assert_eq!(comes_by(&[]), Some(link("host0").index));
        ip("link add br0 type bridge");
        ip("link set host0 master br0");
        let by_bridge = Some(link("br0").index);
        assert_eq!(comes_by(&["10.1.0.1"]), by_bridge, "bridged");
        // The gateway is a port of the bridge, on this node.
        ip("link add gate0 type veth peer name gate1");
        ip("link set gate1 master br0");
        ip("addr add 10.1.0.1/24 dev gate0");
        assert_eq!(comes_by(&["10.1.0.1"]), None, "twice");
        assert_eq!(comes_by(&["10.1.0.254"]), by_bridge, "another gateway");
        ip("addr del 10.1.0.1/24 dev gate0");
        ip("addr add 10.1.0.1/24 dev br0");
        assert_eq!(comes_by(&["10.1.0.1"]), by_bridge, "routed");
    });
}

#[test]
fn a_master_that_is_no_bridge_is_refused_by_its_kind() {
    in_fresh_netns(|| {
        let pod = new_netns(); // with it the veth would go
        veth("host0", "eth0", &pod);
        let (host0, lo) = (link("host0"), link("lo"));
        for (master, kind) in [(&host0, "a veth"), (&lo, "a device")] {
            let addresses = result(&["10.1.0.2"], &[]).addresses;
            let found = bridge_with(&host0, master, &[], &addresses, &[]);
            let why = found.expect_err("not a bridge").to_string();
            assert!(why.contains("is a port of") && why.contains(kind), "{why}");
        }
    });
}

/// Between two looks it went: the packets take no way that could be judged.
#[test]
fn a_veth_whose_other_end_is_gone_is_no_attachment() {
    in_fresh_netns(|| {
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        ip("link del host0");
        until("eth0 goes, too", || {
            let why = refused(&pod, &result(&["10.1.0.2"], &[]));
            matches!(why, Unenforceable::NoInterface { .. }).then_some(())
        });
    });
}
