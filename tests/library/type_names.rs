//! A type's name says which type it is: whoever looks for one finds at most two.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::arrows;

/// Names that say the same of each module or crate that has one.
const CUSTOMARY: [&str; 3] = [
    "Args",   // a subcommand's
    "Error",  // a module's
    "Family", // of addresses: the crates do not know each other
];

/// How many types may have one name.
const AT_MOST: usize = 2;

/// The types that a file declares, but those of its tests.
fn declared(text: &str) -> Vec<String> {
    let code = arrows::code(text);
    code.lines().filter_map(declared_in).collect()
}

/// The type that a line declares. `type` inside something gives a name to what a trait asks for.
fn declared_in(line: &str) -> Option<String> {
    let inside = line.trim_start();
    let inside = inside.strip_prefix("pub").map_or(inside, |rest| {
        let of = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        of.map_or(rest, |(_, rest)| rest).trim_start()
    });
    let alias = (!line.starts_with(' ')).then_some("type ");
    let mut kinds = ["struct ", "enum ", "trait "].into_iter().chain(alias);
    let rest = kinds.find_map(|kind| inside.strip_prefix(kind))?;
    let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

fn is_of_tests(path: &Path) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        matches!(
            part.as_ref(),
            "tests" | "tests.rs" | "test_support.rs" | "mutants.rs"
        )
    })
}

#[test]
fn no_name_stands_for_three_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    arrows::sources(&root.join("src"), &mut files);
    for entry in fs::read_dir(root.join("crates")).expect("a directory") {
        arrows::sources(&entry.expect("readable").path().join("src"), &mut files);
    }
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let files = files.iter().filter_map(|file| {
        let of_root = file.strip_prefix(root).expect("below the root");
        (!is_of_tests(of_root)).then_some((file, of_root))
    });
    for (file, of_root) in files {
        let text = fs::read_to_string(file).expect("readable");
        for name in declared(&text) {
            let place = of_root.display().to_string();
            places.entry(name).or_default().push(place);
        }
    }
    assert!(places.len() > 500, "only {} names", places.len());
    places.retain(|name, places| places.len() > AT_MOST && !CUSTOMARY.contains(&name.as_str()));
    assert!(places.is_empty(), "give these their own names: {places:#?}");
}

#[test]
fn a_declaration_is_seen_however_it_is_written() {
    let text = "pub struct A<T>(T);\n  pub(in crate::a) enum B {\ntrait C: D {}\ntype E = u8;\n\
                impl F {\n    type G = u8;\n}\n// struct H\nfn structure() {}\n\
                #[cfg(test)]\nmod tests {\n    struct I;\n}";
    assert_eq!(declared(text), ["A", "B", "C", "E"]);
}
