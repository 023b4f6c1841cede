//! The program at the veth with one instruction changed, each in turn: a frame must tell. Where none does,
//! the reason is listed.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use netlink::bpf::Program;
use netlink::tc::{self, Classifier};
use netlink::test_support::{in_fresh_netns, ip, link, rtnl, run};
use netlink::unfinished::Unfinished;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::asm::Instruction;
use super::btf::Btf;
use super::filter;
use super::program::{self, LICENSE, Layout, NAME, assemble};

const L4: u16 = 14 + 20;
const L6: u16 = 14 + 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A frame, and the place of its checksum.
type Sent = (Vec<u8>, Option<(u16, u16)>);

fn ethernet(ethertype: u16, packet: &[&[u8]]) -> Vec<u8> {
    // To a MAC that nobody has: what goes on is not answered.
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet.concat());
    frame
}

/// With `words` of header, these flags and offset of a fragment, 64 bytes behind.
fn ipv4(protocol: u8, words: u8, fragment: u16) -> Vec<u8> {
    let mut header = vec![0; usize::from(words.max(5)) * 4];
    header[0] = 0x40 | words;
    header[3] = header.len() as u8 + 64;
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    ethernet(0x0800, &[&header, &[0; 64]])
}

/// With extension headers of these kinds and lengths in words of eight bytes, then the protocol.
fn ipv6(protocol: u8, extensions: &[(u8, u8)]) -> Vec<u8> {
    let first = extensions.first().map_or(protocol, |e| e.0);
    let mut header = vec![0x60, 0, 0, 0, 0, 64, first, 64];
    header.resize(40, 0);
    let behind: u8 = extensions.iter().map(|(_, words)| words * 8).sum();
    header[5] = 64 + behind;
    header[8] = 0xfd;
    header[24] = 0xfd;
    for (n, (_, words)) in extensions.iter().enumerate() {
        let next = extensions.get(n + 1).map_or(protocol, |e| e.0);
        let mut extension = vec![0; usize::from(*words) * 8];
        extension[..2].copy_from_slice(&[next, words - 1]);
        header.extend(extension);
    }
    ethernet(0x86dd, &[&header, &[0; 64]])
}

fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

/// What honest kernels and guests send.
fn honest() -> Vec<Sent> {
    let mut all: Vec<Sent> = vec![
        (ipv4(UDP, 5, 0), None),
        (ipv4(1, 5, 0), None),
        (ipv4(UDP, 5, 0x2000), None),
        (ipv6(44, &[]), None),
        (ethernet(0x0806, &[&[0; 46]]), None),
        // Don't fragment.
        (ipv4(TCP, 5, 0x4000), Some((L4, 16))),
    ];
    for (protocol, offset) in [(TCP, 16), (UDP, 6)] {
        for words in [5, 6, 14, 15] {
            let start = 14 + u16::from(words) * 4;
            all.push((ipv4(protocol, words, 0), Some((start, offset))));
        }
        // Each kind in each place, of one word or two.
        let mut chains: Vec<Vec<(u8, u8)>> = vec![Vec::new()];
        for place in 0..4 {
            for (kind, words) in [(0, 1), (43, 1), (60, 1), (60, 2)] {
                let mut chain = vec![(60, 1); place];
                chain.push((kind, words));
                chains.push(chain);
            }
        }
        for chain in chains {
            let words: u16 = chain.iter().map(|(_, words)| u16::from(*words)).sum();
            all.push((ipv6(protocol, &chain), Some((L6 + words * 8, offset))));
        }
    }
    all
}

