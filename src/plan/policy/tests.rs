//! The kernel does the same with lookups as with one plain rule after the other: random lists, loaded
//! in both forms, and the same packets through both. Both forms see every packet, from a source of
//! their own; afterwards the same rules must have counted as much.
//!
//! `EGRESSWAY_SEED=N` begins with another seed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    socket,
};

use super::*;
use crate::plan::INET;
use crate::plan::base::{self, Base};
use netlink::test_support::{in_fresh_netns, ip, new_netns, veth};
use nft::{Element, Elements, Family, Nft};
use rules::effective::{DefaultAction, Facts, Tier, TierRules};

mod fields;

const LISTS: u64 = 25;
const PACKETS: usize = 150;

/// Each form's policy, and the sources that are judged by it.
const FORMS: [(&str, [&str; 2]); 2] = [
    ("pol-lookups", ["192.0.2.1", "2001:db8:1::1"]),
    ("pol-plain", ["192.0.2.2", "2001:db8:1::2"]),
];

/// Short lists in the form of very long ones.
const GATED: Shape = Shape {
    services: 0,
    many: 4,
    part: 6,
    ..Shape::USUAL
};
const PLAIN: Shape = Shape {
    divide: plain,
    ..Shape::USUAL
};

fn plain(entries: &[Entry<'_>]) -> Vec<Segment> {
    (0..entries.len()).map(Segment::Plain).collect()
}

/// Nested networks, ranges, neighbours; ports that meet; here and there what can't be looked up.
fn rule(rng: &mut Rng) -> String {
    let one = |rng: &mut Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
    let verb = one(rng, &["allow", "allow", "deny", "deny", "reject", "pass"]);
    let ports = match rng.u8(..10) {
        0..3 => String::new(),
        3..7 => {
            let (a, b) = (rng.u16(440..450), rng.u16(440..450));
            let protocol = one(rng, &["tcp", "udp", "sctp"]);
            format!("{}-{}/{protocol}", a.min(b), a.max(b))
        }
        _ => one(
            rng,
            &[
                "tcp",
                "udp",
                "icmp",
                "icmp/8",
                "icmpv6/128",
                "icmpv6",
                "proto/47",
                "proto/6",
                "icmp/13/0",
            ],
        ),
    };
    let near = |rng: &mut Rng| {
        let host = rng.u32(..64);
        match rng.u8(..7) {
            0..4 => {
                let bits = rng.u32(26..=32);
                format!("10.1.2.{}/{bits}", host & (u32::MAX << (32 - bits)))
            }
            4 => {
                let other = rng.u32(..64);
                format!("10.1.2.{}-10.1.2.{}", host.min(other), host.max(other))
            }
            _ => {
                let bits = rng.u32(122..=128);
                let host = host & u32::MAX.checked_shl(128 - bits).unwrap_or(0);
                format!("2001:db8::{host:x}/{bits}")
            }
        }
    };
    let to = match rng.u8(..14) {
        0 => one(rng, &["any", "node", "10.0.0.0/8", "::/0", "internet"]),
        _ => (0..rng.usize(1..4))
            .map(|_| near(rng))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let option = match verb.as_str() {
        "pass" => String::new(),
        _ => one(
            rng,
            &[
                "",
                "",
                "",
                "",
                "",
                "log",
                "log=5/s",
                "priority=7",
                "except 10.1.2.7",
                "except dns",
            ],
        ),
    };
    format!("{verb} {ports} to {to} {option}")
}

fn policy(rng: &mut Rng) -> Effective {
    let facts = Facts {
        cluster: vec!["10.1.2.0/26".parse().expect("a network")],
        dns: vec!["10.1.2.9".parse().expect("an address")],
        ..Facts::default()
    };
    let tier = |tier, rng: &mut Rng| {
        // What can never match is refused.
        let reads = |line: &String| TierRules::parse(tier, "random", line, false).is_ok();
        let lines = (0..rng.usize(5..120)).map(|_| rule(rng)).filter(reads);
        let text = lines.collect::<Vec<_>>().join("\n");
        TierRules::parse(tier, "random", &text, false).expect("each line was read")
    };
    let tiers = vec![tier(Tier::Pod, rng), tier(Tier::ClusterDefaults, rng)];
    let default = match rng.bool() {
        true => DefaultAction::Allow,
        false => DefaultAction::Deny,
    };
    Effective::new(tiers, default, false, facts).expect("all keywords are known")
}

/// A packet without its source.
#[derive(Debug, Clone)]
struct Sent {
    to: IpAddr,
    protocol: u8,
    /// Ports, or ICMP's type and code, as far as the packet goes.
    body: Vec<u8>,
}

impl Sent {
    fn random(rng: &mut Rng) -> Self {
        let host = rng.u8(..66);
        let to = match rng.u8(..8) {
            0 => IpAddr::from([198, 51, 100, host]),
            1..3 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)]),
            _ => IpAddr::from([10, 1, 2, host]),
        };
        let protocols: [u8; 9] = [6, 6, 17, 17, 132, 47, 253, 1, 58];
        let protocol = protocols[rng.usize(..protocols.len())];
        let mut body = match protocol {
            1 => [8, 0, 13, 14][rng.usize(..4)..][..1].to_vec(),
            58 => vec![128 + rng.u8(..2)],
            _ => [&7000u16.to_be_bytes()[..], &rng.u16(438..452).to_be_bytes()].concat(),
        };
        // One in twenty ends before its port.
        body.resize(if rng.u8(..20) == 0 { 2 } else { 40 }, 0);
        Self { to, protocol, body }
    }

    fn bytes(&self, from: IpAddr) -> Vec<u8> {
        let length = self.body.len() as u16;
        match (from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, self.protocol, 0, 0];
                header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
                // The kernel fills in the header's checksum (raw(7)).
                [&header[..], &from.octets(), &to.octets(), &self.body].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = [0x60, 0, 0, 0, 0, 0, self.protocol, 64];
                header[4..6].copy_from_slice(&length.to_be_bytes());
                [&header[..], &from.octets(), &to.octets(), &self.body].concat()
            }
            _ => panic!("two families"),
        }
    }
}

