//! The guard's program: which packets of a pod keep a checksum that the kernel still has to write.
//!
//! This file is licensed under the MIT licence or the GNU General Public Licence, version 2, at your
//! option (SPDX-License-Identifier: MIT OR GPL-2.0-only), beside the licence of the whole: it becomes a
//! program inside the kernel that calls functions open to GPL-compatible programs only, and says so
//! with [`LICENSE`].
//!
//! Whoever sends packets by a packet socket, or a guest by its tap, may leave the checksum to the
//! kernel (`VIRTIO_NET_HDR_F_NEEDS_CSUM`), and says himself where it has to be written: at any two
//! bytes. The kernel writes them behind every hook of netfilter, when it fragments the packet or when
//! the device does not do checksums (`skb_checksum_help`). So what the rules saw, port or address, is
//! not what leaves. What the kernel itself sends is never anything but TCP, UDP or SCTP at its own
//! place, or inside a tunnel of its own: all other packets are dropped here.

use std::ffi::CStr;

use serde::{Deserialize, Serialize};

use super::asm::Comparison::{Below, Bits, Equal, Greater, NotEqual};
use super::asm::Operation::{Add, And, ShiftLeft, ShiftRight, Subtract};
use super::asm::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use super::asm::Size::{Byte, Half, Word};
use super::asm::{Assembler, Instruction, Label, Register};
use super::btf::{self, Btf, Member};

/// What the kernel is told, without which it refuses calls of some of its functions.
pub const LICENSE: &CStr = c"Dual MIT/GPL";
/// What `tc`, `bpftool` and the kernel call it.
pub const NAME: &str = "egressway_csum";

/// The function that gives a classifier the kernel's own view of its packet (Linux 6.2).
const CAST: &str = "bpf_cast_to_kern_ctx";
/// enum bpf_func_id
const SKB_LOAD_BYTES_RELATIVE: i32 = 68;
const PROBE_READ_KERNEL: i32 = 113;
/// BPF_HDR_START_NET: from the IP header on.
const FROM_IP_HEADER: i32 = 1;
/// Where struct __sk_buff has the packet's ethertype.
const SK_BUFF_PROTOCOL: i16 = 16;
/// CHECKSUM_PARTIAL (linux/skbuff.h): the checksum has yet to be written.
const PARTIAL: i32 = 3;
/// TC_ACT_SHOT, TC_ACT_UNSPEC (linux/pkt_cls.h): drop; what the next filter says.
pub(super) const DROP: i32 = 2;
const GO_ON: i32 = -1;

const IPV4: i32 = 0x0800u16.to_be() as i32;
const IPV6: i32 = 0x86ddu16.to_be() as i32;
/// More fragments, or not the first one (RFC 791, 3.1).
const FRAGMENT: i32 = 0x3fffu16.to_be() as i32;

/// Protocol, and where its header has the checksum.
const TCP: (i32, i32) = (6, 16);
const UDP: (i32, i32) = (17, 6);
const SCTP: (i32, i32) = (132, 8);
/// What carries other packets: IPv4, UDP (VXLAN, Geneve and others), IPv6, GRE. Each has less than this
/// many bytes that the node, or who comes after it, goes by.
pub(super) const TUNNELS: [i32; 4] = [4, 17, 41, 47];
pub(super) const TUNNEL_HEADER: i32 = 8;
/// Hop-by-hop options, routing, destination options (RFC 8200): headers of IPv6 behind which the
/// packet goes on. No fragments.
const EXTENSIONS: [i32; 3] = [0, 43, 60];
/// As many of them are looked behind. RFC 8200, 4.1 has no more without fragments.
const MOST_EXTENSIONS: usize = 4;

/// On the stack: what is read of the packet.
const PACKET: i16 = -24;

/// Where a kernel's `struct sk_buff` has what the program looks at. It differs from kernel to kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    ip_summed: Bits8,
    /// Not in kernels without SCTP.
    pub(super) csum_not_inet: Option<Bits8>,
    encapsulation: Bits8,
    csum_start: u16,
    csum_offset: u16,
    network_header: u16,
    /// The number of [`CAST`] among the kernel's types, if it has it.
    cast: Option<u32>,
}

/// Bits of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bits8 {
    byte: u16,
    shift: u8,
    mask: u8,
}

impl Layout {
    /// # Errors
    /// The kernel's types say nothing of it, or something else than of all kernels so far.
    pub fn read(btf: &Btf<'_>) -> Result<Layout, btf::Error> {
        const NAMES: [&str; 6] = [
            "ip_summed",
            "csum_not_inet",
            "encapsulation",
            "csum_start",
            "csum_offset",
            "network_header",
        ];
        let found = btf.members("sk_buff", NAMES)?;
        let member = |index: usize| found[index].ok_or_else(|| unknown(NAMES[index]));
        let bits =
            |index, bits| Bits8::of(member(index)?, bits).ok_or_else(|| unknown(NAMES[index]));
        let half = |index| half(member(index)?).ok_or_else(|| unknown(NAMES[index]));
        Ok(Layout {
            ip_summed: bits(0, 2)?,
            csum_not_inet: found[1].map(|_| bits(1, 1)).transpose()?,
            encapsulation: bits(2, 1)?,
            csum_start: half(3)?,
            csum_offset: half(4)?,
            network_header: half(5)?,
            cast: btf.function(CAST),
        })
    }