fn forged() -> Vec<Sent> {
    let mut all: Vec<Sent> = Vec::new();
    let mut add = |frame: &Vec<u8>, start, offset| all.push((frame.clone(), Some((start, offset))));
    for (transport, frames) in [
        (L4, [ipv4(TCP, 5, 0), ipv4(UDP, 5, 0)]),
        (L6, [ipv6(TCP, &[]), ipv6(UDP, &[])]),
    ] {
        for (frame, right) in frames.iter().zip([16, 6]) {
            for offset in [0, 2, 6, 7, 8, 15, 16, 17, 24] {
                if offset != right {
                    add(frame, transport, offset);
                }
            }
            for start in [
                transport - 12,
                transport - 2,
                transport - 1,
                transport + 1,
                transport + 2,
            ] {
                for offset in [0, right] {
                    add(frame, start, offset);
                }
            }
            for start in [transport + 7, transport + 8, transport + 9, transport + 20] {
                add(frame, start, 0);
                add(frame, start, right);
            }
        }
    }
    // Other protocols, at any place that one of them has.
    for protocol in [
        0, 1, 2, 4, 5, 7, 16, 18, 33, 40, 41, 42, 46, 47, 48, 50, 58, 131, 132, 133, 255,
    ] {
        for offset in [6, 7, 8, 9, 16] {
            add(&ipv4(protocol, 5, 0), L4, offset);
            add(&ipv6(protocol, &[]), L6, offset);
            add(&ipv4(protocol, 5, 0), L4 + 8, offset);
        }
    }
    for fragment in [0x2000, 1, 2, 0x80, 0x100, 0x1000, 0x1fff, 0x6000] {
        add(&ipv4(UDP, 5, fragment), L4, 6);
    }
    for first in [0x40, 0x44, 0x34, 0x35, 0x55, 0x50, 0x65, 0xf5, 0x05] {
        let length = u16::from(first & 15) * 4;
        add(&with(ipv4(UDP, 5, 0), 14, first), 14 + length, 6);
        add(&with(ipv4(UDP, 5, 0), 14, first), L4, 6);
    }
    // Behind as many words as would follow fifteen.
    add(&with(ipv4(UDP, 5, 0), 14, 0x50), 14 + 16 * 4, 6);
    for first in [0x40, 0x45, 0x50, 0x70, 0x00, 0xe0] {
        add(&with(ipv6(UDP, &[]), 14, first), L6, 6);
    }
    // A header that is not walked over: of fragments, of authentication; a fifth one; one that says that it is longer.
    add(&ipv6(UDP, &[(44, 1)]), L6 + 8, 6);
    add(&ipv6(UDP, &[(51, 1)]), L6 + 8, 6);
    add(&ipv6(UDP, &[(60, 1); 5]), L6 + 40, 6);
    add(&with(ipv6(UDP, &[(60, 1)]), 14 + 41, 1), L6 + 8, 6);
    add(&ipv6(UDP, &[(60, 1)]), L6, 6);
    add(&ipv6(UDP, &[(60, 2)]), L6 + 8, 6);
    for ethertype in [0x0806, 0x0801, 0x88cc, 0x86dc] {
        let frame = with(ipv4(UDP, 5, 0), 12, (ethertype >> 8) as u8);
        add(&with(frame, 13, ethertype as u8), L4, 6);
        let frame = with(ipv6(UDP, &[]), 12, (ethertype >> 8) as u8);
        add(&with(frame, 13, ethertype as u8), L6, 6);
    }
    all
}

/// A veth whose packets all come by this thread's processor, one behind the other, and tunnels by it.
struct World {
    socket: Unfinished,
    end: u32,
    fence: UdpSocket,
    fenced: Vec<u8>,
    tunnels: Vec<UdpSocket>,
}

