//! A pod with NET_RAW tries everything in `table`; `document` is what came of it.
//!
//! Each case is sent in three scenes: without our plugin in the chain, with it and everything allowed, with it and
//! rules. What arrives must be exactly what the table says, so that docs/attacks.md, which is the table, is true.

mod case;
mod document;
mod scene;
mod table;

use crate::harness::Primary;
use crate::primaries::under_every_primary;
use case::{Case, Group, On};
use scene::{Plugin, Scene};
use std::collections::BTreeSet;
use std::{fs, path::Path, thread};

under_every_primary!(every_case);

fn every_case(primary: Primary, bridge_nf: bool) {
    let here = match (primary, bridge_nf) {
        (Primary::Bridge, false) => On::BRIDGE,
        (Primary::Bridge, true) => On::BRIDGE_NF,
        (Primary::Ptp, _) => On::PTP,
        _ => On::CALICO,
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let play = move |plugin| surprises(primary, bridge_nf, here, plugin, &table::GROUPS);
        let scenes = PLUGINS.map(|plugin| scope.spawn(move || play(plugin)));
        scenes
            .into_iter()
            .flat_map(|scene| {
                scene
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "otherwise than in the table:\n{}",
        wrong.join("\n")
    );
}

/// What depends most on the kernel, one scene after the other: small enough for an emulated machine.
#[test]
fn sources_and_icmp_on_a_bridge() {
    let groups = [&table::SOURCES, &table::ICMP];
    let play = |plugin| surprises(Primary::Bridge, false, On::BRIDGE, plugin, &groups);
    let wrong: Vec<String> = PLUGINS.into_iter().flat_map(play).collect();
    assert!(
        wrong.is_empty(),
        "otherwise than in the table:\n{}",
        wrong.join("\n")
    );
}

const PLUGINS: [Plugin; 3] = [Plugin::Absent, Plugin::Open, Plugin::Closed];

/// Plays the scene, and says what came out otherwise than the table has it.
fn surprises(
    primary: Primary,
    bridge_nf: bool,
    here: On,
    plugin: Plugin,
    groups: &[&Group],
) -> Vec<String> {
    let expects = |case: &Case| {
        match plugin {
            Plugin::Absent => case.without,
            Plugin::Open => case.open,
            Plugin::Closed => case.closed,
        }
        .has(here)
    };
    let node = Scene::node(bridge_nf);
    let mut scene = Scene::new(&node, primary, plugin);
    let mut numbered = groups
        .iter()
        .flat_map(|group| {
            group
                .cases
                .iter()
                .map(move |case| (table::wants_services(group), case))
        })
        .enumerate()
        .collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for services in [false, true] {
        if services {
            scene.translate_services();
        }
        let cases: Vec<(usize, &Case)> = numbered
            .extract_if(.., |(_, (wants, _))| *wants == services)
            .map(|(n, (_, case))| (n, case))
            .collect();
        if cases.is_empty() {
            continue;
        }
        let expected: BTreeSet<usize> = cases
            .iter()
            .filter(|(_, case)| expects(case))
            .map(|(n, _)| *n)
            .collect();
        let arrived = scene.attack(&cases, &expected);
        for (n, case) in cases {
            match (expected.contains(&n), arrived.contains(&n)) {
                (true, false) => wrong.push(format!("{plugin:?}: does not arrive: {}", case.what)),
                (false, true) => wrong.push(format!("{plugin:?}: arrives: {}", case.what)),
                _ => {}
            }
        }
    }
    if !wrong.is_empty() {
        eprintln!("{}", scene.describe());
    }
    wrong
}

/// With `EGRESSWAY_WRITE=1` it writes the document instead.
#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/attacks.md");
    let text = document::text();
    if std::env::var_os("EGRESSWAY_WRITE").is_some() {
        fs::write(&path, &text).expect("write the document");
    }
    let written = fs::read_to_string(&path).expect("docs/attacks.md");
    assert!(
        written == text,
        "docs/attacks.md is not the table: run this with EGRESSWAY_WRITE=1"
    );
}
