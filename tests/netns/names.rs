//! Domain names, without whoever resolves them: what the kernel is taught, what that opens, and where questions go.

use crate::harness::node::{DNS_VIP, EXT, FAR, METADATA, NODE, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;
use nft::Nft;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

under_every_primary!(
    a_name_opens_what_the_kernel_was_taught,
    questions_are_led_while_somebody_listens,
);

/// Where the resolver listens, and at which port for the clusterDNS address of this family.
const RESOLVER: [(&str, u16); 2] = [("169.254.20.11", 5300), ("fd00:20::11", 5301)];
/// What the tests' own resolver answers.
const ANSWER: &str = "192.0.2.53";

const NAMED: &str = "allow 443/tcp, 443/udp to api.example.com, *.example.org\ndeny to any";

fn node_with(bridge_nf: bool) -> Node {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    node.set_policy(&policy());
    node
}

fn policy() -> Policy {
    Policy::default().set("names", json!({"withoutAgent": "start"}))
}

/// The documents of all groups, by the groups.
fn groups(node: &Node) -> Vec<(String, Value)> {
    let Ok(files) = fs::read_dir(node.state_dir().join("names")) else {
        return Vec::new();
    };
    let read = |file: fs::DirEntry| {
        let path = file.path();
        let group = path.file_stem().expect("a name").to_string_lossy();
        let text = fs::read_to_string(&path).expect("readable");
        (
            group.into_owned(),
            serde_json::from_str(&text).expect("JSON"),
        )
    };
    files.map(|file| read(file.expect("a file"))).collect()
}

/// Sends what teaches the kernel an address. Whether the kernel kept it, by which its sender knows.
fn teach(node: &Node, address: IpAddr, token: &str) -> bool {
    let token: u128 = u128::from_str_radix(token, 16).expect("a token");
    let sent = node.netns.run(|| {
        let any: IpAddr = if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = UdpSocket::bind((any, 0)).expect("a socket");
        socket.send_to(&token.to_be_bytes(), (address, 4798))
    });
    match sent {
        Ok(_) => false,
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => true,
        Err(e) => panic!("{address}: {e}"),
    }
}

fn generation(node: &Node) -> u32 {
    node.netns
        .run(|| Nft::open().expect("a socket").generation().expect("told"))
}

fn a_name_opens_what_the_kernel_was_taught(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let mut pod = node.pod(PodSpec::new("a", primary).rules(NAMED));
    let _servers = [node.serve_ext(&[443, 444]), node.serve_node(&[443])];
    let [(group, document)] = &groups(&node)[..] else {
        panic!("one rule has names");
    };
    assert_eq!(
        document["patterns"],
        json!(["*.example.org", "api.example.com"])
    );
    let token = |family: usize, class: &str| {
        let token = &document["tokens"][["4", "6"][family]][class];
        token.as_str().expect("a token").to_owned()
    };
    let closed = |far: Want| -> Vec<Probe<'_>> {
        let of = |family: usize| {
            let at = |address: [&str; 2], port, want| {
                Probe::tcp(&pod.netns, ip(address[family]), port, want)
            };
            [
                at(FAR, 443, far),
                Probe::udp(&pod.netns, ip(FAR[family]), 443, far),
                at(FAR, 444, Want::Silence),
                at(EXT, 443, Want::Silence),
                at(NODE, 443, Want::Silence),
                at(METADATA, 443, Want::Silence),
            ]
        };
        (0..2).flat_map(of).collect()
    };
    check(&node, &closed(Want::Silence));

    let before = generation(&node);
    for family in 0..2 {
        let wrong = format!("{:032x}", 7);
        assert!(!teach(&node, ip(FAR[family]), &wrong), "nobody's token");
        let other = token(1 - family, "90s");
        teach(&node, ip(FAR[family]), &other); // of the other family: nothing comes of it
    }
    check(&node, &closed(Want::Silence));
    for family in 0..2 {
        // Whoever answers for a name does not open the node, nor what hands out credentials.
        for address in [FAR, NODE, METADATA] {
            assert!(teach(&node, ip(address[family]), &token(family, "10m")));
        }
    }
    assert_eq!(generation(&node), before, "no transaction");
    check(&node, &closed(Want::Reached));

    // What is open stays so when the name stands for something else by now.
    let mut open: Vec<Conn> = FAR
        .map(|far| {
            let to = SocketAddr::new(ip(far), 443);
            Conn::open(&pod.netns, to, soon()).unwrap_or_else(|o| panic!("{to}: {o:?}"))
        })
        .into();
    for conn in &mut open {
        assert_eq!(conn.exchange(soon()), Ok(()));
    }
    for (set, far) in ["dn4", "dn6"].into_iter().zip(FAR) {
        let set = format!("{set}-{group}");
        node.netns.exec(&format!(
            "nft delete element inet egressway {set} {{ {far} }}"
        ));
    }
    for conn in &mut open {
        assert_eq!(conn.exchange(soon()), Ok(()), "{}", node.describe());
    }
    check(&node, &closed(Want::Silence));

    // Another pod with the same names has the same sets, and they outlive the first one's.
    let other = node.pod(PodSpec::new("b", primary).rules(NAMED));
    assert_eq!(groups(&node).len(), 1);
    pod.readd("allow 444/tcp\ndeny to any");
    for conn in &mut open {
        assert_eq!(conn.is_cut(&node), Outcome::Silence, "{}", node.describe());
    }
    assert_eq!(groups(&node).len(), 1);
    for family in 0..2 {
        assert!(teach(&node, ip(FAR[family]), &token(family, "1h")));
    }
    let probes = FAR.map(|far| Probe::tcp(&other.netns, ip(far), 443, Want::Reached));
    check(&node, &probes);
    assert_eq!(other.ours("CHECK").ok(), "");
    other.delete();
    assert_eq!(groups(&node), []);
    let left = node.netns.exec("nft list table inet egressway");
    assert!(!left.contains(group), "{left}");
}

