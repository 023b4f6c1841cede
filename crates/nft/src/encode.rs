//! Rules as the kernel's expressions (`net/netfilter/nft_*.c`), the same that `nft` would make.

use std::net::IpAddr;

use ipnet::IpNet;

use super::field::{Field, LINK, Load, Needs};
use super::matching::{Concat, Match, Test};
use super::set::milliseconds;
use super::statement::{Limit, Nat, Reject, Rule, Statement, Verdict};
use super::table::TableFamily;
use super::uapi::*;
use super::value::{Family, Value};
use super::wire::Writer;

/// Writes the list of a rule's expressions.
pub fn expressions(w: &mut Writer, table: TableFamily, rule: &Rule) {
    let mut encoder = Encoder {
        w,
        table,
        nfproto: None,
        l4proto: None,
        ether: false,
        protocol: false,
    };
    for statement in &rule.statements {
        encoder.statement(statement);
    }
}

/// A counter starting at zero, as an expression of its own: for elements that count.
pub fn counter(w: &mut Writer) {
    expression_body(w, "counter", |w| {
        w.be64(NFTA_COUNTER_BYTES, 0);
        w.be64(NFTA_COUNTER_PACKETS, 0);
    });
}

/// A verdict as data: of an immediate, or of a map's element.
pub fn verdict(w: &mut Writer, verdict: &Verdict) {
    let code = match verdict {
        Verdict::Accept => NF_ACCEPT,
        Verdict::Drop => NF_DROP,
        Verdict::Return => NFT_RETURN,
        Verdict::Jump(_) => NFT_JUMP,
        Verdict::Goto(_) => NFT_GOTO,
    };
    w.nested(NFTA_DATA_VERDICT, |w| {
        w.attr(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = verdict.chain() {
            w.str(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

fn expression_body(w: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    w.str(NFTA_EXPR_NAME, name);
    w.nested(NFTA_EXPR_DATA, data);
}

/// The number of the `place`th register of four bytes. Where one of sixteen begins, that one's: so
/// the kernel tells it back (`nft_dump_register`).
const fn register(place: u32) -> u32 {
    if place.is_multiple_of(4) {
        NFT_REG_1 + place / 4
    } else {
        NFT_REG32_00 + place
    }
}

struct Encoder<'a> {
    w: &'a mut Writer,
    table: TableFamily,
    /// What earlier matches of this rule have settled, so that no check is made twice.
    nfproto: Option<Family>,
    l4proto: Option<u8>,
    ether: bool,
    protocol: bool,
}

impl Encoder<'_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        self.w
            .nested(NFTA_LIST_ELEM, |w| expression_body(w, name, data));
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(m) => self.matching(m),
            Statement::Counter => self.w.nested(NFTA_LIST_ELEM, counter),
            Statement::Limit(Limit { rate, burst }) => self.expression("limit", |w| {
                w.be64(NFTA_LIMIT_RATE, u64::from(*rate));
                w.be64(NFTA_LIMIT_UNIT, 1); // a second
                w.be32(NFTA_LIMIT_BURST, *burst);
                w.be32(NFTA_LIMIT_TYPE, 0); // packets
                w.be32(NFTA_LIMIT_FLAGS, 0);
            }),
            Statement::Log {
                prefix,
                group,
                snaplen,
            } => self.expression("log", |w| {
                w.str(NFTA_LOG_PREFIX, prefix);
                w.be16(NFTA_LOG_GROUP, *group);
                w.be32(NFTA_LOG_SNAPLEN, *snaplen);
                w.be16(NFTA_LOG_QTHRESHOLD, 0);
            }),
            Statement::Among(key, set) => {
                self.load_all(key);
                self.lookup(set, None, false);
            }
            Statement::Vmap(key, map) => {
                self.load_all(key);
                self.lookup(map, Some(NFT_REG_VERDICT), false);
            }
            Statement::Update(key, set, timeout) => {
                self.load_all(key);
                self.expression("dynset", |w| {
                    w.be32(NFTA_DYNSET_SREG_KEY, NFT_REG_1);
                    w.be32(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
                    w.str(NFTA_DYNSET_SET_NAME, set);
                    if let Some(timeout) = timeout {
                        w.be64(NFTA_DYNSET_TIMEOUT, milliseconds(*timeout));
                    }
                });
            }
            Statement::Verdict(v) => self.expression("immediate", |w| {
                w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                w.nested(NFTA_IMMEDIATE_DATA, |w| verdict(w, v));
            }),
            Statement::Reject(reject) => self.reject(*reject),
            Statement::SetEtherDaddr(mac) => self.set_ether_daddr(*mac),
            Statement::SetMark(mark) => {
                self.immediate(NFT_REG_1, &mark.to_ne_bytes());
                self.expression("meta", |w| {
                    w.be32(NFTA_META_KEY, NFT_META_MARK);
                    w.be32(NFTA_META_SREG, NFT_REG_1);
                });
            }
            Statement::Notrack => self.expression("notrack", |_| {}),
            Statement::Snat(nat) => self.nat(NFT_NAT_SNAT, nat),
            Statement::Dnat(nat) => self.nat(NFT_NAT_DNAT, nat),
            Statement::Masquerade => self.expression("masq", |_| {}),
        }
    }

    fn matching(&mut self, m: &Match) {
        self.dependencies(m.field);
        match &m.test {
            Test::Within(net) => self.prefix(m.field, net, NFT_CMP_EQ),
            Test::Outside(net) => self.prefix(m.field, net, NFT_CMP_NEQ),
            test => {
                self.load(m.field);
                self.test(m.field, test);
            }
        }
        self.settle(m);
    }

    fn test(&mut self, field: Field, test: &Test) {
        let bits = field.bits();
        let bytes = |value: &Value| value.register(bits);
        match test {
            Test::Is(v) => self.compare(NFT_CMP_EQ, &bytes(v)),
            Test::Not(v) => self.compare(NFT_CMP_NEQ, &bytes(v)),
            Test::Below(v) => self.compare(NFT_CMP_LT, &bytes(v)),
            Test::Above(v) => self.compare(NFT_CMP_GT, &bytes(v)),
            Test::Between(low, high) => {
                self.compare(NFT_CMP_GTE, &bytes(low));
                self.compare(NFT_CMP_LTE, &bytes(high));
            }
            Test::NotBetween(low, high) => self.not_between(&bytes(low), &bytes(high)),
            Test::Masked(mask, v) => {
                self.bitwise(&bytes(mask));
                self.compare(NFT_CMP_EQ, &bytes(v));
            }
            Test::NotMasked(mask, v) => {
                self.bitwise(&bytes(mask));
                self.compare(NFT_CMP_NEQ, &bytes(v));
            }
            Test::In(set) => self.lookup(set, None, false),
            Test::NotIn(set) => self.lookup(set, None, true),
            Test::State(states) => {
                self.any_bit(
                    states
                        .iter()
                        .fold(0, |mask, state| mask | state.name_and_bit().1),
                );
            }
            Test::Dnat => self.any_bit(IPS_DST_NAT),
            Test::Within(_) | Test::Outside(_) => {} // prefix() loads for itself
        }
    }

    /// What must hold before a field may be read: the same checks, in the same places, as `nft`
    /// puts there by itself.
    fn dependencies(&mut self, field: Field) {
        match field.spec().needs {
            Needs::Nothing => {}
            Needs::Ethernet => self.require_ether(),
            Needs::Family(Family::V4) => self.require_family(Family::V4),
            Needs::Family(Family::V6) => self.require_family(Family::V6),
            Needs::Arp => self.require_ether_type(0x0806),
            Needs::Protocol(protocol) => self.require_l4proto(protocol),
            Needs::Icmp(Family::V4) => {
                self.require_family(Family::V4);
                self.require_l4proto(1);
            }
            Needs::Icmp(Family::V6) => {
                self.require_family(Family::V6);
                self.require_l4proto(58);
            }
        }
    }

    fn settle(&mut self, m: &Match) {
        match (m.field, &m.test) {
            (Field::Nfproto, Test::Is(Value::Nfproto(family))) => self.nfproto = Some(*family),
            (Field::L4proto, Test::Is(Value::Protocol(n))) => self.l4proto = Some(*n),
            (Field::Ip6Nexthdr, Test::Is(Value::Protocol(n))) => self.l4proto = Some(*n),
            (Field::EtherType, Test::Is(_)) => self.protocol = true,
            _ => {}
        }
    }

    /// `meta iiftype ether`: a link header may only be read where there is one. A bridge has no other
    /// frames.
    fn require_ether(&mut self) {
        if self.table != TableFamily::Bridge && !std::mem::replace(&mut self.ether, true) {
            self.meta(NFT_META_IIFTYPE);
            self.compare(NFT_CMP_EQ, &1u16.to_ne_bytes()); // ARPHRD_ETHER
        }
    }

    fn require_family(&mut self, family: Family) {
        match self.table {
            TableFamily::Inet => {
                if self.nfproto != Some(family) {
                    self.nfproto = Some(family);
                    self.meta(NFT_META_NFPROTO);
                    self.compare(NFT_CMP_EQ, &Value::Nfproto(family).bytes());
                }
            }
            _ => self.require_ether_type(match family {
                Family::V4 => 0x0800,
                Family::V6 => 0x86dd,
            }),
        }
    }

    /// Where packets of all kinds come by.
    fn require_ether_type(&mut self, ether_type: u16) {
        let all = matches!(self.table, TableFamily::Netdev | TableFamily::Bridge);
        if all && !std::mem::replace(&mut self.protocol, true) {
            self.meta(NFT_META_PROTOCOL);
            self.compare(NFT_CMP_EQ, &ether_type.to_be_bytes());
        }
    }

    fn require_l4proto(&mut self, protocol: u8) {
        if self.l4proto != Some(protocol) {
            self.l4proto = Some(protocol);
            self.meta(NFT_META_L4PROTO);
            self.compare(NFT_CMP_EQ, &[protocol]);
        }
    }

    /// Each field of a key into the registers behind those of the one before.
    fn load_all(&mut self, key: &Concat) {
        for field in key.fields() {
            self.dependencies(*field);
        }
        let mut place = 0;
        for field in key.fields() {
            self.load_at(*field, register(place));
            place += field.spec().length.div_ceil(4);
        }
    }

    /// A field into the first register.
    fn load(&mut self, field: Field) {
        self.load_at(field, NFT_REG_1);
    }

    fn load_at(&mut self, field: Field, dreg: u32) {
        let spec = field.spec();
        match spec.load {
            Load::Payload(base, offset) => self.payload(base, offset, spec.length, dreg),
            Load::Meta(key) => {
                self.meta_at(key, dreg);
                if field == Field::Time {
                    self.expression("byteorder", |w| {
                        w.be32(NFTA_BYTEORDER_SREG, dreg);
                        w.be32(NFTA_BYTEORDER_DREG, dreg);
                        w.be32(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON);
                        w.be32(NFTA_BYTEORDER_LEN, 8);
                        w.be32(NFTA_BYTEORDER_SIZE, 8);
                    });
                }
            }
            Load::Ct(key) => self.expression("ct", |w| {
                w.be32(NFTA_CT_KEY, key);
                w.be32(NFTA_CT_DREG, dreg);
            }),
            Load::CtOriginal(key) => self.expression("ct", |w| {
                w.be32(NFTA_CT_KEY, key);
                w.be32(NFTA_CT_DREG, dreg);
                w.attr(NFTA_CT_DIRECTION, &[IP_CT_DIR_ORIGINAL]);
            }),
            Load::FibDaddrType => self.expression("fib", |w| {
                w.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
                w.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                w.be32(NFTA_FIB_DREG, dreg);
            }),
            Load::Exthdr(kind, offset) => self.expression("exthdr", |w| {
                w.be32(NFTA_EXTHDR_DREG, dreg);
                w.attr(NFTA_EXTHDR_TYPE, &[kind]);
                w.be32(NFTA_EXTHDR_OFFSET, offset);
                w.be32(NFTA_EXTHDR_LEN, spec.length);
            }),
        }
        if let Some((mask, _)) = field.bits() {
            self.bitwise(&mask);
        }
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, dreg: u32) {
        self.expression("payload", |w| {
            w.be32(NFTA_PAYLOAD_DREG, dreg);
            w.be32(NFTA_PAYLOAD_BASE, base);
            w.be32(NFTA_PAYLOAD_OFFSET, offset);
            w.be32(NFTA_PAYLOAD_LEN, length);
        });
    }

    fn meta(&mut self, key: u32) {
        self.meta_at(key, NFT_REG_1);
    }

    fn meta_at(&mut self, key: u32, dreg: u32) {
        self.expression("meta", |w| {
            w.be32(NFTA_META_KEY, key);
            w.be32(NFTA_META_DREG, dreg);
        });
    }

    fn immediate(&mut self, dreg: u32, bytes: &[u8]) {
        self.expression("immediate", |w| {
            w.be32(NFTA_IMMEDIATE_DREG, dreg);
            w.nested(NFTA_IMMEDIATE_DATA, |w| w.attr(NFTA_DATA_VALUE, bytes));
        });
    }

    fn compare(&mut self, op: u32, bytes: &[u8]) {
        self.expression("cmp", |w| {
            w.be32(NFTA_CMP_SREG, NFT_REG_1);
            w.be32(NFTA_CMP_OP, op);
            w.nested(NFTA_CMP_DATA, |w| w.attr(NFTA_DATA_VALUE, bytes));
        });
    }

    fn not_between(&mut self, low: &[u8], high: &[u8]) {
        self.expression("range", |w| {
            w.be32(NFTA_RANGE_SREG, NFT_REG_1);
            w.be32(NFTA_RANGE_OP, NFT_RANGE_NEQ);
            w.nested(NFTA_RANGE_FROM_DATA, |w| w.attr(NFTA_DATA_VALUE, low));
            w.nested(NFTA_RANGE_TO_DATA, |w| w.attr(NFTA_DATA_VALUE, high));
        });
    }

    fn lookup(&mut self, set: &str, dreg: Option<u32>, invert: bool) {
        self.expression("lookup", |w| {
            w.be32(NFTA_LOOKUP_SREG, NFT_REG_1);
            if let Some(dreg) = dreg {
                w.be32(NFTA_LOOKUP_DREG, dreg);
            }
            w.str(NFTA_LOOKUP_SET, set);
            w.be32(NFTA_LOOKUP_FLAGS, if invert { NFT_LOOKUP_F_INV } else { 0 });
        });
    }

    /// Whole bytes of a prefix are compared directly; only odd lengths need a mask.
    fn prefix(&mut self, field: Field, net: &IpNet, op: u32) {
        let bytes = Value::from(net.network()).bytes();
        let width = bytes.len();
        let length = usize::from(net.prefix_len());
        match field.spec().load {
            Load::Payload(base, offset) if length > 0 && length.is_multiple_of(8) => {
                self.payload(base, offset, (length / 8) as u32, NFT_REG_1);
                self.compare(op, &bytes[..length / 8]);
            }
            _ => {
                self.load(field);
                self.mask(length, width);
                self.compare(op, &bytes);
            }
        }
    }

    fn mask(&mut self, length: usize, width: usize) {
        let mask: Vec<u8> = (0..width)
            .map(|byte| {
                let ones = length.saturating_sub(byte * 8).min(8) as u32;
                (0xff00u32 >> ones) as u8
            })
            .collect();
        self.bitwise(&mask);
    }

    fn bitwise(&mut self, mask: &[u8]) {
        let zeros = &[0; 16][..mask.len()];
        self.expression("bitwise", |w| {
            w.be32(NFTA_BITWISE_SREG, NFT_REG_1);
            w.be32(NFTA_BITWISE_DREG, NFT_REG_1);
            w.be32(NFTA_BITWISE_LEN, mask.len() as u32);
            w.nested(NFTA_BITWISE_MASK, |w| w.attr(NFTA_DATA_VALUE, mask));
            w.nested(NFTA_BITWISE_XOR, |w| w.attr(NFTA_DATA_VALUE, zeros));
        });
    }

    fn any_bit(&mut self, mask: u32) {
        self.bitwise(&mask.to_ne_bytes());
        self.compare(NFT_CMP_NEQ, &0u32.to_ne_bytes());
    }

    fn reject(&mut self, reject: Reject) {
        let (kind, code) = match reject {
            Reject::TcpReset => (NFT_REJECT_TCP_RST, 0),
            Reject::NoRoute => (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_NO_ROUTE),
            Reject::PortUnreachable => (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH),
            Reject::HostUnreachable => (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_HOST_UNREACH),
            Reject::AdminProhibited => {
                (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_ADMIN_PROHIBITED)
            }
        };
        self.expression("reject", |w| {
            w.be32(NFTA_REJECT_TYPE, kind);
            w.attr(NFTA_REJECT_ICMP_CODE, &[code]);
        });
    }

    fn set_ether_daddr(&mut self, mac: [u8; 6]) {
        self.require_ether();
        self.immediate(NFT_REG_1, &mac);
        self.expression("payload", |w| {
            w.be32(NFTA_PAYLOAD_SREG, NFT_REG_1);
            w.be32(NFTA_PAYLOAD_BASE, LINK);
            w.be32(NFTA_PAYLOAD_OFFSET, 0);
            w.be32(NFTA_PAYLOAD_LEN, 6);
            w.be32(NFTA_PAYLOAD_CSUM_TYPE, 0);
            w.be32(NFTA_PAYLOAD_CSUM_OFFSET, 0);
            w.be32(NFTA_PAYLOAD_CSUM_FLAGS, 0);
        });
    }

    fn nat(&mut self, kind: u32, nat: &Nat) {
        let nfproto = match nat.family() {
            Some(Family::V6) => NFPROTO_IPV6,
            _ => NFPROTO_IPV4,
        };
        let mut port_register = None;
        match nat {
            Nat::To(address, port) => {
                self.immediate(NFT_REG_1, &Value::from(*address).bytes());
                if let Some(port) = port {
                    let words = match address {
                        IpAddr::V4(_) => 1,
                        IpAddr::V6(_) => 4,
                    };
                    let register = register(words);
                    self.immediate(register, &port.to_be_bytes());
                    port_register = Some(register);
                }
            }
            Nat::Map(field, map) => {
                self.dependencies(*field);
                self.load(*field);
                self.lookup(map, Some(NFT_REG_1), false);
            }
        }
        self.expression("nat", |w| {
            w.be32(NFTA_NAT_TYPE, kind);
            w.be32(NFTA_NAT_FAMILY, u32::from(nfproto));
            w.be32(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
            if let Some(register) = port_register {
                w.be32(NFTA_NAT_REG_PROTO_MIN, register);
                w.be32(NFTA_NAT_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
            }
        });
    }
}
