//! Domain names, all of it: the agent's resolver, a real DNS server as clusterDNS, and real clients in pods.

use crate::harness::node::{DNS_VIP, EXT, FAR, ip};
use crate::harness::*;
use crate::install::{Paths, get, until};
use crate::primaries::under_every_primary;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

under_every_primary!(the_first_packet_to_a_name_arrives);

const NAMED: &str = "allow 443/tcp, 443/udp to api.example.com, *.example.org\ndeny to any";

/// dnsmasq, as the Service's address answers it. It ends with the test.
struct Dns(Child);

impl Dns {
    fn start(node: &Node) -> Dns {
        node.ext.ip(&format!(
            "addr add {}/32 dev lo\naddr add {}/128 dev lo nodad",
            DNS_VIP[0], DNS_VIP[1]
        ));
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ]);
        dnsmasq.args([
            "--user=root",
            "--pid-file=",
            "--bind-interfaces",
            "--local-ttl=1",
        ]);
        for address in DNS_VIP {
            dnsmasq.arg(format!("--listen-address={address}"));
        }
        for (name, address) in [
            ("api.example.com", FAR),
            ("deep.er.example.org", FAR),
            ("other.example.com", EXT),
        ] {
            for address in address {
                dnsmasq.arg(format!("--host-record={name},{address}"));
            }
        }
        dnsmasq.stdout(Stdio::null()).stderr(Stdio::null());
        let dns = Dns(node.ext.spawn(&mut dnsmasq));
        until("the DNS server listens", || {
            let to = SocketAddr::new(ip(DNS_VIP[0]), 53);
            node.netns
                .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
        });
        dns
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        // It may have ended; both are awaited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a pod's client gets told, by the clusterDNS address of a family.
fn lookup(pod: &Pod<'_>, name: &str, kind: &str, family: usize) -> String {
    let server = DNS_VIP[family];
    pod.netns
        .exec(&format!("busybox nslookup -type={kind} {name}. {server}"))
}

fn listens(node: &Node) -> bool {
    let to = SocketAddr::new(ip("169.254.20.11"), 5300);
    node.netns
        .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
}

fn the_first_packet_to_a_name_arrives(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let paths = Paths::new(&node);
    let _dns = Dns::start(&node);
    let agent = paths.start();
    until("it is ready and listens", || {
        get(&node.netns, "/readyz").0 == 200 && listens(&node)
    });
    let pod = node.pod(PodSpec::new("a", primary).rules(NAMED));
    let _servers = node.serve_ext(&[443, 444]);
    let probes = |far: Want| -> Vec<Probe<'_>> {
        let of = |family: usize| {
            [
                Probe::tcp(&pod.netns, ip(FAR[family]), 443, far),
                Probe::udp(&pod.netns, ip(FAR[family]), 443, far),
                Probe::tcp(&pod.netns, ip(FAR[family]), 444, Want::Silence),
                Probe::tcp(&pod.netns, ip(EXT[family]), 443, Want::Silence),
            ]
        };
        (0..2).flat_map(of).collect()
    };
    check(&node, &probes(Want::Silence));
    for (family, kind) in ["a", "aaaa"].into_iter().enumerate() {
        // A name that no rule has is told, and opens nothing.
        let told = lookup(&pod, "other.example.com", kind, family);
        assert!(told.contains(EXT[family]), "{told}");
        let name = ["api.example.com", "Deep.ER.example.org"][family];
        let told = lookup(&pod, name, kind, family);
        assert!(told.contains(FAR[family]), "{told}");
        // One packet, sent once: it is not lost.
        let to = SocketAddr::new(ip(FAR[family]), 443);
        let mut conn = Conn::open(&pod.netns, to, soon())
            .unwrap_or_else(|o| panic!("{to}: {o:?}: {}", node.describe()));
        assert_eq!(conn.exchange(soon()), Ok(()));
    }
    check(&node, &probes(Want::Reached));

    // Without the agent: names are resolved by clusterDNS itself, what is known stays, and nothing else opens.
    agent.kill();
    assert!(!listens(&node));
    for (family, kind) in ["a", "aaaa"].into_iter().enumerate() {
        let told = lookup(&pod, "api.example.com", kind, family);
        assert!(told.contains(FAR[family]), "{told}");
    }
    check(&node, &probes(Want::Reached));
    let refused = node.add_pod(PodSpec::new("b", primary).rules(NAMED));
    let refused = refused.expect_err("names need the agent").error;
    assert_eq!(refused.code, 11, "{refused:?}");

    // Another agent goes on with what the first one knew.
    let _agent = paths.start();
    until("it listens again", || listens(&node));
    let told = lookup(&pod, "api.example.com", "a", 0);
    assert!(told.contains(FAR[0]), "{told}");
    check(&node, &probes(Want::Reached));
    node.pod(PodSpec::new("b", primary).rules(NAMED));
}
