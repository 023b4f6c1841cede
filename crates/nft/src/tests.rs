//! The encoding where it is easy to get wrong: ends of the address space, masks, long lists. What
//! the kernel makes of it all is compared with the real `nft` in `tests/library/differential`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::uapi::*;
use super::wire::{Attrs, Writer, messages};
use super::{Element, Elements, Field, Rule, Step, Table, TableFamily, Test, Transaction, encode};

const FILTER: Table = Table::new(TableFamily::Inet, "filter");

/// Each element of each message of a transaction: its key, and whether it is an interval's end.
fn elements(transaction: &Transaction) -> Vec<Vec<(Vec<u8>, bool)>> {
    let mut w = Writer::default();
    transaction
        .steps()
        .iter()
        .for_each(|step: &Step| step.encode(&mut w, 1));
    let element = |element: &[u8]| {
        let key = Attrs(element)
            .nest(NFTA_SET_ELEM_KEY)
            .and_then(|key| key.get(NFTA_DATA_VALUE))
            .expect("a key");
        let flags = Attrs(element).be32(NFTA_SET_ELEM_FLAGS).unwrap_or(0);
        (key.to_vec(), flags == NFT_SET_ELEM_INTERVAL_END)
    };
    messages(&w.bytes)
        .map(|message| {
            let list = message.attrs().nest(NFTA_SET_ELEM_LIST_ELEMENTS);
            let list = list.expect("a list of elements");
            list.iter().map(|(_, _, one)| element(one)).collect()
        })
        .collect()
}

fn add(elements: Vec<Element>) -> Transaction {
    let mut transaction = Transaction::new();
    transaction.add(&FILTER, Elements::new("set", elements));
    transaction
}

fn ranges(ends: &[(&str, &str)]) -> Transaction {
    let value = |text: &str| text.parse::<IpAddr>().expect("an address");
    let ranges = ends.iter().map(|(a, b)| Element::range(value(a), value(b)));
    add(ranges.collect())
}