/// Sends whole IP packets.
struct Hand {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Hand {
    fn new() -> Self {
        let raw = |family| {
            let raw = SockProtocol::Raw;
            socket(family, SockType::Raw, SockFlag::empty(), raw).expect("a raw socket")
        };
        Self {
            v4: raw(AddressFamily::Inet),
            v6: raw(AddressFamily::Inet6),
        }
    }

    fn send(&self, sent: &Sent, from: IpAddr) {
        let bytes = sent.bytes(from);
        let flags = MsgFlags::empty();
        match sent.to {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(self.v4.as_raw_fd(), &bytes, &to, flags)
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(self.v6.as_raw_fd(), &bytes, &to, flags)
            }
        }
        .unwrap_or_else(|e| panic!("send {sent:?}: {e}"));
    }
}

/// How many packets each rule of a form has counted, and how many were denied or rejected.
fn counted(nft: &mut Nft, compiled: &Compiled, sources: [&str; 2]) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    let mut add = |label: Option<String>, packets: u64| {
        if packets > 0 {
            *counted
                .entry(label.expect("each counter is somebody's"))
                .or_default() += packets;
        }
    };
    for (chain, _) in &compiled.chains {
        for rule in nft.rule_counters(&INET, chain).expect("told") {
            add(rule.comment, rule.counter.packets);
        }
    }
    for (set, _) in &compiled.sets {
        for cell in nft.cell_counters(&INET, &set.name).expect("told") {
            add(cell.comment, cell.counter.packets);
        }
    }
    for family in [Family::V4, Family::V6] {
        for denied in nft
            .element_counters(&INET, base::denied(family))
            .expect("told")
        {
            if sources.contains(&denied.address.to_string().as_str()) {
                add(Some("denied".to_owned()), denied.counter.packets);
            }
        }
    }
    counted
}

