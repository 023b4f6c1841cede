//! Rules as the kernel's expressions (`net/netfilter/nft_*.c`), the same that `nft` would make.

mod registers;

use std::net::IpAddr;

use crate::field::{Field, LINK};
use crate::matching::{Match, Test};
use crate::set::milliseconds;
use crate::settled::{Condition, Settled};
use crate::statement::{Limit, Nat, Reject, Rule, Statement, Verdict};
use crate::table::TableFamily;
use crate::uapi::*;
use crate::value::{Family, Value};
use crate::wire::Writer;

/// Writes the list of a rule's expressions.
pub fn expressions(w: &mut Writer, table: TableFamily, rule: &Rule) {
    let mut encoder = Encoder {
        w,
        settled: Settled::new(table),
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

/// The labels of a flow that has this one only: words in this host's byte order.
fn only(label: u8) -> [u8; 16] {
    let mut labels = [0; 16];
    let word = 1u32 << (label % 32);
    let place = usize::from(label / 32) * 4;
    if let Some(bytes) = labels.get_mut(place..place + 4) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    labels
}

struct Encoder<'a> {
    w: &'a mut Writer,
    /// What earlier matches of this rule have settled, so that no check is made twice.
    settled: Settled,
}

impl Encoder<'_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        self.w
            .nested(NFTA_LIST_ELEM, |w| expression_body(w, name, data));
    }

    fn limit(&mut self, limit: &Limit, flags: u32) {
        self.expression("limit", |w| {
            w.be64(NFTA_LIMIT_RATE, u64::from(limit.rate));
            w.be64(NFTA_LIMIT_UNIT, 1); // a second
            w.be32(NFTA_LIMIT_BURST, limit.burst);
            w.be32(NFTA_LIMIT_TYPE, 0); // packets
            w.be32(NFTA_LIMIT_FLAGS, flags);
        });
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(m) => self.matching(m),
            Statement::Counter => self.w.nested(NFTA_LIST_ELEM, counter),
            Statement::Limit(limit) => self.limit(limit, 0),
            Statement::LimitOver(limit) => self.limit(limit, NFT_LIMIT_F_INV),
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
            Statement::SetCtLabel(label) => {
                self.immediate(NFT_REG_1, &only(*label));
                self.expression("ct", |w| {
                    w.be32(NFTA_CT_KEY, NFT_CT_LABELS);
                    w.be32(NFTA_CT_SREG, NFT_REG_1);
                });
            }
            Statement::Notrack => self.expression("notrack", |_| {}),
            Statement::Tproxy(address, port) => self.tproxy(*address, *port),
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
        self.settled.learn(m);
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
            Test::Labelled(label) => {
                self.bitwise(&only(*label));
                self.compare(NFT_CMP_NEQ, &[0; 16]);
            }
            Test::Within(_) | Test::Outside(_) => {} // prefix() loads for itself
        }
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

    fn any_bit(&mut self, mask: u32) {
        self.bitwise(&mask.to_ne_bytes());
        self.compare(NFT_CMP_NEQ, &0u32.to_ne_bytes());
    }

    fn reject(&mut self, reject: Reject) {
        if reject == Reject::TcpReset {
            self.require(Condition::Protocol(6));
        }
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
        self.require(Condition::Ethernet);
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

    fn tproxy(&mut self, address: IpAddr, port: u16) {
        let family = match Family::of(&address) {
            Family::V4 => NFPROTO_IPV4,
            Family::V6 => NFPROTO_IPV6,
        };
        self.immediate(NFT_REG_1, &Value::from(address).bytes());
        self.immediate(NFT_REG_2, &port.to_be_bytes());
        self.expression("tproxy", |w| {
            w.be32(NFTA_TPROXY_FAMILY, u32::from(family));
            w.be32(NFTA_TPROXY_REG_ADDR, NFT_REG_1);
            w.be32(NFTA_TPROXY_REG_PORT, NFT_REG_2);
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
                    self.immediate(NFT_REG_2, &port.to_be_bytes());
                    port_register = Some(NFT_REG_2);
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
                let both = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;
                w.be32(NFTA_NAT_FLAGS, both);
            }
        });
    }
}
