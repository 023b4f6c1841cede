//! A stranger's firewall: tables of every family, every verb, sets of every kind, translation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nft::{
    Chain, ChainKind, Concat, CtState, DataType, Element, Elements, Field, Hook, HookPoint,
    InterfaceName, KeyType, Limit, Nat, Nft, Object, Reject, Rule, Set, SetName, Statement, Table,
    TableFamily, Transaction, Value, Verdict,
};

use super::netns::{Held, committed, in_new_namespace, loaded};

const IP: Table = Table::new(TableFamily::Ip, "home");
const IP6: Table = Table::new(TableFamily::Ip6, "home");
const INET: Table = Table::new(TableFamily::Inet, "home");
const ARP: Table = Table::new(TableFamily::Arp, "home");
const BRIDGE: Table = Table::new(TableFamily::Bridge, "home");
const NETDEV: Table = Table::new(TableFamily::Netdev, "home");

const SSH: Value = Value::U16(22);
const TCP: Value = Value::Protocol(6);
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const INSIDE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

/// Fails unless our messages and the text make the same, and something.
fn assert_same(transactions: &[Transaction]) -> Held {
    for transaction in transactions {
        assert_eq!(transaction.fault(), None);
    }
    let (ours, theirs) = (committed(transactions), loaded(transactions));
    assert!(ours.list.contains("home"), "nothing is there");
    assert_eq!(ours.list, theirs.list);
    assert_eq!(ours.json, theirs.json);
    assert_eq!(ours.expressions, theirs.expressions);
    ours
}

fn hook(kind: ChainKind, point: HookPoint, priority: i32) -> Hook {
    Hook {
        kind,
        point,
        priority,
        accept: true,
    }
}

/// A table with a chain of rules.
fn with_rules(table: &Table, chain: Chain, rules: Vec<Rule>) -> Transaction {
    let name = chain.name.clone();
    let mut transaction = Transaction::new();
    transaction.add(table, Object::Table).add(table, chain);
    for rule in rules {
        transaction.add(table, rule.in_chain(name.clone()));
    }
    transaction
}

#[test]
fn base_chains_where_every_family_has_them() {
    use ChainKind::{Filter, Nat, Route};
    use HookPoint::{Egress, Forward, Ingress, Input, Output, Postrouting, Prerouting};
    let veth = || "veth0".to_owned();
    let points = [
        Prerouting,
        Input,
        Forward,
        Output,
        Postrouting,
        Ingress(veth()),
        Egress(veth()),
    ];
    let mut transaction = Transaction::new();
    let mut count = 0;
    for table in [IP, IP6, INET, ARP, BRIDGE, NETDEV] {
        transaction.add(&table, Object::Table);
        for kind in [Filter, Nat, Route] {
            for point in &points {
                let name = format!("c{count}");
                let chain = Chain::base(name, hook(kind, point.clone(), -50));
                let mut alone = Transaction::new();
                if alone.add(&table, chain.clone()).fault().is_none() {
                    transaction.add(&table, chain);
                    count += 1;
                }
            }
        }
    }
    // 3 families with 5 filters, 4 of NAT and 1 route, one with ingress; ARP 2, bridge 5, netdev 2
    assert_eq!(count, 3 * 10 + 1 + 2 + 5 + 2);
    assert_same(&[transaction]);
}

#[test]
fn translation() {
    let to = |nat| Rule::new().is(Field::TcpDport, Value::U16(80)).then(nat);
    let four = || {
        vec![
            to(Statement::Dnat(Nat::To(INSIDE, Some(8080)))),
            Rule::new().then(Statement::Dnat(Nat::To(INSIDE, None))),
            Rule::new()
                .is(Field::L4proto, TCP)
                .then(Statement::Dnat(Nat::To(INSIDE, Some(8080)))),
        ]
    };
    let six = || {
        vec![
            to(Statement::Dnat(Nat::To(INSIDE6, Some(8080)))),
            Rule::new().then(Statement::Dnat(Nat::To(INSIDE6, None))),
        ]
    };
    let source = |address| {
        vec![
            Rule::new()
                .is(Field::L4proto, TCP)
                .then(Statement::Snat(Nat::To(address, Some(1024)))),
            Rule::new().then(Statement::Snat(Nat::To(address, None))),
            Rule::new()
                .is(
                    Field::Oifname,
                    Value::Interface(InterfaceName::new("eth0").expect("a name")),
                )
                .counter()
                .then(Statement::Masquerade),
        ]
    };
    let before = || Chain::base("before", hook(ChainKind::Nat, HookPoint::Prerouting, -100));
    let after = || Chain::base("after", hook(ChainKind::Nat, HookPoint::Postrouting, 100));
    assert_same(&[
        with_rules(&IP, before(), four()),
        with_rules(&IP, after(), source(INSIDE)),
        with_rules(&IP6, before(), six()),
        with_rules(&IP6, after(), source(INSIDE6)),
        with_rules(&INET, before(), [four(), six()].concat()),
        with_rules(&INET, after(), [source(INSIDE), source(INSIDE6)].concat()),
    ]);
}