/// The only message's keys as IPv4 addresses, an interval's end in brackets.
fn shown(op: &Transaction) -> String {
    let all = elements(op);
    assert_eq!(all.len(), 1);
    let shown = all[0].iter().map(|(key, end)| {
        let address = <[u8; 4]>::try_from(key.as_slice()).map(Ipv4Addr::from);
        let address = address.expect("four bytes");
        if *end {
            format!("({address})")
        } else {
            address.to_string()
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn intervals_end_at_the_next_address() {
    let op = ranges(&[("10.0.0.0", "10.0.0.255"), ("10.0.2.1", "10.0.2.1")]);
    assert_eq!(
        shown(&op),
        "(0.0.0.0) 10.0.0.0 (10.0.1.0) 10.0.2.1 (10.0.2.2)"
    );
}

#[test]
fn intervals_at_the_ends_of_the_address_space() {
    assert_eq!(
        shown(&ranges(&[("0.0.0.0", "0.0.0.0")])),
        "0.0.0.0 (0.0.0.1)"
    );
    let last = ranges(&[("255.255.255.255", "255.255.255.255")]);
    assert_eq!(shown(&last), "(0.0.0.0) 255.255.255.255");
    assert_eq!(shown(&ranges(&[("0.0.0.0", "255.255.255.255")])), "0.0.0.0");
    let carried = ranges(&[
        ("::", "::ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ]);
    let keys: Vec<(Ipv6Addr, bool)> = elements(&carried)[0]
        .iter()
        .map(|(key, end)| {
            (
                <[u8; 16]>::try_from(key.as_slice())
                    .expect("16 bytes")
                    .into(),
                *end,
            )
        })
        .collect();
    let ip = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
    assert_eq!(
        keys,
        [
            (ip("::"), false),
            (ip("::1:0:0"), true),
            (ip("ff00::"), false)
        ]
    );
}

#[test]
fn long_lists_are_cut_into_messages_without_loss() {
    let addresses: Vec<IpAddr> = (1..=5000u128)
        .map(|n| Ipv6Addr::from(n << 8).into())
        .collect();
    let single = addresses.iter().map(|a| Element::range(*a, *a));
    let op = add(single.collect());
    let all = elements(&op);
    assert!(all.len() > 1);
    let starts = all
        .concat()
        .into_iter()
        .filter(|(_, end)| !end)
        .map(|(key, _)| key);
    let wanted = addresses
        .iter()
        .map(|a| super::Value::from(*a).bytes().to_vec());
    assert!(starts.eq(wanted));
    // the space before the first start is marked once
    let zero = all
        .concat()
        .iter()
        .filter(|(key, _)| key == &[0; 16])
        .count();
    assert_eq!(zero, 1);
    let keys = addresses.into_iter().map(Element::of).collect();
    let mut delete = Transaction::new();
    delete.delete(&FILTER, Elements::new("set", keys));
    assert_eq!(elements(&delete).concat().len(), 5000);
}

/// A prefix test as what it compares: how many bytes, under which mask, with what.
fn prefix(field: Field, net: IpNet) -> (Vec<u8>, Vec<u8>) {
    let mut w = Writer::default();
    let rule = Rule::new().test(field, Test::Within(net));
    encode::expressions(&mut w, TableFamily::Inet, &rule);
    let (mut width, mut mask, mut value) = (None, None, None);
    for (_, _, expression) in Attrs(&w.bytes).iter() {
        let expression = Attrs(expression);
        let data = expression.nest(NFTA_EXPR_DATA).expect("data");
        let bytes = |kind| {
            let bytes = data.nest(kind).and_then(|d| d.get(NFTA_DATA_VALUE));
            bytes.expect("bytes").to_vec()
        };
        match expression.text(NFTA_EXPR_NAME).expect("a name") {
            "payload" => width = Some(data.be32(NFTA_PAYLOAD_LEN).expect("a length") as usize),
            "bitwise" => mask = Some(bytes(NFTA_BITWISE_MASK)),
            "cmp" => value = Some(bytes(NFTA_CMP_DATA)),
            _ => {}
        }
    }
    let value = value.expect("a comparison");
    // all of what conntrack has is loaded, and its beginning compared
    let width = width.unwrap_or(value.len());
    let mask = mask.unwrap_or_else(|| vec![0xff; width]);
    assert_eq!((mask.len(), value.len()), (width, width), "{net}");
    (mask, value)
}

#[test]
fn prefixes_of_every_length() {
    let v4 = (0..=32).map(|n| IpNet::new(Ipv4Addr::from(0xcb00_71ff).into(), n));
    let v6 = (0..=128).map(|n| IpNet::new(Ipv6Addr::from(u128::MAX / 3).into(), n));
    for net in v4.chain(v6) {
        let net = net.expect("a length that fits").trunc();
        let fields = match net {
            IpNet::V4(_) => [Field::IpDaddr, Field::CtOriginalDaddr],
            IpNet::V6(_) => [Field::Ip6Daddr, Field::CtOriginalDaddr6],
        };
        for field in fields {
            let (mut mask, mut value) = prefix(field, net);
            // bytes that are not even loaded are free
            let width = usize::from(net.max_prefix_len()) / 8;
            mask.resize(width, 0);
            value.resize(width, 0);
            let wanted = super::Value::from(net.netmask()).bytes().to_vec();
            assert_eq!(mask, wanted, "{net}");
            assert_eq!(
                value,
                super::Value::from(net.network()).bytes().to_vec(),
                "{net}"
            );
        }
    }
}

#[test]
fn pieces_are_the_same_steps() {
    let elements: Vec<Element> = (0..10u8)
        .map(|n| Element::of(IpAddr::from([10, 0, 0, n])))
        .collect();
    let mut whole = Transaction::new();
    whole.add(&FILTER, super::Object::Table);
    whole.add(&FILTER, super::Chain::new("c"));
    whole.add(&FILTER, Elements::new("set", elements.clone()));
    whole.add(&FILTER, super::Chain::new("d"));
    let said = |pieces: &[Transaction]| -> Vec<String> {
        pieces.iter().map(ToString::to_string).collect()
    };
    let list = |range: std::ops::Range<usize>| {
        let list: Vec<String> = elements[range].iter().map(ToString::to_string).collect();
        format!("add element inet filter set {{ {} }}\n", list.join(", "))
    };
    assert_eq!(said(&whole.clone().pieces(100)), [whole.to_string()]);
    assert_eq!(
        said(&whole.clone().pieces(4)),
        [
            "add table inet filter\nadd chain inet filter c\n".to_owned(),
            list(0..4),
            list(4..8),
            list(8..10) + "add chain inet filter d\n",
        ]
    );
    let invalid = Transaction::new()
        .add(&FILTER, super::Chain::new(""))
        .clone();
    assert!(invalid.fault().is_some());
    assert_eq!(invalid.clone().pieces(4)[0].fault(), invalid.fault());
}