/// A set that has no room for an address tells its sender so, and what it has stays.
#[test]
fn a_full_set_takes_no_more() {
    let node = node_with(false);
    let pod = node.pod(PodSpec::new("a", Primary::Ptp).rules(NAMED));
    let _server = node.serve_ext(&[443]);
    let [(group, document)] = &groups(&node)[..] else {
        panic!("one rule has names");
    };
    let many: Vec<String> = (0..4096)
        .map(|n| format!("192.0.{}.{}", 2 + n / 256, n % 256))
        .collect();
    node.netns.nft(&format!(
        "add element inet egressway dn4-{group} {{ {} }}",
        many.join(",")
    ));
    let token = document["tokens"]["4"]["90s"].as_str().expect("a token");
    assert!(!teach(&node, ip(FAR[0]), token), "there is no room");
    check(
        &node,
        &[Probe::tcp(&pod.netns, ip(FAR[0]), 443, Want::Silence)],
    );
    node.netns
        .exec(&format!("nft flush set inet egressway dn4-{group}"));
    assert!(teach(&node, ip(FAR[0]), token));
    check(
        &node,
        &[Probe::tcp(&pod.netns, ip(FAR[0]), 443, Want::Reached)],
    );
}

/// What others break of it is put back, with the secrets that are written down.
#[test]
fn what_is_broken_is_put_back() {
    let node = node_with(false);
    let pod = node.pod(PodSpec::new("a", Primary::Ptp).rules(NAMED));
    let written = groups(&node);
    let (group, document) = &written[0];
    let token = document["tokens"]["4"]["90s"].as_str().expect("a token");
    for harm in [
        "flush map inet egressway tokens".to_owned(),
        format!("flush chain inet egressway learn-{group}-4-90s"),
        "flush chain inet egressway dns-probe".to_owned(),
        "delete chain inet egressway learn".to_owned(),
        "flush set inet egressway dns-pods4".to_owned(),
        "delete table inet egressway".to_owned(),
    ] {
        node.netns.nft(&harm);
        let code = pod.ours("CHECK").error().code;
        assert_eq!(code, 103, "{harm}");
        pod.ours("ADD").ok();
        assert_eq!(pod.ours("CHECK").ok(), "", "{harm}");
        assert_eq!(groups(&node), written, "{harm}");
        assert!(teach(&node, ip(FAR[0]), token), "{harm}");
    }
}

/// Without an agent, names would stay closed: the pod is told so.
#[test]
fn names_need_the_agent_and_somebody_to_ask() {
    let node = node_with(false);
    let error = |node: &Node| {
        let added = node.add_pod(PodSpec::new("a", Primary::Ptp).rules(NAMED));
        added.expect_err("refused").error
    };
    node.set_policy(&Policy::default());
    let refused = error(&node);
    assert_eq!(refused.code, 11, "{refused:?}");
    assert!(refused.text().contains("169.254.20.11:5300"), "{refused:?}");
    node.set_policy(&policy().set("clusterDNS", json!([])));
    let refused = error(&node);
    assert_eq!(refused.code, 100, "{refused:?}");
    assert!(refused.text().contains("clusterDNS"), "{refused:?}");
    node.set_policy(&policy());
    node.netns.ip("addr add 10.96.0.10/32 dev lo");
    let refused = error(&node);
    assert_eq!(refused.code, 101, "{refused:?}");
    node.netns.ip("addr del 10.96.0.10/32 dev lo");
    assert_eq!(groups(&node), []);
    // With a listener it starts.
    node.set_policy(&Policy::default());
    let _resolver = Resolver::start(&node);
    node.pod(PodSpec::new("a", Primary::Ptp).rules(NAMED));
}

