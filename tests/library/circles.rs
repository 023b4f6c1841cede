//! No circles between files: whoever reads one file reads on in one direction.
//!
//! The rule: of the modules that stand side by side in one module, each with all that is inside it, none leads
//! back to itself. A module and those inside it are one idea and may use each other: the outer one holds what
//! its parts share (`super::Error`) and puts the parts together. A name that a module only passes on
//! (`pub use part::Name`) is its owner's: to ask the outer module for it is to use the part.
//!
//! Between rooms that is what `arrows` says more exactly: which of two is the lower one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::arrows;

/// `["cli", "lint", "text"]`; none: the crate's root.
type Module = Vec<String>;

/// A crate's modules with their code, without comments and tests.
struct Modules(BTreeMap<Module, String>);

/// `a` uses something of `b`.
type Uses = BTreeSet<(Module, Module)>;

/// The words of a code, and the signs that paths are made of; everything else is a space.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let length = match first {
            ':' if rest.starts_with("::") => 2,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        if !token.trim().is_empty() {
            tokens.push(token);
        }
        rest = behind;
    }
    tokens
}

/// The paths that begin at a token, a group's each for itself, and how many tokens they have.
fn paths(tokens: &[&str], before: &[&str], found: &mut Vec<Module>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if *token == "{" {
            while tokens.get(at).is_some_and(|token| *token != "}") {
                at += paths(&tokens[at..], &path, found).max(1);
                // ` as name`
                while !matches!(tokens.get(at), None | Some(&"," | &"}")) {
                    at += 1;
                }
                at += usize::from(tokens.get(at) == Some(&","));
            }
            return at + 1;
        }
        // `a::{self}` is `a`.
        if *token != "self" || path.is_empty() {
            path.push(token);
        }
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    found.push(path.into_iter().map(str::to_owned).collect());
    at
}

/// All paths of a code; with each whether it is passed on.
fn all_paths(code: &str) -> Vec<(Module, bool)> {
    let tokens = tokens(code);
    let mut all = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
        let starts = tokens[at].starts_with(|c: char| c.is_ascii_alphabetic())
            && tokens.get(at + 1) == Some(&"::")
            && before(1) != Some(&"::");
        if !starts {
            at += 1;
            continue;
        }
        let is_passed_on = before(1) == Some(&"use") && matches!(before(2), Some(&"pub" | &")"));
        let mut found = Vec::new();
        at += paths(&tokens[at..], &[], &mut found);
        all.extend(found.into_iter().map(|path| (path, is_passed_on)));
    }
    all
}

impl Modules {
    fn of(src: &Path) -> Modules {
        let mut files = Vec::new();
        arrows::sources(src, &mut files);
        let modules = files.into_iter().map(|file| {
            let path = file
                .strip_prefix(src)
                .expect("is inside")
                .with_extension("");
            let names = path.iter().map(|name| name.to_string_lossy().into_owned());
            let mut module: Module = names.collect();
            let root = ["mod", "lib", "main"];
            module.pop_if(|last| root.contains(&last.as_str()));
            let text = fs::read_to_string(&file).expect("readable");
            (module, arrows::code(&text))
        });
        Modules(modules.collect())
    }

    /// The module of a path that stands in `from`, and what is named of it; `None`: another crate's.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<(Module, Option<String>)> {
        let mut module = from.clone();
        let mut rest = path.iter().peekable();
        match path[0].as_str() {
            "crate" => module.clear(),
            "super" | "self" => {}
            child => {
                module.push(child.to_owned());
                self.0.get(&module)?;
                module.pop();
            }
        }
        while let Some(word) =
            rest.next_if(|word| ["crate", "self", "super"].contains(&word.as_str()))
        {
            if word == "super" {
                module.pop();
            }
        }
        while let Some(word) = rest.peek() {
            module.push((*word).clone());
            if !self.0.contains_key(&module) {
                module.pop();
                break;
            }
            rest.next();
        }
        Some((module, rest.next().cloned()))
    }

    fn uses(&self) -> Uses {
        let mut all = Vec::new();
        let mut passed_on = BTreeMap::new();
        for (from, code) in &self.0 {
            for (path, is_passed_on) in all_paths(code) {
                let Some(target) = self.resolve(from, &path) else {
                    continue;
                };
                if is_passed_on && let Some(name) = path.last() {
                    passed_on.insert((from.clone(), Some(name.clone())), target.clone());
                }
                all.push((from.clone(), target));
            }
        }
        let owner = |mut target: (Module, Option<String>)| {
            let mut seen = BTreeSet::new();
            while let Some(next) = passed_on.get(&target)
                && seen.insert(target.clone())
            {
                target = next.clone();
            }
            target.0
        };
        all.into_iter()
            .map(|(from, target)| (from, owner(target)))
            .collect()
    }
}

