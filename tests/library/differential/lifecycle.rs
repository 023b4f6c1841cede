//! What `enforce` adds it can take away again.

use std::borrow::Cow;

use egressway::enforce::{Compared, Install, Ledger, Remove, Shared, verify};
use egressway::plan::{AttachmentPlan, Compiled, INET, compile};
use egressway::store::StateDir;
use nft::{Chain, Nft};

use super::cases::{LOG_GROUP, attachments, base, deepest, fixed_policies, with_policy};
use super::netns::{commit, in_new_namespace, list};

fn install(nft: &mut Nft, policy: &Compiled, attachment: &AttachmentPlan) {
    let base = base();
    let shared = Shared {
        marker: base.marker(),
        base: &|| Ok(Cow::Borrowed(&base)),
        policy: &|| Ok(Cow::Borrowed(policy)),
    };
    let install = Install {
        attachment,
        shared: &shared,
        before: None,
        bridge_ports: &["port0".to_owned(), attachment.veth.clone()],
        previous: &[],
    };
    // Nothing is known there, so that all of it is looked at.
    let state = tempfile::tempdir().expect("a directory");
    let state = StateDir::new(state.path());
    let mut ledger = Ledger::open(&state, nft).expect("the kernel tells");
    install
        .commit(nft, &mut ledger)
        .expect("the kernel takes it");
    let mut whole = Compared::default();
    let found = verify(nft, &state, &base, policy, attachment, &mut whole);
    assert_eq!(found.expect("the kernel tells"), None);
}

fn remove(nft: &mut Nft, attachment: &AttachmentPlan) {
    let remove = Remove {
        id: &attachment.id,
        addresses: &attachment.addresses,
        bridge: attachment.bridge.as_ref(),
        egress: &attachment.egress,
    };
    remove.commit(nft, None).expect("the kernel takes it");
}

#[test]
fn removing_leaves_the_base() {
    for (what, plan) in attachments() {
        for (n, policy) in fixed_policies().iter().enumerate() {
            println!("{what}, policy {n}");
            let policy = compile(policy, LOG_GROUP);
            if !policy.groups.is_empty() {
                continue; // the sets of domain names go by themselves: `netns::names`
            }
            let plan = with_policy(plan.clone(), &policy);
            in_new_namespace(|| {
                commit(&base().add(&[]));
                let before = list();
                let mut nft = Nft::open().expect("a socket");
                install(&mut nft, &policy, &plan);
                assert_ne!(list(), before);
                install(&mut nft, &policy, &plan);
                remove(&mut nft, &plan);
                assert_eq!(list(), before);
                remove(&mut nft, &plan);
                assert_eq!(list(), before, "a second time");
            });
        }
    }
}

/// Once refused with EMLINK: the kernel takes no way through chains that is longer than 16.
#[test]
fn five_tiers_that_pass_except_dns() {
    let (_, plan) = attachments().remove(0);
    let policy = compile(&deepest(), LOG_GROUP);
    let plan = with_policy(plan, &policy);
    in_new_namespace(|| install(&mut Nft::open().expect("a socket"), &policy, &plan));
}

/// What pods share goes with the last of them.
#[test]
fn removing_leaves_what_others_use() {
    let (_, plan) = attachments().remove(4);
    let policy = compile(&fixed_policies()[3], LOG_GROUP);
    let first = with_policy(plan, &policy);
    let second = AttachmentPlan {
        id: "fedcba9876543210".to_owned(),
        veth: "veth1".to_owned(),
        addresses: vec!["10.244.1.99".parse().expect("an address")],
        egress: Vec::new(),
        ..first.clone()
    };
    in_new_namespace(|| {
        commit(&base().add(&[]));
        let empty = list();
        let mut nft = Nft::open().expect("a socket");
        install(&mut nft, &policy, &first);
        let one = list();
        install(&mut nft, &policy, &second);
        remove(&mut nft, &second);
        assert_eq!(list(), one);
        install(&mut nft, &policy, &second);
        remove(&mut nft, &first);
        let state = StateDir::new("/nonexistent");
        let mut whole = Compared::default();
        let found = verify(&mut nft, &state, &base(), &policy, &second, &mut whole);
        assert_eq!(found.expect("the kernel tells"), None);
        remove(&mut nft, &second);
        assert_eq!(list(), empty);
    });
}

#[test]
fn nothing_is_left_of_a_transaction_that_fails() {
    let (_, plan) = attachments().remove(0);
    let policy = compile(&fixed_policies()[1], LOG_GROUP);
    let plan = with_policy(plan, &policy);
    in_new_namespace(|| {
        commit(&base().add(&[]));
        let before = list();
        let mut ops = policy.add();
        ops.append(plan.add());
        ops.delete(&INET, Chain::new("is-not-there"));
        let mut nft = Nft::open().expect("a socket");
        let refused = nft
            .commit(&ops)
            .expect_err("there is no such chain")
            .to_string();
        assert!(refused.contains("is-not-there"), "{refused}");
        assert_eq!(list(), before);
    });
}
