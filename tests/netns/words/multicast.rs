//! What pods send to many.

use super::*;

#[test]
fn multicast_on_a_bridge() {
    multicast(false);
}

#[test]
fn multicast_on_a_bridge_with_br_netfilter() {
    multicast(true);
}

/// Between pods of one bridge no rule of the node's IP hooks sees it.
fn multicast(bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    node.set_policy(
        &Policy::default()
            .set("exemptNamespaces", json!(["free"]))
            .namespace(
                "tiers",
                "default-rules",
                "deny 1900/udp to multicast\nallow to multicast",
            ),
    );
    let spec = |name: &str| PodSpec::new(name, Primary::Bridge);
    let ear = node.pod(spec("ear").rules("deny"));
    let eye = Capture::start(&ear.netns);
    let mut log = Nflog::start(&node.netns, 100);
    // Who, and what of the kinds below arrives.
    let all = "mdns broadcast mdns6 mdns6-own ssdp ospf";
    let pods = [
        ("none", spec("none"), ""),
        (
            "word",
            spec("word").rules("allow 5353/udp to multicast log"),
            "mdns broadcast mdns6 mdns6-own",
        ),
        (
            "address",
            spec("address").rules("allow to 224.0.0.251, ff02::fb\nallow to internet"),
            "mdns mdns6 mdns6-own",
        ),
        (
            "any",
            spec("any").rules("deny 1900/udp\nallow"),
            "mdns broadcast mdns6 mdns6-own ospf",
        ),
        (
            "audit",
            spec("audit").namespace("audited").rules("deny log"),
            "",
        ),
        (
            "tiers",
            spec("tiers").namespace("tiers").rules("pass udp\ndeny"),
            "mdns broadcast mdns6 mdns6-own",
        ),
        (
            "except",
            spec("except").rules("allow to multicast except 224.0.0.0/24"),
            "broadcast mdns6 mdns6-own ssdp",
        ),
        ("free", spec("free").namespace("free"), all),
    ];
    for (tag, spec, arrive) in pods {
        let pod = node.pod(spec);
        let program = format!(
            "
def m(name, ending='-'): return Raw(('{tag}-' + name + ending).encode())
def to(mac): return Ether(src='{mac}', dst=mac)
ll = '{ll}'
tx(to('01:00:5e:00:00:fb') / IP(src='{v4}', dst='224.0.0.251', ttl=255) / UDP(sport=5353, dport=5353) / m('mdns'))
tx(to('ff:ff:ff:ff:ff:ff') / IP(src='{v4}', dst='255.255.255.255') / UDP(sport=5353, dport=5353) / m('broadcast'))
tx(to('33:33:00:00:00:fb') / IPv6(src=ll, dst='ff02::fb') / UDP(sport=5353, dport=5353) / m('mdns6'))
tx(to('33:33:00:00:00:fb') / IPv6(src='{v6}', dst='ff02::fb') / UDP(sport=5353, dport=5353) / m('mdns6-own'))
tx(to('01:00:5e:7f:ff:fa') / IP(src='{v4}', dst='239.255.255.250') / UDP(sport=1900, dport=1900) / m('ssdp'))
tx(to('01:00:5e:00:00:05') / IP(src='{v4}', dst='224.0.0.5', proto=89, ttl=1) / m('ospf'))
# never
tx(to('01:00:5e:00:00:fb') / IP(src='{other}', dst='224.0.0.251') / UDP(sport=5353, dport=5353) / m('forged'))
tx(to('01:00:5e:00:00:fb') / IP(src='0.0.0.0', dst='224.0.0.251') / UDP(sport=5353, dport=5353) / m('nobody'))
tx(to('33:33:00:00:00:fb') / IPv6(src='::', dst='ff02::fb') / UDP(sport=5353, dport=5353) / m('nobody6'))
tx(to('33:33:00:00:00:01') / IPv6(src=ll, dst='ff02::1') / ICMPv6EchoRequest(data=b'{tag}-ping6-'))
tx(to('33:33:00:00:00:01') / IPv6(src=ll, dst='ff02::1') / ICMPv6ND_RA() / m('ra'))
",
            mac = pod.mac,
            v4 = pod.v4,
            v6 = pod.v6,
            other = ear.v4,
            ll = link_local(&pod.mac),
        );
        silently(&node, || scapy(&pod.netns, &program));
        // What says that the others had their time: from the node, behind them.
        let end = format!("{tag}-the-end-");
        let marker = format!("send(IP(dst='{}') / UDP(dport=9) / Raw(b'{end}'))", ear.v4);
        scapy_of(&node.netns, &marker);
        assert!(eye.wait_for_marker(&end, soon()), "{tag}: no marker");
        let arrive: Vec<&str> = arrive.split_whitespace().collect();
        for name in
            "mdns broadcast mdns6 mdns6-own ssdp ospf forged nobody nobody6 ping6 ra".split(' ')
        {
            let marker = format!("{tag}-{name}-");
            // One marker begins another.
            let seen = eye.frames().iter().any(|frame| {
                contains(frame, marker.as_bytes())
                    && (name != "mdns6" || !contains(frame, b"mdns6-own"))
            });
            assert_eq!(
                seen,
                arrive.contains(&name),
                "{marker}\n{}",
                node.describe()
            );
        }
        let name = format!("{}/{tag}", pod.spec.namespace);
        let shown = node.tool_json(&format!("show {name} -o json"));
        let dropped = &shown["droppedByKind"];
        let stopped = 6 - arrive.len() as u64;
        // The ping and the router's lie are of other kinds, or count there too.
        let counted = dropped["multicast"]["packets"].as_u64().expect("a number");
        assert!(
            counted >= stopped && counted <= stopped + 2,
            "{tag}: {dropped}"
        );
        assert!(
            dropped["source"]["packets"].as_u64().expect("a number") >= 2,
            "{tag}: {dropped}"
        );
        for (name_of, address) in [
            ("mdns", "224.0.0.251:5353/udp"),
            ("mdns6", "[ff02::fb]:5353/udp"),
            ("ssdp", "239.255.255.250:1900/udp"),
        ] {
            let said = node.tool(&format!("explain {name} {address}"));
            let goes = arrive.contains(&name_of);
            assert_eq!(
                said.code,
                Some(i32::from(!goes)),
                "{tag} {address}: {}",
                said.stdout_text()
            );
            assert!(
                goes || said.stdout_text().contains("veth:multicast"),
                "{}",
                said.stdout_text()
            );
        }
        pod.delete();
    }
    let line = log.wait_for(soon(), |line| {
        line.prefix.trim_end() == "egressway pod:1 allow"
    });
    assert!(line.is_some(), "{:?}", log.read());

    // A real group, with real sockets.
    let group: std::net::Ipv4Addr = "239.7.7.7".parse().expect("an address");
    let listener = ear.netns.run(|| {
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 7777)).expect("a socket");
        let std::net::IpAddr::V4(own) = ear.v4 else {
            panic!("an IPv4 address")
        };
        socket.join_multicast_v4(&group, &own).expect("a member");
        socket.set_read_timeout(Some(soon())).expect("a timeout");
        socket
    });
    let speaker = node.pod(spec("speaker").rules("allow 7777/udp to multicast\ndeny"));
    speaker.netns.run(|| {
        let socket = std::net::UdpSocket::bind((speaker.v4, 0)).expect("a socket");
        socket
            .send_to(b"to all of the group", (group, 7777))
            .expect("is sent");
    });
    let mut buffer = [0; 64];
    let (length, from) = listener
        .recv_from(&mut buffer)
        .expect("what the group is told");
    assert_eq!(
        (&buffer[..length], from.ip()),
        (&b"to all of the group"[..], speaker.v4)
    );
    speaker.delete();
    drop(listener);
    ear.delete();
    node.assert_nothing_left();
}

/// The link-local address that a MAC gives.
fn link_local(mac: &str) -> String {
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
        .collect();
    let [a, b, c, d, e, f] = bytes[..] else {
        panic!("{mac} is no MAC")
    };
    format!(
        "fe80::{:x}:{:x}:{:x}:{:x}",
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f])
    )
}

/// scapy where there is no eth0 of a pod.
fn scapy_of(netns: &Netns, program: &str) {
    let program = format!("from scapy.all import *\nconf.verb = 0\n{program}");
    let output = netns.exec_with(
        std::process::Command::new("/usr/bin/python3").args(["-W", "ignore", "-c", &program]),
        b"",
    );
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}
