//! Every field and every test that a stranger's rule may have, in tables of every family.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use nft::{
    Chain, CtState, Family, Field, InterfaceName, Nft, Object, Rule, Table, TableFamily, Test,
    Transaction, Value,
};

use super::netns::{Held, in_new_namespace, load};

const TABLE: &str = "stranger";

const FAMILIES: [TableFamily; 6] = [
    TableFamily::Ip,
    TableFamily::Ip6,
    TableFamily::Inet,
    TableFamily::Arp,
    TableFamily::Bridge,
    TableFamily::Netdev,
];

/// Two values of a field, the lower one first; none if it takes none.
fn values(field: Field) -> Option<(Value, Value)> {
    use Field::*;
    let v4 = |n: u8| Value::V4(Ipv4Addr::new(10, 0, 0, n));
    let v6 = |n: u16| Value::V6(Ipv6Addr::new(0xfd44, 0, 0, 0, 0, 0, 0, n));
    let device = |name: &str| InterfaceName::new(name).map(Value::Interface);
    Some(match field {
        Nfproto => (Value::Nfproto(Family::V4), Value::Nfproto(Family::V6)),
        L4proto | Ip6Nexthdr => (Value::Protocol(6), Value::Protocol(17)),
        Iifname | Oifname => (device("veth0")?, device("veth1")?),
        // Of a status, bits only.
        Mark | CtMark | CtStatus => (Value::Mark(0x10), Value::Mark(0x1f)),
        Iif => (Value::Index(2), Value::Index(700)),
        Time => (
            Value::Time(nft::Time::from_seconds(1_000_000_000)),
            Value::Time(nft::Time::from_seconds(2_000_000_000)),
        ),
        EtherDaddr | EtherSaddr | ArpSaddrEther => (
            Value::Mac([2, 0, 0, 0, 0, 1]),
            Value::Mac([2, 0, 0, 0, 0, 9]),
        ),
        EtherType | ArpPtype => (Value::EtherType(0x0800), Value::EtherType(0x86dd)),
        ArpHlen | ArpPlen | Ip6Hoplimit | TcpFlags | IcmpType | IcmpCode | Icmpv6Type
        | Icmpv6Code => (Value::U8(2), Value::U8(4)),
        ArpHtype | ArpOperation | IpFragOff | Ip6Length | Ip6FragOff | TcpSport | TcpDport
        | UdpSport | UdpDport | SctpDport | ThSport | ThDport | CtOriginalDport => {
            (Value::U16(2), Value::U16(700))
        }
        ArpSaddrIp | ArpDaddrIp | IpSaddr | IpDaddr | CtOriginalSaddr | CtOriginalDaddr => {
            (v4(1), v4(77))
        }
        Ip6Saddr | Ip6Daddr | CtOriginalSaddr6 | CtOriginalDaddr6 => (v6(1), v6(77)),
        IcmpQuotedDaddr => (
            Value::Hex4(Ipv4Addr::new(10, 0, 0, 1)),
            Value::Hex4(Ipv4Addr::new(10, 0, 0, 77)),
        ),
        Icmpv6QuotedDaddr | NdTarget | UdpPayload => (
            Value::Hex(Ipv6Addr::LOCALHOST),
            Value::Hex(Ipv6Addr::from(77)),
        ),
        CtDirection => (Value::Original, Value::Reply),
        FibDaddrType => (Value::Local, Value::Local),
        SocketTransparent => (Value::U8(0), Value::U8(1)),
        _ => return None,
    })
}

/// All that may be asked of a field.
fn tests(field: Field) -> Vec<Test> {
    let net = |text: &str| text.parse().expect("a network");
    let mut tests = vec![
        Test::State(&[CtState::Invalid]),
        Test::State(&[
            CtState::Established,
            CtState::Related,
            CtState::New,
            CtState::Untracked,
        ]),
        Test::Dnat,
        Test::Labelled(0),
        Test::Labelled(33),
        Test::Labelled(127),
    ];
    for text in [
        "10.0.0.0/8",
        "10.64.0.0/11",
        "0.0.0.0/0",
        "10.0.0.1/32",
        "fd44::/16",
        "fd44::/35",
        "::/0",
        "fd44::1/128",
    ] {
        tests.push(Test::Within(net(text)));
        tests.push(Test::Outside(net(text)));
    }
    if let Some((low, high)) = values(field) {
        tests.extend([
            Test::Is(low),
            Test::Not(low),
            Test::Below(high),
            Test::Above(low),
            Test::Between(low, high),
            Test::NotBetween(low, high),
            Test::Masked(high, low),
            Test::NotMasked(high, low),
        ]);
    }
    tests
}