impl World {
    fn new() -> World {
        let mut one = CpuSet::new();
        one.set(0).expect("a processor");
        sched_setaffinity(Pid::from_raw(0), &one).expect("the first processor");
        ip("link add v0 type veth peer name v1");
        for name in ["v0", "v1"] {
            ip(&format!("link set {name} addrgenmode none up"));
        }
        ip("addr add 192.0.2.1/24 dev v0");
        ip("-6 addr add fd00::1/64 dev v0 nodad");
        ip("neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
        ip("-6 neigh replace fd00::9 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
        let tunnels = ["192.0.2.1 remote 192.0.2.9", "fd00::1 remote fd00::9"];
        let tunnels = tunnels.iter().enumerate().map(|(n, ends)| {
            ip(&format!(
                "link add vx{n} type vxlan id {n} dstport 4789 local {ends} dev v0"
            ));
            ip(&format!("link set vx{n} addrgenmode none up"));
            ip(&format!("addr add 198.51.{n}.1/24 dev vx{n}"));
            let far = format!("198.51.{n}.2");
            ip(&format!(
                "neigh replace {far} lladdr 02:00:00:00:00:0a dev vx{n} nud permanent"
            ));
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.connect((far, 9)).expect("a way");
            socket
        });
        let tunnels = tunnels.collect();
        ip("addr add 203.0.113.1/32 dev lo");
        let fence = UdpSocket::bind("203.0.113.1:7").expect("a socket");
        fence
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a timeout");
        for name in ["all", "v1"] {
            run(
                "sysctl",
                &["-qw", &format!("net.ipv4.conf.{name}.rp_filter=0")],
            );
        }
        // From afar, to the node itself, without a checksum.
        let mut fenced = ipv4(UDP, 5, 0);
        fenced[26..34].copy_from_slice(&[203, 0, 113, 9, 203, 0, 113, 1]);
        let words = fenced[14..34].chunks(2);
        let sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        fenced[24..26].copy_from_slice(&sum.to_be_bytes());
        fenced[34..42].copy_from_slice(&[0, 7, 0, 7, 0, 64, 0, 0]);
        fenced[..6].copy_from_slice(&link("v1").mac.expect("a MAC"));
        World {
            socket: Unfinished::open(link("v0").index).expect("a packet socket"),
            end: link("v1").index,
            fence,
            fenced,
            tunnels,
        }
    }

    fn dropped(&self) -> u64 {
        let all = tc::dropped(&mut rtnl()).expect("statistics");
        all.get(&self.end).copied().unwrap_or_default()
    }

    /// Everything before has been seen; or the fence was dropped itself.
    fn is_through(&self) -> bool {
        self.socket.send(&self.fenced, None).expect("sent");
        match self.fence.recv(&mut [0; 128]) {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        }
    }

    /// How many of the forged frames and of the honest ones are dropped; none: all are.
    fn verdicts(&self, forged: &[Sent], honest: &[Sent]) -> Option<(u64, u64)> {
        let start = self.dropped();
        let send = |sent: &Sent| self.socket.send(&sent.0, sent.1).expect("taken");
        forged.iter().for_each(send);
        if !self.is_through() {
            return None;
        }
        let middle = self.dropped();
        honest.iter().for_each(send);
        for tunnel in &self.tunnels {
            tunnel.send(b"inside").expect("sent");
        }
        self.is_through()
            .then(|| (middle - start, self.dropped() - middle))
    }
}

/// A jump that is always taken, or never; a number that is one more; nothing in its place.
fn mutants(code: &[Instruction], at: usize) -> Vec<(&'static str, Instruction)> {
    const NOTHING: Instruction = [0x05, 0, 0, 0, 0, 0, 0, 0];
    let one = code[at];
    let number = i32::from_ne_bytes([one[4], one[5], one[6], one[7]]);
    let mut more = one;
    more[4..].copy_from_slice(&number.wrapping_add(1).to_ne_bytes());
    let mut always = NOTHING;
    always[2..4].copy_from_slice(&one[2..4]);
    let has_number = one[0] & 0x08 == 0;
    match one[0] & 0x07 {
        0x05 if one[0] == 0x05 => vec![("nothing", NOTHING)],
        0x05 if [0x85, 0x95].contains(&one[0]) => vec![("nothing", NOTHING)],
        0x05 if has_number => vec![("never", NOTHING), ("always", always), ("number", more)],
        0x05 => vec![("never", NOTHING), ("always", always)],
        0x07 if has_number => vec![("nothing", NOTHING), ("number", more)],
        _ => vec![("nothing", NOTHING)],
    }
}

#[test]
fn each_instruction_is_needed() {
    in_fresh_netns(|| {
        let world = World::new();
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
        let mut layout = Layout::read(&Btf::new(&bytes).expect("BTF")).expect("its sk_buff");
        // The kernel alone asks for a CRC: no frame of a packet socket does.
        layout.csum_not_inet = None;
        // What this machine's kernel itself refuses to send is not sent.
        let is_taken = |sent: &Sent| world.socket.send(&sent.0, sent.1).is_ok();
        let (mut forged, honest) = (forged(), honest());
        forged.retain(is_taken);
        assert!(honest.iter().all(is_taken));
        let wanted = Some((forged.len() as u64, 0));
        let mut left: Vec<String> = Vec::new();
        let (mut refused, mut told) = (0, 0);
        for reading in layout.readings() {
            let code = assemble(&layout, reading);
            let put = |code: &[Instruction]| {
                let loaded = Program::load(NAME, LICENSE, code)?;
                let put = filter::hang(&mut rtnl(), world.end, "v1", &loaded);
                put.expect("this kernel can");
                Ok::<_, netlink::Error>(())
            };
            put(&code).expect("the program itself");
            assert_eq!(world.verdicts(&forged, &honest), wanted, "{reading:?}");
            for at in 0..code.len() {
                for (what, instruction) in mutants(&code, at) {
                    let mut mutant = code.clone();
                    mutant[at] = instruction;
                    if put(&mutant).is_err() {
                        refused += 1;
                    } else if world.verdicts(&forged, &honest) == wanted {
                        if reason(&code, at, what).is_none() {
                            left.push(format!("{reading:?}, {at}: {what} {:02x?}", code[at]));
                        }
                    } else {
                        told += 1;
                    }
                }
            }
        }
        assert!(told > 100, "{told} told, {refused} refused");
        assert!(left.is_empty(), "no frame tells: {left:#?}");
    });
}

const TUNNEL: &str = "only the kernel's own tunnels come there, whose checksums begin behind";

fn leads_to_drop(code: &[Instruction], at: usize) -> bool {
    let way = i16::from_ne_bytes([code[at][2], code[at][3]]);
    let to = at + 1 + usize::from(way.unsigned_abs());
    code[to] == [0xb7, 0, 0, 0, program::DROP as u8, 0, 0, 0]
}

/// Why no frame can tell.
fn reason(code: &[Instruction], at: usize, what: &str) -> Option<&'static str> {
    let [operation, registers, ..] = code[at];
    let number = i32::from_ne_bytes(code[at][4..].try_into().expect("four bytes"));
    let before = at.checked_sub(1).map(|before| code[before][0]);
    Some(match (operation, registers & 15) {
        (0x55, 0) if what == "never" && before == Some(0x85) => {
            "what a call could not read is zero, and dropped"
        }
        (0xb7, 0) if number == -1 => "another filter tells",
        (0xb7, 2 | 4) if what == "number" => "a byte more is read",
        (0x57, _) if what == "number" => "one bit more is looked at, which is not set",
        (0x15, 1) if program::TUNNELS.contains(&number) => {
            "there is no tunnel of this kind, and nobody but the kernel makes others"
        }
        (0xcd, _) => TUNNEL,
        (0x07, 9) if number == program::TUNNEL_HEADER => TUNNEL,
        (0x05, _) if leads_to_drop(code, at) => "what comes next drops it, too",
        _ => return None,
    })
}

/// What the program lets through, other filters may still drop.
#[test]
fn what_may_pass_comes_to_the_next_filter() {
    // What comes from the test's own MAC, by its last byte: new devices report their groups for some seconds.
    const DROP: [Instruction; 7] = [
        [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
        [0x30, 0, 0, 0, 11, 0, 0, 0],
        [0x55, 0, 2, 0, 8, 0, 0, 0],
        [0xb7, 0, 0, 0, program::DROP as u8, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
        [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ];
    in_fresh_netns(|| {
        let world = World::new();
        let next = Classifier {
            preference: 2,
            handle: 1,
            name: "next",
        };
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
        let layout = Layout::read(&Btf::new(&bytes).expect("BTF")).expect("its sk_buff");
        let drop = Program::load("next", LICENSE, &DROP).expect("a program");
        for reading in layout.readings() {
            let own = Program::load(NAME, LICENSE, &assemble(&layout, reading)).expect("verified");
            let put = filter::hang(&mut rtnl(), world.end, "v1", &own);
            put.expect("this kernel can");
            tc::put(&mut rtnl(), world.end, &next, &drop).expect("put");
            let before = world.dropped();
            let honest = honest();
            for (frame, checksum) in &honest {
                world.socket.send(frame, *checksum).expect("taken");
            }
            assert!(!world.is_through(), "even the fence");
            assert_eq!(
                world.dropped() - before,
                honest.len() as u64 + 1,
                "{reading:?}"
            );
        }
    });
}
