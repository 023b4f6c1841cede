//! Our netlink encoder makes what the real `nft` makes of our text.
//!
//! One network namespace gets operations over our own socket, another gets their text through
//! `nft -f`; afterwards `nft` must tell the same about both. The plain listing alone is not enough:
//! nft 1.0.6 leaves `ether type ip` out of it. So the expressions are compared, too.
//!
//! Needs root, `nft` and `ip`.

mod cases;
mod firewall;
mod lifecycle;
mod netns;
mod normal;
mod offered;

use egressway::plan::named::Tokens;
use egressway::plan::{INET, NETDEV, compile};
use nft::{Chain, Element, Elements, KeyType, Object, Set, SetName, Transaction};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rules::effective::Effective;

use super::meaning::policies;
use cases::{LOG_GROUP, attachments, base, fixed_policies};
use netns::{committed, loaded};

/// Fails unless both ways lead to the same.
fn assert_same(transactions: &[Transaction]) {
    let (ours, theirs) = (committed(transactions), loaded(transactions));
    assert!(
        ours.list.contains("table inet egressway"),
        "nothing is there"
    );
    assert_eq!(ours.list, theirs.list);
    assert_eq!(ours.json, theirs.json);
    assert!(
        ours.expressions.iter().any(|line| line.contains("lookup")),
        "no expressions"
    );
    let mut pairs = ours.expressions.iter().zip(&theirs.expressions).enumerate();
    if let Some((n, (our, their))) = pairs.find(|(_, (our, their))| our != their) {
        let before = ours.expressions[n.saturating_sub(10)..n].join("\n");
        panic!("after\n{before}\nours: {our}\nnft's: {their}");
    }
    assert_eq!(ours.expressions.len(), theirs.expressions.len());
}

/// A policy behind the sets of its domain names, and what fills these. (Nothing leads to that: nft knows no type for a
/// map of secrets.)
fn with_names(policy: &Effective) -> Transaction {
    let compiled = compile(policy, LOG_GROUP);
    let mut ops = Transaction::new();
    for group in &compiled.groups {
        ops.append(group.add(&Tokens::new()));
    }
    ops.append(compiled.add());
    ops
}

#[test]
fn the_base() {
    assert_same(&[base().add(&[])]);
}

#[test]
fn a_base_over_another() {
    let old = egressway::plan::Base::new(&["172.16.0.0/12".parse().expect("a network")]);
    let sets = [
        old.marker().to_owned(),
        old.marker().replace("inside4", "inside6"),
    ];
    let outdated = base().outdated(&sets).into_iter().collect::<Vec<_>>();
    assert_eq!(outdated.len(), 2);
    assert_same(&[old.add(&[]), base().add(&outdated)]);
}

#[test]
fn every_kind_of_attachment() {
    for (what, plan) in attachments() {
        println!("{what}");
        let policy = compile(&fixed_policies()[0], LOG_GROUP);
        let mut ops = base().add(&[]);
        if let Some(bridge) = &plan.bridge {
            ops.append(bridge.add());
            ops.append(bridge.cover_port("port0"));
            ops.append(bridge.cover_port("port1"));
        }
        ops.append(policy.add());
        ops.append(cases::with_policy(plan, &policy).add());
        assert_same(&[ops]);
    }
}

#[test]
fn fixed_policies_that_use_everything() {
    let mut transactions = vec![base().add(&[])];
    transactions.extend(fixed_policies().iter().map(with_names));
    assert_same(&transactions);
}

#[test]
fn random_policies() {
    let mut runner = TestRunner::default();
    for _ in 0..4 {
        let mut transactions = vec![base().add(&[])];
        for _ in 0..8 {
            let tree = policies::policy().new_tree(&mut runner).expect("a policy");
            transactions.push(with_names(&tree.current()));
        }
        assert_same(&transactions);
    }
}

/// nft refuses such a rule, and so do we: a pod with such a policy would not start.
#[test]
fn no_policy_becomes_a_rule_that_matches_nothing() {
    let mut runner = TestRunner::default();
    for _ in 0..200 {
        let tree = policies::policy().new_tree(&mut runner).expect("a policy");
        let operations = compile(&tree.current(), LOG_GROUP).add();
        assert_eq!(operations.fault(), None);
    }
}

#[test]
fn random_lookups() {
    let mut runner = TestRunner::default();
    let mut transactions = vec![base().add(&[])];
    for _ in 0..6 {
        let tree = policies::long().new_tree(&mut runner).expect("a policy");
        transactions.push(compile(&tree.current(), LOG_GROUP).add());
    }
    assert_same(&transactions);
}

/// More than one message's worth of elements, the first and last address of each family among them.
#[test]
fn long_lists_of_addresses() {
    let policy = cases::long_list(8000);
    let compiled = compile(&policy, LOG_GROUP);
    let longest = compiled
        .sets
        .iter()
        .map(|(_, elements)| elements.len())
        .max();
    assert_eq!(longest, Some(8002));
    assert_same(&[base().add(&[]), compiled.add()]);
}

/// What an attachment's end takes: every kind of deletion, also of many elements.
#[test]
fn deletions() {
    let set = |name: &str| Set {
        counter: true,
        ..Set::new(name, KeyType::Ipv4)
    };
    let many: Vec<_> = (0..1200u32)
        .map(|n| std::net::IpAddr::V4((0x0a00_0000 + n).into()))
        .collect();
    let elements: Vec<_> = many.iter().copied().map(Element::of).collect();
    let mut start = base().add(&[]);
    start
        .add(&INET, set("some"))
        .add(&INET, set("none"))
        .add(&INET, set("other"))
        .add(&INET, Elements::address("other", many[0]))
        .add(&INET, Elements::new("some", elements.clone()))
        .add(&INET, Chain::new("gone"));
    let mut end = Transaction::new();
    end.delete(&INET, Elements::new("some", elements[1..].to_vec()))
        .delete(&INET, SetName("none".to_owned()))
        .flush(&INET, Chain::new("enforce"))
        .flush(&INET, SetName("other".to_owned()))
        .delete(&INET, Chain::new("gone"));
    assert_same(&[start.clone(), end]);
    let mut table = Transaction::new();
    table.delete(&NETDEV, Object::Table);
    assert_same(&[start, table]);
}
