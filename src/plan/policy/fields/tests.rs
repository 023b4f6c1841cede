use std::net::{Ipv4Addr, Ipv6Addr};

use nft::Field;

use super::*;

/// Address, protocol and port, an element for each number.
fn cells(count: u16, ports: (u16, u16)) -> Vec<Element> {
    let one = |n: u16| {
        let address = Ipv4Addr::from(u32::from(n)).into();
        let tcp = Value::Protocol(6);
        let ports = (Value::U16(ports.0), Value::U16(ports.1));
        Element::ranges([(address, address), (tcp, tcp), ports]).comment("x")
    };
    (0..count).map(one).collect()
}

#[test]
fn the_field_of_most_prefixes_is_the_first_where_it_matters() {
    let key = Concat::of([Field::IpDaddr, Field::L4proto, Field::ThDport]);
    let turned = Concat::of([Field::ThDport, Field::IpDaddr, Field::L4proto]);
    let same = |count, ports| ordered(key, cells(count, ports)).0 == key;
    assert!(same(200, (80, 80)));
    // Two prefixes each, in no more words than the addresses have.
    assert!(same(32, (1, 2)));
    assert!(!same(33, (1, 2)));
    let (found, elements) = ordered(key, cells(64, (1, 2)));
    assert_eq!(found, turned);
    assert_eq!(elements[7].to_string(), "1-2 . 0.0.0.7 . tcp comment \"x\"");
    // Of protocols, too.
    let both = |one: Element| {
        let mut ends = one.key().to_vec();
        ends[1] = (Value::Protocol(6), Value::Protocol(17));
        one.with_key(ends)
    };
    let elements = cells(64, (80, 80)).into_iter().map(both).collect();
    let turned = Concat::of([Field::L4proto, Field::IpDaddr, Field::ThDport]);
    assert_eq!(ordered(key, elements).0, turned);
}

#[test]
fn numbers_are_as_the_kernel_compares() {
    let address = Ipv6Addr::new(1, 0, 0, 0, 0, 0, 0, 2);
    assert_eq!(number(&Value::V6(address)), (1 << 112) + 2);
    assert_eq!(number(&Value::V4(Ipv4Addr::new(1, 0, 0, 2))), (1 << 24) + 2);
    assert_eq!(number(&Value::U16(443)), 443);
    assert_eq!(number(&Value::U8(8)), 8);
}