/// What becomes of a policy in this shape and as plain rules, and the sources that each judges.
fn forms(policy: &Effective, shape: Shape) -> [(Compiled, [&'static str; 2]); 2] {
    let [(lookups, ours), (plain, theirs)] = FORMS;
    [
        (compile_as(lookups, policy, 100, shape), ours),
        (compile_as(plain, policy, 100, PLAIN), theirs),
    ]
}

/// Sends packets through both forms, which must count the same: how many rules counted. `name`: of the case.
fn compare(
    policy: &Effective,
    forms: &[(Compiled, [&'static str; 2]); 2],
    packets: &[Sent],
    name: &str,
) -> usize {
    in_fresh_netns(|| {
        let sender = new_netns();
        veth("here", "there", &sender);
        ip("link set here address 02:00:00:00:00:01");
        // Frames need no neighbour's answer: they carry the device's own address.
        let hand = sender.run(|| {
            ip("link set there address 02:00:00:00:00:01 arp off");
            ip("route add default dev there");
            ip("-6 route add default dev there");
            Hand::new()
        });
        let hand = hand.expect("a namespace");
        let mut ops = Base::new(&[]).add(&[]);
        for (compiled, sources) in forms {
            ops.append(compiled.add());
            for source in sources.map(|source| source.parse::<IpAddr>().expect("an address")) {
                let family = Family::of(&source);
                let goto = Element::of(source).goto(&*compiled.name);
                ops.add(&INET, Elements::new(base::pods(family), vec![goto]));
                ops.add(&INET, Elements::address(base::denied(family), source));
            }
        }
        let mut nft = Nft::open().expect("a socket");
        nft.commit(&ops).expect("the kernel takes both forms");
        let mut compare = |sent: &[Sent]| {
            for sent in sent {
                for (_, sources) in forms {
                    let source = sources[usize::from(sent.to.is_ipv6())];
                    hand.send(sent, source.parse().expect("an address"));
                }
            }
            let counts = [0, 1].map(|n| counted(&mut nft, &forms[n].0, forms[n].1));
            let [lookups, plain] = counts;
            (lookups == plain, lookups, plain)
        };
        let (same, lookups, _) = compare(packets);
        if !same {
            // Which packet it was: the difference grows with it.
            for packet in packets {
                let before = compare(&[]);
                let after = compare(std::slice::from_ref(packet));
                println!("{packet:?}\n  {before:?}\n  {after:?}");
            }
            let texts: Vec<&str> = policy.tiers.iter().map(|tier| &*tier.text).collect();
            panic!("{name}: the forms differ on\n{}", texts.join("\n--\n"));
        }
        lookups.len()
    })
}

#[test]
fn lookups_do_what_plain_rules_do() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = std::env::var("EGRESSWAY_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(since_1970.map_or(0, |since| since.as_secs()));
    println!("EGRESSWAY_SEED={seed}");
    let (mut blocks, mut gates, mut rules) = (0, 0, 0);
    for seed in seed..seed + LISTS {
        let mut rng = Rng::with_seed(seed);
        let policy = policy(&mut rng);
        let packets: Vec<Sent> = (0..PACKETS).map(|_| Sent::random(&mut rng)).collect();
        let forms = forms(&policy, if seed % 2 == 0 { GATED } else { Shape::USUAL });
        assert!(forms[1].0.sets.iter().all(|(set, _)| !set.counter));
        let sets = &forms[0].0.sets;
        blocks += sets.iter().filter(|(set, _)| set.counter).count();
        let gate = |(set, _): &&(Set, Vec<Element>)| set.name.contains("-where");
        gates += sets.iter().filter(gate).count();
        rules += compare(&policy, &forms, &packets, &format!("EGRESSWAY_SEED={seed}"));
    }
    // Otherwise nothing was compared.
    assert!(
        blocks > 20 && gates > 5 && rules > 100,
        "{blocks} lookups, {gates} of them behind gates, {rules} rules that counted"
    );
}
