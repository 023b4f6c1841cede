//! `egressway lint -o sarif`: what SARIF 2.1.0 requires, and what code hosts read of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lint")
}

fn sarif(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressway"));
    command.args(["lint", "-o", "sarif"]).args(arguments);
    command.current_dir(folder).env_remove("CNI_COMMAND");
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn place(result: &Value) -> &Value {
    &result["locations"][0]["physicalLocation"]
}

#[test]
fn each_result_has_what_the_standard_requires() {
    let document = sarif(&fixtures(), &["bad", "--policy", "good/policy.yml"]);
    // 3.13, 3.14
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "egressway lint");
    let rules = driver["rules"].as_array().unwrap();
    let ids: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), rules.len());
    for rule in rules {
        assert!(
            rule["shortDescription"]["text"]
                .as_str()
                .unwrap()
                .ends_with('.')
        );
        let level = rule["defaultConfiguration"]["level"].as_str().unwrap();
        assert!(["error", "warning"].contains(&level));
    }
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > 15, "{}", results.len());
    for result in results {
        // 3.27
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert_eq!(
            rules[index]["defaultConfiguration"]["level"],
            result["level"]
        );
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let uri = place(result)["artifactLocation"]["uri"].as_str().unwrap();
        assert!(fixtures().join(uri).is_file(), "{uri}");
        // 3.30: from 1, and the end is behind the last character.
        let region = |key: &str| place(result)["region"][key].as_u64().unwrap();
        let (line, start, end) = (
            region("startLine"),
            region("startColumn"),
            region("endColumn"),
        );
        assert!(line > 0 && start > 0 && end > start, "{result:#}");
        let text = fs::read_to_string(fixtures().join(uri)).unwrap();
        let line = text.lines().nth(line as usize - 1).unwrap();
        // One behind the line's end, where something is missing.
        assert!(end as usize <= line.chars().count() + 2, "{result:#}");
    }
}

#[test]
fn nothing_found_is_a_document_too() {
    let document = sarif(&fixtures(), &["good"]);
    assert_eq!(document["runs"][0]["results"], json!([]));
}

/// RFC 3986: code hosts take relative ones, from where the job runs.
#[test]
fn places_are_uris() {
    let folder = tempfile::tempdir().unwrap();
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {annotations: {egressway.dev/rules: alow}}\n";
    let odd = folder.path().join("a b%/#1 ä.yaml");
    fs::create_dir_all(odd.parent().unwrap()).unwrap();
    fs::write(&odd, pod).unwrap();
    let uri = |working: &Path, argument: &str| {
        let document = sarif(working, &[argument]);
        let result = &document["runs"][0]["results"][0];
        let uri = &place(result)["artifactLocation"]["uri"];
        uri.as_str()
            .unwrap_or_else(|| panic!("{document:#}"))
            .to_owned()
    };
    let encoded = "a%20b%25/%231%20%C3%A4.yaml";
    assert_eq!(uri(folder.path(), "."), encoded);
    assert_eq!(uri(folder.path(), odd.to_str().unwrap()), encoded);
    let elsewhere = format!("file://{}/{encoded}", folder.path().display());
    assert_eq!(uri(&fixtures(), odd.to_str().unwrap()), elsewhere);
}