#[test]
fn translation_by_maps() {
    let map = |name: &str, of| Set {
        data: Some(DataType::Value(of)),
        ..Set::new(name, of)
    };
    let mut transaction = Transaction::new();
    for table in [IP, INET] {
        transaction.add(&table, Object::Table);
        transaction.add(&table, map("new4", KeyType::Ipv4));
        let leads = Element::of(INSIDE).to(Ipv4Addr::new(203, 0, 113, 7));
        transaction.add(&table, Elements::new("new4", vec![leads]));
        let chain = hook(ChainKind::Nat, HookPoint::Postrouting, 100);
        transaction.add(&table, Chain::base("after", chain));
        let nat = Nat::Map(Field::IpSaddr, "new4".to_owned());
        let rule = Rule::new().then(Statement::Snat(nat));
        transaction.add(&table, rule.in_chain("after"));
    }
    transaction.add(&INET, map("new6", KeyType::Ipv6));
    let nat = Nat::Map(Field::Ip6Saddr, "new6".to_owned());
    let rule = Rule::new().then(Statement::Snat(nat));
    transaction.add(&INET, rule.in_chain("after"));
    assert_same(&[transaction]);
}

#[test]
fn statements() {
    let then = |statement| Rule::new().then(statement);
    let log = Statement::Log {
        prefix: "seen by home: ".to_owned(),
        group: 7,
        snaplen: 64,
    };
    let filter = |point| Chain::base("filter", hook(ChainKind::Filter, point, 0));
    let everywhere = || {
        vec![
            then(Statement::Limit(Limit { rate: 5, burst: 9 })).counter(),
            then(log.clone()),
            then(Statement::SetMark(0x1234)),
            Rule::new()
                .is(Field::Mark, Value::Mark(7))
                .then(Verdict::Return),
            Rule::new()
                .then(Verdict::Drop)
                .comment("nobody: \\ & <all>"),
        ]
    };
    let states = Rule::new()
        .state(&[CtState::Established, CtState::Related])
        .then(Verdict::Accept);
    let reset = then(Statement::Reject(Reject::TcpReset));
    let rejects = [
        Reject::NoRoute,
        Reject::PortUnreachable,
        Reject::HostUnreachable,
        Reject::AdminProhibited,
    ];
    let rejects: Vec<Rule> = rejects
        .map(|reject| then(Statement::Reject(reject)))
        .to_vec();
    let frames = then(Statement::SetEtherDaddr([2, 0, 0, 0, 0, 1]));
    let raw = Chain::base("raw", hook(ChainKind::Filter, HookPoint::Prerouting, -300));
    assert_same(&[
        with_rules(&IP, filter(HookPoint::Forward), everywhere()),
        with_rules(&IP, Chain::new("more"), vec![states.clone(), reset.clone()]),
        with_rules(&IP, raw, vec![then(Statement::Notrack)]),
        with_rules(&IP6, filter(HookPoint::Forward), everywhere()),
        with_rules(
            &IP6,
            Chain::new("more"),
            vec![states.clone(), reset.clone()],
        ),
        with_rules(&INET, filter(HookPoint::Input), everywhere()),
        with_rules(&INET, Chain::new("more"), vec![states, reset.clone()]),
        with_rules(&INET, Chain::new("rejecting"), rejects.clone()),
        with_rules(&ARP, filter(HookPoint::Input), everywhere()),
        with_rules(&BRIDGE, filter(HookPoint::Prerouting), everywhere()),
        with_rules(&BRIDGE, Chain::new("more"), vec![frames.clone()]),
        with_rules(
            &NETDEV,
            filter(HookPoint::Ingress("veth0".to_owned())),
            everywhere(),
        ),
        with_rules(&NETDEV, Chain::new("more"), vec![reset, frames]),
        with_rules(
            &NETDEV,
            filter(HookPoint::Ingress("veth0".to_owned())),
            rejects,
        ),
    ]);
}

