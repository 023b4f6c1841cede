//! The rooms of the product's crate, from the ground up: a room uses those before it, and never one behind. Between
//! crates cargo keeps that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each with what it is about. ARCHITECTURE.md has the same in its table of modules.
const ROOMS: [&str; 24] = [
    "hex",        // bytes as text
    "defaults",   // where things are if nobody says otherwise
    "logging",    // the program's own log
    "plan",       // policy and attachment as chains, sets and rules; all names in the kernel
    "store",      // the state directory
    "refusal",    // what the outside is told when something can't be done
    "json",       // objects of unknown keys
    "guard",      // checksums that the firewall can't see
    "attachment", // who is attached, by which interface
    "enforce",    // which changes the kernel needs as it is now
    "cluster",    // the Kubernetes API, as a client sees it
    "conf",       // our entry of the conflist
    "source",     // where policy comes from
    "explain",    // what a policy says of a packet, and why
    "lint",       // what is wrong with annotations and files
    "egress",     // egress addresses and their Leases
    "lifecycle",  // attach, detach, reconcile
    "live",       // what running pods should have by what is written now
    "names",      // the resolver of pods whose rules name domains
    "verdicts",   // log messages
    "setup",      // what is put on a node
    "cni",        // the plugin
    "agent",      // the process that stays
    "cli",        // what people run by hand
];

/// Three programs in one file: none uses another.
const PROGRAMS: [&str; 3] = ["cni", "agent", "cli"];

/// A text without what may name whatever it wants: comments and tests.
pub(crate) fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let lines = text.lines();
    let code: Vec<&str> = lines
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect();
    code.join("\n")
}

/// The rooms that a text of `room` names: in `use crate::...` and in paths.
fn named(text: &str, room: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => rooms.extend(first_name(rest)),
            Some(group) => rooms.extend(names_of_group(group)),
        }
    }
    rooms.remove(room);
    rooms
}

/// The name that a text begins with, if it is a module's.
fn first_name(text: &str) -> Option<String> {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    let name = &text[..end.unwrap_or(text.len())];
    let is_module = name.starts_with(|c: char| c.is_ascii_lowercase());
    is_module.then(|| name.to_owned())
}

/// `a::{b, c}, d}` names `a` and `d`.
fn names_of_group(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if c.is_whitespace() => {}
            _ if begins => {
                names.extend(first_name(&text[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// What is wrong with a room that uses another one.
fn fault(from: &str, to: &str) -> Option<String> {
    let (Some(above), Some(below)) = (place(from), place(to)) else {
        return Some(format!("one of {from} and {to} has no place in the list"));
    };
    if below > above {
        return Some(format!("{to} stands above {from}"));
    }
    let both = PROGRAMS.contains(&from) && PROGRAMS.contains(&to);
    both.then(|| format!("{from} and {to} are programs of their own"))
}

/// The sources of a directory, without those that are tests only.
pub(crate) fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str());
        match name.unwrap_or_default() {
            "tests" | "tests.rs" | "test_support.rs" => {}
            _ if path.is_dir() => sources(&path, found),
            name if name.ends_with(".rs") => found.push(path),
            _ => {}
        }
    }
}

/// Which rooms each room uses, with a file that says so.
fn arrows() -> BTreeMap<(String, String), PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut arrows = BTreeMap::new();
    for file in files {
        let path = file.strip_prefix(&src).expect("is inside");
        let room = path.iter().next().and_then(|name| name.to_str());
        let room = room.unwrap_or_default().trim_end_matches(".rs");
        if ["lib", "main"].contains(&room) {
            continue; // they hold the rooms
        }
        let text = fs::read_to_string(&file).expect("readable");
        for to in named(&text, room) {
            arrows.insert((room.to_owned(), to), path.to_owned());
        }
    }
    arrows
}

#[test]
fn every_arrow_points_down() {
    let arrows = arrows();
    assert!(arrows.len() > 50, "only {} arrows", arrows.len());
    let faults: Vec<String> = arrows
        .iter()
        .filter_map(|((from, to), file)| {
            let fault = fault(from, to)?;
            Some(format!("src/{}: {fault}", file.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_room_has_a_place() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let lib = lib.expect("readable");
    let rooms: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'))
        .collect();
    assert!(rooms.len() > 10, "{rooms:?}");
    let without: Vec<_> = rooms.iter().filter(|room| place(room).is_none()).collect();
    assert!(without.is_empty(), "{without:?}");
}

/// What people read is the same list.
#[test]
fn the_document_has_every_room_in_its_place() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = fs::read_to_string(page).expect("readable");
    let (_, table) = page.split_once("| module | does |").expect("the table");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let first_cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let told: Vec<&str> = names.collect();
    assert_eq!(told, ROOMS);
}

#[test]
fn whatever_names_a_room_is_seen() {
    let text = "\
use crate::cluster::{self, Limit};
use crate::{hex, logging::init, plan::{Base, base}};
// use crate::cli;
fn f() -> crate::store::Lock { crate::enforce::verify() }
macro_rules! m { () => { $crate::json::value() } }
#[cfg(test)]
mod tests {
    use crate::setup;
}
";
    let seen: Vec<String> = named(text, "plan").into_iter().collect();
    assert_eq!(
        seen,
        ["cluster", "enforce", "hex", "json", "logging", "store"]
    );
    assert_eq!(fault("enforce", "plan"), None);
    for (from, to) in [
        ("plan", "enforce"),
        ("setup", "cni"),
        ("cli", "cni"),
        ("cli", "nobody"),
    ] {
        assert!(fault(from, to).is_some(), "{from} {to}");
    }
}