/// What the modules beside one another use, with a place that says so.
type Arrows<'a> = BTreeMap<&'a String, BTreeMap<&'a String, String>>;

/// Whatever a module leads to.
fn reached<'a>(arrows: &Arrows<'a>, from: &'a String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        let further = arrows.get(module).into_iter().flat_map(BTreeMap::keys);
        next.extend(further.filter(|to| reached.insert(**to)));
    }
    reached
}

/// Which modules lead back to themselves, side by side in one, with an arrow each that is part of it.
fn circles(uses: &Uses) -> Vec<String> {
    let mut beside: BTreeMap<&[String], Arrows<'_>> = BTreeMap::new();
    for (from, to) in uses {
        let alike = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        // Else one is inside the other.
        if let (Some(one), Some(other)) = (from.get(alike), to.get(alike)) {
            let arrow = format!("{} uses {}", from.join("::"), to.join("::"));
            let arrows = beside.entry(&from[..alike]).or_default();
            arrows.entry(one).or_default().insert(other, arrow);
        }
    }
    let mut found = Vec::new();
    for arrows in beside.values() {
        for (from, to) in arrows {
            let back = to
                .iter()
                .filter(|(to, _)| reached(arrows, to).contains(from));
            found.extend(back.map(|(_, arrow)| arrow.clone()));
        }
    }
    found
}

#[test]
fn no_module_leads_back_to_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (src, at_least) in [
        ("src", 400),
        ("crates/netlink/src", 20),
        ("crates/nft/src", 60),
        ("crates/rules/src", 60),
    ] {
        let modules = Modules::of(&root.join(src));
        let uses = modules.uses();
        println!("{src} {}", uses.len());
        assert!(uses.len() > at_least, "{src}: only {}", uses.len());
        let found = circles(&uses);
        assert!(found.is_empty(), "{src}: {found:#?}");
    }
}

#[test]
fn a_circle_is_seen_however_it_is_written() {
    let circles_of = |files: &[(&str, &str)]| {
        let module = |name: &str| name.split("::").map(str::to_owned).collect();
        let files = files
            .iter()
            .map(|(name, code)| (module(name), arrows::code(code)));
        circles(&Modules(files.collect()).uses())
    };
    let room = (
        "room",
        "mod a; mod b; pub use a::A; pub use b::{self as bee, B}; fn f() { a::g() }",
    );
    let to_a = ("room::b", "use super::a;");
    for back in [
        "use super::b::B;",
        "use super::B;",
        "use crate::room::{C, B};",
        "use crate::{other, room::{inner::D, B as Bee}};",
        "fn f() -> super::b::B {}",
        "fn f() { let b = crate::room::B::new(); }",
    ] {
        let both = ["room::a uses room::b", "room::b uses room::a"];
        assert_eq!(circles_of(&[room, to_a, ("room::a", back)]), both, "{back}");
    }
    let nested = [
        room,
        to_a,
        ("room::a", ""),
        ("room::a::inner", "use super::super::b::B;"),
    ];
    let both = ["room::a::inner uses room::b", "room::b uses room::a"];
    assert_eq!(circles_of(&nested), both);
    for harmless in [
        "use super::C;",
        "// use super::b::B;",
        "use super::{C, D}; use other::b::B;",
        "#[cfg(test)]\nmod tests { use super::super::b::B; }",
    ] {
        let files = [room, to_a, ("room::a", harmless)];
        assert_eq!(circles_of(&files), Vec::<String>::new(), "{harmless}");
    }
}