/// Sets of each type, with each flag, and elements that live for seconds.
#[test]
fn sets() {
    const TO: Concat = Concat::of([Field::IpDaddr, Field::L4proto, Field::ThDport]);
    const LONG: Concat = Concat::of([Field::Ip6Saddr, Field::Iifname, Field::CtMark]);
    let device = |name| Value::Interface(InterfaceName::new(name).expect("a name"));
    let hour = Duration::from_secs(3600);
    let v6 = |n: u16| Value::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
    let mut transaction = Transaction::new();
    transaction.add(&INET, Object::Table);
    let single: [(&str, KeyType, Value); 9] = [
        ("v4", KeyType::Ipv4, Value::V4(Ipv4Addr::LOCALHOST)),
        ("v6", KeyType::Ipv6, v6(1)),
        ("macs", KeyType::Ether, Value::Mac([2, 0, 0, 0, 0, 1])),
        ("protocols", KeyType::Protocol, Value::Protocol(47)),
        ("ports", KeyType::Service, SSH),
        ("icmp4", KeyType::IcmpType, Value::U8(8)),
        ("icmp6", KeyType::Icmpv6Type, Value::U8(128)),
        ("marks", KeyType::Mark, Value::Mark(0x17)),
        ("some-devices", KeyType::Interface, device("eth0")),
    ];
    for (name, key, value) in single {
        transaction.add(&INET, Set::new(name, key));
        let element = Element::of(value).comment("one of them");
        transaction.add(&INET, Elements::new(name, vec![element]));
    }
    let short = Set {
        timeout: Some(Duration::from_millis(90_061_001)),
        size: Some(1000),
        counter: true,
        ..Set::new("short-lived", KeyType::Ipv4)
    };
    transaction.add(&INET, short);
    let dynamic = Set {
        dynamic: true,
        timeout: Some(Duration::from_secs(60)),
        size: Some(500),
        ..Set::new("filled-by-rules", KeyType::Concat(TO))
    };
    transaction.add(&INET, dynamic);
    let ports = Set {
        interval: true,
        ..Set::new("port-ranges", KeyType::Service)
    };
    transaction.add(&INET, ports);
    let ranges = [(1, 1), (5, 10), (11, 20), (60_000, 65_535)];
    let ranges = ranges.map(|(low, high)| Element::range(Value::U16(low), Value::U16(high)));
    transaction.add(&INET, Elements::new("port-ranges", ranges.to_vec()));
    let wide = Set {
        interval: true,
        ..Set::vmap("wide", KeyType::Concat(TO))
    };
    transaction.add(&INET, wide);
    transaction.add(&INET, Chain::new("elsewhere"));
    let (low, high) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
    let element = Element::ranges([(low.into(), high.into()), (TCP, TCP), (SSH, Value::U16(99))]);
    let element = element.goto("elsewhere").comment("lab");
    transaction.add(&INET, Elements::new("wide", vec![element]));
    transaction.add(&INET, Set::new("long", KeyType::Concat(LONG)));
    let element = Element::fields([v6(2), device("eth1"), Value::Mark(3)]);
    transaction.add(&INET, Elements::new("long", vec![element]));
    transaction.add(&INET, Chain::new("using"));
    for rule in [
        Rule::new()
            .inside(Field::IpSaddr, "v4")
            .then(Verdict::Accept),
        Rule::new()
            .outside(Field::TcpDport, "port-ranges")
            .then(Verdict::Drop),
        Rule::new().inside(Field::Iifname, "some-devices").counter(),
        Rule::new().inside(Field::Mark, "marks").counter(),
        Rule::new().vmap(TO, "wide"),
        Rule::new().then(Statement::Among(LONG, "long".to_owned())),
        Rule::new().then(Statement::Update(TO, "filled-by-rules".to_owned(), None)),
        Rule::new().then(Statement::Update(
            TO,
            "filled-by-rules".to_owned(),
            Some(hour),
        )),
    ] {
        transaction.add(&INET, rule.in_chain("using"));
    }
    assert_same(&[transaction]);
}