/// What follows an IPv6 header, before and behind what only one protocol has. Of an extension header the number
/// is no packet's protocol.
fn next_headers() -> impl Iterator<Item = Rule> {
    const NUMBERS: [u8; 6] = [0, 43, 44, 58, 60, 99];
    NUMBERS.into_iter().flat_map(|number| {
        let next = |rule: Rule| rule.is(Field::Ip6Nexthdr, Value::Protocol(number));
        let kind = |rule: Rule| rule.is(Field::Icmpv6Type, Value::U8(131));
        [kind(next(Rule::new())), next(kind(Rule::new()))].map(Rule::counter)
    })
}

/// A chain for each case that the crate does not refuse, so that listings can be told apart by its name.
fn cases(family: TableFamily) -> Vec<(String, Transaction)> {
    let table = Table::new(family, TABLE);
    let rules = Field::ALL.iter().flat_map(|field| {
        let tests = tests(*field).into_iter();
        tests.map(|test| Rule::new().test(*field, test).counter())
    });
    let rules = rules.chain(next_headers());
    let case = |(n, rule): (usize, Rule)| {
        let (name, text) = (format!("c{n}"), rule.to_string());
        let mut transaction = Transaction::new();
        transaction.add(&table, Chain::new(name.clone()));
        transaction.add(&table, rule.in_chain(name));
        transaction.fault().is_none().then_some((text, transaction))
    };
    rules.enumerate().filter_map(case).collect()
}

/// What is in each chain: expressions, then text.
fn by_chain(held: &Held) -> BTreeMap<String, Vec<String>> {
    let mut chains = BTreeMap::<String, Vec<String>>::new();
    let mut chain = String::new();
    let text = held.list.lines().map(str::trim);
    for line in held.expressions.iter().map(String::as_str).chain(text) {
        let listed = line.strip_prefix("chain ");
        let begins = listed.and_then(|rest| rest.strip_suffix(" {"));
        match begins.or(line.split_once(TABLE).map(|(_, name)| name.trim())) {
            Some(name) => name.clone_into(&mut chain),
            None => chains
                .entry(chain.clone())
                .or_default()
                .push(line.to_owned()),
        }
    }
    chains
}

/// Whatever is not refused is taken by the kernel, read by nft, and the same from both.
#[test]
fn every_field_and_every_test_in_tables_of_every_family() {
    let mut faults = Vec::new();
    for family in FAMILIES {
        let mut start = Transaction::new();
        start.add(&Table::new(family, TABLE), Object::Table);
        let all = cases(family);
        assert!(all.len() > 100, "{family}: {}", all.len());
        let ours = in_new_namespace(|| {
            let mut nft = Nft::open().expect("a socket");
            nft.commit(&start).expect("a table");
            for (_, transaction) in &all {
                if let Err(e) = nft.commit(transaction) {
                    faults.push(format!("{family}: {e}"));
                }
            }
            by_chain(&Held::now())
        });
        let theirs = in_new_namespace(|| {
            let text: String = all.iter().map(|(_, t)| t.to_string()).collect();
            if let Err(e) = load(&format!("{start}{text}")) {
                faults.push(format!("{family}: {e}"));
            }
            by_chain(&Held::now())
        });
        assert!(ours.len() >= all.len(), "{family}");
        faults.extend(all.iter().filter_map(|(rule, transaction)| {
            let chain = match &transaction.steps()[0].object {
                Object::Chain(chain) => &chain.name,
                _ => unreachable!("a chain is its first step"),
            };
            let (ours, theirs) = (ours.get(chain), theirs.get(chain));
            let differ = ours.is_none() || ours != theirs;
            differ.then(|| format!("{family}: {rule}\n  {ours:?}\n  {theirs:?}"))
        }));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
