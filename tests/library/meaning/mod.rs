//! The compiler means what the evaluator says.
//!
//! Random policies, written as text and read by the real grammar, are compiled to nf_tables
//! operations. [`kernel`] runs these for random packets as nf_tables would, and what comes of each
//! packet (the verdict, what is logged, whose counter moves) must be what `Effective::decide` says.

mod expected;
mod kernel;
mod named;
mod packets;
pub mod policies;

use std::fmt::Write;
use std::net::IpAddr;

use egressway::plan::resolver::{Led, resolver};
use egressway::plan::{Compiled, compile};
use nft::{Family, Transaction};
use proptest::prelude::*;
use rules::class::{MULTICAST, contains};
use rules::effective::Effective;
use rules::evaluate::{Original, Packet, Verdict};

use expected::Expected;
use kernel::{End, Kernel};
use packets::Pool;

/// Any: the tests only look at where it ends up.
const LOG_GROUP: u16 = 100;

/// Packets tried on each policy.
const PACKETS: usize = 40;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2 * ProptestConfig::default().cases,
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct("tests/library/meaning/regressions.txt"),
        )),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_kernel_decides_as_the_evaluator(
        policy in policies::policy(),
        seeds in prop::collection::vec(packets::seed(), PACKETS),
    ) {
        agree(&policy, &seeds)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct("tests/library/meaning/regressions.txt"),
        )),
        ..ProptestConfig::default()
    })]

    #[test]
    fn lookups_decide_as_the_evaluator(
        policy in policies::long(),
        seeds in prop::collection::vec(packets::seed(), 4 * PACKETS),
    ) {
        agree(&policy, &seeds)?;
    }
}

/// What judges all but what goes to many.
fn inet(compiled: &Compiled) -> Transaction {
    let alone = Compiled {
        multicast: None,
        ..compiled.clone()
    };
    alone.add()
}

fn agree(policy: &Effective, seeds: &[packets::Seed]) -> Result<(), TestCaseError> {
    let pool = Pool::of(policy);
    let compiled = compile(policy, LOG_GROUP);
    let ops = inet(&compiled);
    let kernel = Kernel::holding(&ops).with(&compiled.groups);
    let expected = Expected::of(policy);
    for seed in seeds {
        let packet = pool.packet(seed);
        // Nothing else is led there than questions.
        if !compiled.groups.is_empty() && is_resolver(packet.destination) {
            questions(policy, &kernel, &expected, &packet)?;
            continue;
        }
        if contains(&MULTICAST, packet.destination) {
            many(policy, &packet)?;
            continue;
        }
        let (found, wanted) = (kernel.judge(&packet), expected.outcome(&packet));
        prop_assert!(
            found == wanted,
            "{}",
            report(policy, &packet, &found, &wanted)
        );
    }
    Ok(())
}

fn is_resolver(address: IpAddr) -> bool {
    [Family::V4, Family::V6].map(resolver).contains(&address)
}

/// Questions that are led to the node's own resolver are judged as what the pod has asked.
fn questions(
    policy: &Effective,
    kernel: &Kernel<'_>,
    expected: &Expected<'_>,
    packet: &Packet,
) -> Result<(), TestCaseError> {
    for led in Led::all(&policy.facts.resolvers) {
        for protocol in [6, 17] {
            let original = Some(Original {
                address: led.asked,
                port: Some(53),
            });
            let asked = Packet {
                destination: led.asked,
                protocol,
                port: Some(53),
                icmp: None,
                original,
                local: false,
                time: packet.time,
                names: Vec::new(),
            };
            let arriving = Packet {
                destination: resolver(led.family()),
                port: Some(led.port),
                local: true,
                ..asked.clone()
            };
            let (found, wanted) = (kernel.judge(&arriving), expected.outcome(&asked));
            prop_assert!(
                found == wanted,
                "{}",
                report(policy, &asked, &found, &wanted)
            );
        }
    }
    Ok(())
}

/// What goes to many is decided at the pod's own interface.
fn many(policy: &Effective, packet: &Packet) -> Result<(), TestCaseError> {
    let packet = Packet {
        original: None,
        local: false,
        ..packet.clone()
    };
    let wanted = policy.decide(&packet).verdict == Verdict::Allow;
    let part = compile(policy, LOG_GROUP).multicast;
    let part = part.map(|part| part.add());
    let found = part
        .as_ref()
        .is_some_and(|ops| Kernel::holding(ops).judge(&packet).end == End::Accept);
    // The pod's own chains let no ICMPv6 that far.
    let found = found && !(packet.protocol == 58 && packet.destination.is_ipv6());
    prop_assert!(
        found == wanted,
        "{policy:#?}\n{}\n{packet:#?}",
        part.map_or_else(String::new, |ops| ops.to_string())
    );
    Ok(())
}

/// Fails, with all that is needed to see why, if compiler and evaluator disagree.
fn assert_agreement(policy: &Effective, packet: &Packet) {
    let compiled = compile(policy, LOG_GROUP);
    let ops = inet(&compiled);
    let kernel = Kernel::holding(&ops).with(&compiled.groups);
    let (found, wanted) = (kernel.judge(packet), Expected::of(policy).outcome(packet));
    assert!(
        found == wanted,
        "{}",
        report(policy, packet, &found, &wanted)
    );
}

fn report(
    policy: &Effective,
    packet: &Packet,
    found: &kernel::Outcome,
    wanted: &kernel::Outcome,
) -> String {
    let mut text = String::new();
    for tier in &policy.tiers {
        let audit = if tier.audit { " (audit)" } else { "" };
        let _ = writeln!(text, "\n{}{audit}:\n{}", tier.tier, tier.text);
    }
    let ops = compile(policy, LOG_GROUP).add().to_string();
    let _ = writeln!(
        text,
        "\ndefault: {:?}, audit {}\nfacts: {:?}\n{ops}\npacket: {packet:#?}\n\
         the kernel would: {found:#?}\nthe evaluator says: {wanted:#?}",
        policy.default_action, policy.default_audit, policy.facts
    );
    text
}
