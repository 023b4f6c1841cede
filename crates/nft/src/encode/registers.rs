//! Fields into registers, and what is compared there.

use ipnet::IpNet;

use super::Encoder;
use crate::field::{Field, Load};
use crate::matching::Concat;
use crate::settled::Condition;
use crate::uapi::*;
use crate::value::Value;

/// The number of the `place`th register of four bytes. Where one of sixteen begins, that one's: so
/// the kernel tells it back (`nft_dump_register`).
const fn register(place: u32) -> u32 {
    if place.is_multiple_of(4) {
        NFT_REG_1 + place / 4
    } else {
        NFT_REG32_00 + place
    }
}

impl Encoder<'_> {
    /// What must hold before a field may be read: the same checks, in the same places, as `nft`
    /// puts there by itself.
    pub(super) fn dependencies(&mut self, field: Field) {
        let conditions = self.settled.conditions(field);
        conditions.for_each(|condition| self.require(condition));
    }

    pub(super) fn require(&mut self, condition: Condition) {
        if !self.settled.settle(condition) {
            return;
        }
        match condition {
            Condition::Ethernet => {
                self.meta(NFT_META_IIFTYPE);
                self.compare(NFT_CMP_EQ, &1u16.to_ne_bytes()); // ARPHRD_ETHER
            }
            Condition::Family(family) => {
                self.meta(NFT_META_NFPROTO);
                self.compare(NFT_CMP_EQ, &Value::Nfproto(family).bytes());
            }
            Condition::EtherType(number) => {
                self.meta(NFT_META_PROTOCOL);
                self.compare(NFT_CMP_EQ, &number.to_be_bytes());
            }
            Condition::LinkType(number) => {
                self.load(Field::EtherType);
                self.compare(NFT_CMP_EQ, &number.to_be_bytes());
            }
            Condition::Protocol(number) => {
                self.meta(NFT_META_L4PROTO);
                self.compare(NFT_CMP_EQ, &[number]);
            }
        }
    }

    /// Each field of a key into the registers behind those of the one before.
    pub(super) fn load_all(&mut self, key: &Concat) {
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
    pub(super) fn load(&mut self, field: Field) {
        self.load_at(field, NFT_REG_1);
    }

    pub(super) fn load_at(&mut self, field: Field, dreg: u32) {
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
            Load::Socket(key) => self.expression("socket", |w| {
                w.be32(NFTA_SOCKET_KEY, key);
                w.be32(NFTA_SOCKET_DREG, dreg);
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

    pub(super) fn payload(&mut self, base: u32, offset: u32, length: u32, dreg: u32) {
        self.expression("payload", |w| {
            w.be32(NFTA_PAYLOAD_DREG, dreg);
            w.be32(NFTA_PAYLOAD_BASE, base);
            w.be32(NFTA_PAYLOAD_OFFSET, offset);
            w.be32(NFTA_PAYLOAD_LEN, length);
        });
    }

    pub(super) fn meta(&mut self, key: u32) {
        self.meta_at(key, NFT_REG_1);
    }

    pub(super) fn meta_at(&mut self, key: u32, dreg: u32) {
        self.expression("meta", |w| {
            w.be32(NFTA_META_KEY, key);
            w.be32(NFTA_META_DREG, dreg);
        });
    }

    pub(super) fn immediate(&mut self, dreg: u32, bytes: &[u8]) {
        self.expression("immediate", |w| {
            w.be32(NFTA_IMMEDIATE_DREG, dreg);
            w.nested(NFTA_IMMEDIATE_DATA, |w| w.attr(NFTA_DATA_VALUE, bytes));
        });
    }

    pub(super) fn compare(&mut self, op: u32, bytes: &[u8]) {
        self.expression("cmp", |w| {
            w.be32(NFTA_CMP_SREG, NFT_REG_1);
            w.be32(NFTA_CMP_OP, op);
            w.nested(NFTA_CMP_DATA, |w| w.attr(NFTA_DATA_VALUE, bytes));
        });
    }

    pub(super) fn not_between(&mut self, low: &[u8], high: &[u8]) {
        self.expression("range", |w| {
            w.be32(NFTA_RANGE_SREG, NFT_REG_1);
            w.be32(NFTA_RANGE_OP, NFT_RANGE_NEQ);
            w.nested(NFTA_RANGE_FROM_DATA, |w| w.attr(NFTA_DATA_VALUE, low));
            w.nested(NFTA_RANGE_TO_DATA, |w| w.attr(NFTA_DATA_VALUE, high));
        });
    }

    /// Whole bytes of a prefix are compared directly; only odd lengths need a mask.
    pub(super) fn prefix(&mut self, field: Field, net: &IpNet, op: u32) {
        let bytes = Value::from(net.network()).bytes();
        let width = bytes.len();
        let length = usize::from(net.prefix_len());
        let whole = length > 0 && length.is_multiple_of(8);
        match field.spec().load {
            Load::Payload(base, offset) if whole => {
                self.payload(base, offset, (length / 8) as u32, NFT_REG_1);
                self.compare(op, &bytes[..length / 8]);
            }
            _ if whole => {
                self.load(field);
                self.compare(op, &bytes[..length / 8]);
            }
            _ => {
                self.load(field);
                self.mask(length, width);
                self.compare(op, &bytes);
            }
        }
    }

    pub(super) fn mask(&mut self, length: usize, width: usize) {
        let mask: Vec<u8> = (0..width)
            .map(|byte| {
                let ones = length.saturating_sub(byte * 8).min(8) as u32;
                (0xff00u32 >> ones) as u8
            })
            .collect();
        self.bitwise(&mask);
    }

    pub(super) fn bitwise(&mut self, mask: &[u8]) {
        let zeros = &[0; 16][..mask.len()];
        self.expression("bitwise", |w| {
            w.be32(NFTA_BITWISE_SREG, NFT_REG_1);
            w.be32(NFTA_BITWISE_DREG, NFT_REG_1);
            w.be32(NFTA_BITWISE_LEN, mask.len() as u32);
            w.nested(NFTA_BITWISE_MASK, |w| w.attr(NFTA_DATA_VALUE, mask));
            w.nested(NFTA_BITWISE_XOR, |w| w.attr(NFTA_DATA_VALUE, zeros));
        });
    }
}