    /// In which ways the program can be made for this kernel, the better one first.
    pub fn readings(&self) -> impl Iterator<Item = Reading> + use<> {
        [self.cast.map(Reading::Cast), Some(Reading::Probe)]
            .into_iter()
            .flatten()
    }

    /// The first byte that is looked at, and the one behind the last.
    fn span(&self) -> (u16, u16) {
        let bits = [
            Some(self.ip_summed),
            self.csum_not_inet,
            Some(self.encapsulation),
        ];
        let bits = bits.map(|bits| bits.map(|bits| (bits.byte, 1)));
        let halves = [self.csum_start, self.csum_offset, self.network_header].map(|at| (at, 2));
        let all = || bits.iter().flatten().chain(&halves);
        let first = all().map(|(at, _)| *at).min().unwrap_or_default();
        let end = all().map(|(at, length)| at + length).max();
        (first, end.unwrap_or_default())
    }
}

/// How the program looks at `struct sk_buff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reading {
    /// Directly, checked by the verifier: since Linux 6.2, by the function of this number.
    Cast(u32),
    /// By a helper that copies any of the kernel's memory. Linux refuses it where it is locked down for
    /// confidentiality.
    Probe,
}

fn unknown(name: &str) -> btf::Error {
    btf::Error::Unknown(format!("member {name} of struct sk_buff"))
}

fn half(member: Member) -> Option<u16> {
    (member.bits == 16 && member.at.is_multiple_of(8)).then(|| place(member.at / 8))?
}

/// Whatever is further away than this is no member of a `struct sk_buff`, and would not fit on the stack.
fn place(byte: u32) -> Option<u16> {
    u16::try_from(byte).ok().filter(|byte| *byte < 400)
}

impl Bits8 {
    fn of(member: Member, bits: u32) -> Option<Bits8> {
        let shift = member.at % 8;
        (member.bits == bits && shift + bits <= 8).then_some(())?;
        Some(Bits8 {
            byte: place(member.at / 8)?,
            shift: shift as u8,
            mask: ((1 << bits) - 1) << shift,
        })
    }

    /// This value in this place of the byte.
    fn value(self, value: i32) -> i32 {
        value << self.shift
    }
}

/// The program for a kernel.
pub fn assemble(layout: &Layout, reading: Reading) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let mut program = Program {
        pass: asm.label(),
        drop: asm.label(),
        asm,
        first: 0,
        layout,
    };
    program.write(reading);
    program.asm.finish()
}

/// Registers: R6 is the packet, R7 where [`Layout`]'s members are, R8 where the checksum begins and R9
/// where the transport's header does, both counted from the IP header, and R1 at last its protocol.
struct Program<'a> {
    asm: Assembler,
    layout: &'a Layout,
    /// The byte of `struct sk_buff` that R7 is the place of.
    first: u16,
    pass: Label,
    drop: Label,
}