fn questions_are_led_while_somebody_listens(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let locked = policy().namespace("locked", "enforced-rules", "reject 53/tcp to dns");
    node.set_policy(&locked);
    // What is asked of clusterDNS itself is answered with the asker's address.
    node.ext.ip(&format!(
        "addr add {}/32 dev lo\naddr add {}/128 dev lo nodad",
        DNS_VIP[0], DNS_VIP[1]
    ));
    // Neighbours have a way to the resolver, too.
    node.ext.ip("route add 169.254.20.11/32 via 172.30.0.11
         route add fd00:20::11/128 via fd30::11");
    let _dns = Echo::start(&node.ext, &DNS_VIP.map(ip), &[53]);
    let named = node.pod(PodSpec::new("a", primary).rules(NAMED));
    let open = node.pod(PodSpec::new("b", primary).rules("allow to x.example\nallow to any"));
    let plain = node.pod(PodSpec::new("c", primary));
    let locked = PodSpec::new("d", primary).namespace("locked").rules(NAMED);
    let locked = node.pod(locked);
    let led = |led: bool| -> Vec<Probe<'_>> {
        // As behind a Service, the rejection of what was translated does not get back there.
        let rejected = match led && bridge_nf {
            true => Want::Silence,
            false => Want::Refused,
        };
        let of = |family: usize| {
            let to = ip(DNS_VIP[family]);
            let direct = |pod: &Pod<'_>| Want::From(pod.addresses()[family]);
            let by = |pod: &Pod<'_>| match led {
                true => Want::From(ip(ANSWER)),
                false => direct(pod),
            };
            let (resolver, port) = RESOLVER[family];
            vec![
                Probe::udp(&named.netns, to, 53, by(&named)),
                Probe::tcp(&named.netns, to, 53, by(&named)),
                Probe::udp(&plain.netns, to, 53, direct(&plain)),
                Probe::tcp(&plain.netns, to, 53, direct(&plain)),
                Probe::udp(&locked.netns, to, 53, by(&locked)),
                Probe::tcp(&locked.netns, to, 53, rejected),
                // Nobody reaches it by its own address, whatever his rules say.
                Probe::udp(&plain.netns, ip(resolver), port, Want::Silence),
                Probe::tcp(&plain.netns, ip(resolver), port, Want::Silence),
                Probe::udp(&open.netns, ip(resolver), port, Want::Silence),
                Probe::tcp(&open.netns, ip(resolver), port, Want::Silence),
                Probe::tcp(&node.ext, ip(resolver), port, Want::Silence),
            ]
        };
        (0..2).flat_map(of).collect()
    };
    check(&node, &led(false));
    let resolver = Resolver::start(&node);
    check(&node, &led(true));
    drop(resolver);
    check(&node, &led(false));
}

/// Answers all questions that are led to it with the same.
struct Resolver {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Resolver {
    fn start(node: &Node) -> Self {
        node.netns.ip("route replace local 169.254.20.11/32 dev lo
             route replace local fd00:20::11/128 dev lo");
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (address, port) in RESOLVER {
            let at = SocketAddr::new(ip(address), port);
            let (udp, tcp) = node.netns.run(|| {
                let udp: UdpSocket = transparent(at, SockType::Datagram).into();
                let tcp: TcpListener = transparent(at, SockType::Stream).into();
                (udp, tcp)
            });
            let again = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                let mut bytes = [0; 2048];
                while !again.load(Ordering::Relaxed) {
                    while let Ok((_, from)) = udp.recv_from(&mut bytes) {
                        let _ = udp.send_to(ANSWER.as_bytes(), from);
                    }
                    while let Ok((mut stream, _)) = tcp.accept() {
                        let _ = stream.write_all(format!("{ANSWER}\n").as_bytes());
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }));
        }
        Self { stop, threads }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn transparent(at: SocketAddr, kind: SockType) -> OwnedFd {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    // No child of another test inherits it, and goes on to listen.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, kind, flags, None).expect("a socket");
    setsockopt(&fd, sockopt::ReuseAddr, &true).expect("an option");
    setsockopt(&fd, sockopt::IpTransparent, &true).expect("an option");
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).unwrap_or_else(|e| panic!("{at}: {e}"));
    if kind == SockType::Stream {
        listen(&fd, Backlog::new(16).expect("a number")).expect("listen");
    }
    fd
}