/// What is listed of an element's life goes down while one looks: so this is compared by itself.
#[test]
fn elements_that_live_for_seconds() {
    let set = Set {
        timeout: Some(Duration::from_secs(3600)),
        ..Set::new("known", KeyType::Ipv4)
    };
    let mut transaction = Transaction::new();
    transaction.add(&INET, Object::Table).add(&INET, set);
    let elements = vec![
        Element::of(Ipv4Addr::new(192, 0, 2, 1)),
        Element::of(Ipv4Addr::new(192, 0, 2, 2)).timeout(Duration::from_secs(90_000)),
    ];
    transaction.add(&INET, Elements::new("known", elements));
    let without_expiry = |held: Held| {
        let words = held.list.split_whitespace().map(str::to_owned);
        let mut after = String::new();
        let kept = words.filter(|word| std::mem::replace(&mut after, word.clone()) != "expires");
        kept.collect::<Vec<_>>().join(" ")
    };
    let both = [committed, loaded].map(|way| without_expiry(way(&[transaction.clone()])));
    assert!(
        both[0].contains("192.0.2.2 timeout 1d1h expires"),
        "{}",
        both[0]
    );
    assert_eq!(both[0], both[1]);
}

/// Where rules stand after each verb that puts or takes one.
#[test]
fn verbs_for_rules() {
    let rule = |comment: &str| Rule::new().counter().comment(comment).in_chain("c");
    let mut start = with_rules(&INET, Chain::new("c"), Vec::new());
    for comment in ["one", "two", "three"] {
        start.add(&INET, rule(comment));
    }
    let handles = in_new_namespace(|| {
        let mut nft = Nft::open().expect("a socket");
        nft.commit(&start).expect("the kernel takes it");
        let rules = nft.rules(&INET, "c").expect("the kernel tells");
        rules.iter().map(|rule| rule.handle).collect::<Vec<_>>()
    });
    let mut change = Transaction::new();
    change
        .insert(&INET, rule("first"))
        .insert(&INET, rule("before two").at(handles[1]))
        .add(&INET, rule("behind two").at(handles[1]))
        .replace(&INET, rule("instead of one").at(handles[0]))
        .delete(&INET, Rule::new().in_chain("c").at(handles[2]));
    let held = assert_same(&[start.clone(), change]);
    let order = ["first", "instead of one", "before two", "two", "behind two"];
    let places = order.map(|comment| held.list.find(&format!("comment \"{comment}\"")));
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{}",
        held.list
    );
    assert!(!held.list.contains("three"));
    let mut flush = Transaction::new();
    flush.flush(&INET, Object::Table);
    assert!(!assert_same(&[start, flush]).list.contains("counter"));
}

/// `create` is refused where `add` is not; the error says so.
#[test]
fn create_wants_to_be_the_first() {
    in_new_namespace(|| {
        let mut nft = Nft::open().expect("a socket");
        let objects: [Object; 4] = [
            Object::Table,
            Chain::new("c").into(),
            Set::new("s", KeyType::Ipv4).into(),
            Elements::address("s", INSIDE).into(),
        ];
        for object in objects {
            let mut once = Transaction::new();
            once.create(&INET, object.clone());
            nft.commit(&once).expect("it is not there yet");
            let again = nft.commit(&once).expect_err("it is there");
            assert!(again.is_already_exists(), "{again}");
            let mut add = Transaction::new();
            add.add(&INET, object);
            nft.commit(&add).expect("one alike stays");
        }
    });
}

/// nft 1.0.6 has no word for it: what is left is compared with what `delete` leaves.
#[test]
fn destroy_takes_away_what_is_there_and_nothing_else() {
    let mut start = with_rules(&INET, Chain::new("c"), Vec::new());
    start
        .add(&INET, Chain::new("kept"))
        .add(&INET, Set::new("s", KeyType::Ipv4))
        .add(&INET, Elements::address("s", INSIDE));
    let objects: [Object; 3] = [
        Elements::address("s", INSIDE).into(),
        SetName("s".to_owned()).into(),
        Chain::new("c").into(),
    ];
    in_new_namespace(|| {
        let mut nft = Nft::open().expect("a socket");
        nft.commit(&start).expect("the kernel takes it");
        for object in objects {
            let (mut delete, mut destroy) = (Transaction::new(), Transaction::new());
            delete.delete(&INET, object.clone());
            destroy.destroy(&INET, object);
            nft.commit(&destroy).expect("it is there");
            let gone = nft.commit(&delete).expect_err("it is gone");
            assert!(gone.is_not_found(), "{gone}");
            nft.commit(&destroy).expect("it need not be there");
        }
        let chains = nft.chains(&INET).expect("the kernel tells");
        assert_eq!(chains.len(), 1, "{chains:?}");
    });
}
