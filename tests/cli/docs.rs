//! docs/guarantees.md names the test behind each promise. Here is seen that they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    fs::read_to_string(root().join("docs/guarantees.md")).unwrap()
}

/// Every name of a test in the document, in order: small words with `::` between them.
fn named_tests(text: &str) -> Vec<String> {
    let is_word = |word: &str| {
        let of_a_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        word.starts_with(|c: char| c.is_ascii_lowercase()) && word.bytes().all(of_a_name)
    };
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::") && code.split("::").all(is_word))
        .map(str::to_owned)
        .collect()
}

/// Where a test of this name can be. It begins with its binary, or with `unit`: `netns::rules::targets` in tests/netns/rules.rs,
/// `unit::store::links` in src/store.rs or src/store/tests.rs, `unit::rules::evaluate::ports`
/// in the crate of that name: crates/rules/src/evaluate/tests.rs.
fn places(name: &str) -> (Vec<PathBuf>, String) {
    let (module, test) = name.rsplit_once("::").unwrap();
    let (kind, path) = module.split_once("::").unwrap_or((module, ""));
    let path = path.replace("::", "/");
    let base = match path.split_once('/') {
        _ if kind != "unit" => format!("tests/{kind}/{path}"),
        Some((of, path)) if root().join("crates").join(of).is_dir() => {
            format!("crates/{of}/src/{path}")
        }
        _ => format!("src/{path}"),
    };
    let files = ["", "/tests", "/mod"].map(|end| format!("{base}{end}.rs"));
    let files = files.into_iter().map(|file| root().join(file)).collect();
    (files, format!("fn {test}("))
}

fn exists(name: &str) -> bool {
    let (files, function) = places(name);
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.contains(&function))
}

#[test]
fn every_named_test_exists() {
    let names = named_tests(&document());
    assert!(names.len() > 40, "only {} tests are named", names.len());
    let missing: BTreeSet<_> = names.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(!exists("netns::rules::no_such_test") && !exists("unit::no_such_file::links"));
    assert!(!exists("meaning::lookups_decide_as_the_evaluator"));
}

#[test]
fn every_promise_names_a_test() {
    // A promise is an item of a list, up to the next item or heading.
    let document = document();
    let items: Vec<&str> = document.split("\n- ").skip(1).collect();
    assert!(items.len() > 20, "only {} promises", items.len());
    for item in items {
        let item = item.split("\n#").next().unwrap();
        assert!(!named_tests(item).is_empty(), "no test keeps this: {item}");
    }
}

/// What people read of `metadata` is what is enforced.
#[test]
fn the_list_of_metadata_services_is_the_one_that_is_enforced() {
    use rules::class::{METADATA, WIRESERVER};
    let page = std::fs::read_to_string("docs/metadata.md").expect("is there");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let row = |service: &rules::class::MetadataService| {
        let (address, owner, source) = (service.address.addr(), service.owner, service.source);
        format!("| `{address}` | {owner} | <{source}> |")
    };
    let wanted: Vec<String> = METADATA.iter().chain([&WIRESERVER]).map(row).collect();
    assert_eq!(rows, wanted);
}

/// What people read of a pod's interface is what its chains do.
#[test]
fn the_table_of_the_veth_is_the_one_of_its_chains() {
    use egressway::plan::veth::table::ROWS;
    let page = fs::read_to_string(root().join("docs/veth.md")).expect("is there");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let wanted = ROWS.iter().map(|row| {
        let fate = row.fate.as_str();
        format!("| `{}` | {} | {fate} |", row.name, row.what)
    });
    assert_eq!(rows, wanted.collect::<Vec<String>>());
}

/// The state directory is drawn twice: for who reads the design, and for who reads the code.
#[test]
fn the_state_directory_is_drawn_the_same_wherever_it_is() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let design = read("ARCHITECTURE.md");
    let design = design
        .lines()
        .filter_map(|line| line.strip_prefix("stateDir/"));
    let first = |line: &str| line.split("  ").next().unwrap().to_owned();
    let design: BTreeSet<String> = design.map(first).collect();
    let code = read("src/store/mod.rs");
    let (_, drawing) = code.split_once("//! ```text\n").unwrap();
    let (drawing, _) = drawing.split_once("//! ```").unwrap();
    let lines = drawing.lines().filter_map(|line| line.strip_prefix("//! "));
    let of_files = lines.filter(|line| !line.starts_with([' ', '.']));
    assert_eq!(design, of_files.map(first).collect());
    assert!(design.len() > 10, "{design:?}");
}