impl Program<'_> {
    fn write(&mut self, reading: Reading) {
        let (pass, drop) = (self.pass, self.drop);
        self.open(reading);
        // Nearly all packets end here, or are TCP.
        let summed = self.layout.ip_summed;
        self.load_bits(R0, summed);
        self.jump_unless(R0, summed, PARTIAL, pass);
        self.load_half(R8, self.layout.csum_start);
        self.load_half(R0, self.layout.network_header);
        self.asm.alu(Subtract, R8, R0);
        let (ipv6, transport) = (self.asm.label(), self.asm.label());
        self.asm.load(Word, R0, R6, SK_BUFF_PROTOCOL);
        self.asm.jump(Equal, R0, IPV6, ipv6);
        self.asm.jump(NotEqual, R0, IPV4, drop);
        self.ipv4();
        self.asm.go(transport);
        self.asm.place(ipv6);
        self.ipv6(transport);
        self.asm.place(transport);
        self.transport();
        self.asm.place(drop);
        self.asm.set(R0, DROP);
        self.asm.exit();
        self.asm.place(pass);
        self.asm.set(R0, GO_ON);
        self.asm.exit();
    }

    /// R6, R7 and `first`.
    fn open(&mut self, reading: Reading) {
        self.asm.set(R6, R1);
        match reading {
            Reading::Cast(function) => {
                self.asm.call_kernel(function);
                self.asm.set(R7, R0);
                self.first = 0;
            }
            Reading::Probe => {
                let (first, end) = self.layout.span();
                let length = i32::from(end - first);
                let stack = i32::from(PACKET) - (length + 7) / 8 * 8;
                self.asm.set(R7, R10);
                self.asm.alu(Add, R7, stack);
                self.asm.set(R1, R7);
                self.asm.set(R2, length);
                self.asm.set(R3, R6);
                self.asm.alu(Add, R3, i32::from(first));
                self.asm.call(PROBE_READ_KERNEL);
                self.asm.jump(NotEqual, R0, 0, self.drop);
                self.first = first;
            }
        }
    }

    /// R9 and R1 of a packet of IPv4, which must be no fragment.
    fn ipv4(&mut self) {
        self.asm.set(R2, 0);
        self.read_packet(20);
        self.asm.load(Byte, R9, R10, PACKET);
        // Version 4, and a header of 5 to 15 words.
        self.asm.alu(Add, R9, -0x45);
        self.asm.jump(Greater, R9, 10, self.drop);
        self.asm.alu(Add, R9, 5);
        self.asm.alu(ShiftLeft, R9, 2);
        self.asm.load(Half, R0, R10, PACKET + 6);
        self.asm.jump(Bits, R0, FRAGMENT, self.drop);
        self.asm.load(Byte, R1, R10, PACKET + 9);
    }

    /// The same of IPv6, behind its extension headers.
    fn ipv6(&mut self, transport: Label) {
        self.asm.set(R2, 0);
        self.read_packet(8);
        self.asm.load(Byte, R0, R10, PACKET);
        self.asm.alu(ShiftRight, R0, 4);
        self.asm.jump(NotEqual, R0, 6, self.drop);
        self.asm.load(Byte, R1, R10, PACKET + 6);
        self.asm.set(R9, 40);
        for _ in 0..MOST_EXTENSIONS {
            let extension = self.asm.label();
            for kind in EXTENSIONS {
                self.asm.jump(Equal, R1, kind, extension);
            }
            self.asm.go(transport);
            self.asm.place(extension);
            self.asm.set(R2, R9);
            self.read_packet(2);
            self.asm.load(Byte, R1, R10, PACKET);
            // In words of eight bytes, without the first.
            self.asm.load(Byte, R0, R10, PACKET + 1);
            self.asm.alu(Add, R0, 1);
            self.asm.alu(ShiftLeft, R0, 3);
            self.asm.alu(Add, R9, R0);
        }
    }

    /// The verdict.
    fn transport(&mut self) {
        let (pass, drop) = (self.pass, self.drop);
        let (inner, tcp, udp) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.load_half(R2, self.layout.csum_offset);
        self.asm.jump(NotEqual, R8, R9, inner);
        self.asm.jump(Equal, R1, TCP.0, tcp);
        self.asm.jump(Equal, R1, UDP.0, udp);
        // A CRC, which only the kernel itself asks for.
        if let Some(not_inet) = self.layout.csum_not_inet {
            self.asm.jump(NotEqual, R1, SCTP.0, drop);
            self.load_bits(R0, not_inet);
            self.jump_unless(R0, not_inet, 1, drop);
            self.asm.jump(Equal, R2, SCTP.1, pass);
        }
        self.asm.go(drop);
        self.asm.place(tcp);
        self.asm.jump(Equal, R2, TCP.1, pass);
        self.asm.go(drop);
        self.asm.place(udp);
        self.asm.jump(Equal, R2, UDP.1, pass);
        self.asm.go(drop);
        // Inside a tunnel that the pod's kernel made, behind the outer headers.
        self.asm.place(inner);
        let encapsulation = self.layout.encapsulation;
        self.load_bits(R0, encapsulation);
        self.jump_unless(R0, encapsulation, 1, drop);
        self.asm.alu(Add, R9, TUNNEL_HEADER);
        self.asm.jump(Below, R8, R9, drop);
        for protocol in TUNNELS {
            self.asm.jump(Equal, R1, protocol, pass);
        }
    }

    /// Reads so many bytes of the packet at R2, counted from the IP header, to [`PACKET`].
    fn read_packet(&mut self, length: i32) {
        self.asm.set(R1, R6);
        self.asm.set(R3, R10);
        self.asm.alu(Add, R3, i32::from(PACKET));
        self.asm.set(R4, length);
        self.asm.set(R5, FROM_IP_HEADER);
        self.asm.call(SKB_LOAD_BYTES_RELATIVE);
        self.asm.jump(NotEqual, R0, 0, self.drop);
    }

    fn load_half(&mut self, register: Register, at: u16) {
        let offset = at - self.first;
        self.asm.load(Half, register, R7, offset.cast_signed());
    }

    /// The bits in their place, all others zero.
    fn load_bits(&mut self, register: Register, bits: Bits8) {
        let offset = bits.byte - self.first;
        self.asm.load(Byte, register, R7, offset.cast_signed());
        self.asm.alu(And, register, i32::from(bits.mask));
    }

    fn jump_unless(&mut self, register: Register, bits: Bits8, value: i32, to: Label) {
        self.asm.jump(NotEqual, register, bits.value(value), to);
    }
}

#[cfg(test)]
mod tests;
