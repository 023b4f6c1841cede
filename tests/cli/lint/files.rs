//! Which files are read, and where a policy may stand.

use super::*;

#[test]
fn a_folder_without_manifests_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("README.md"), "no manifest").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let path = dir.path().to_str().unwrap();
    let output = lint(&[path]);
    assert_status(&output, 3);
    let told = format!(
        "egressway: {path} has no manifests: no file below it ends in .yaml, .yml or .json; give another folder, or the files\n"
    );
    assert_eq!(stderr(&output), told);
    // What else is given is checked all the same.
    let output = lint(&[path, "bad"]);
    assert_status(&output, 3);
    assert!(stdout(&output).contains("[rule-syntax]"));
    fs::write(dir.path().join("empty/pod.yml"), "a: b\n").unwrap();
    assert_status(&lint(&[path]), 0);
}

#[test]
fn a_file_that_is_no_text_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin.yaml");
    fs::write(&path, b"a: b\nc: \xe4\n").unwrap();
    let output = lint(&[path.to_str().unwrap()]);
    assert_status(&output, 3);
    assert!(
        stderr(&output).contains("not UTF-8, first in line 2"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_policy_with_faults_is_checked_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    fs::write(
        &path,
        "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\nenforced: dny\n",
    )
    .unwrap();
    let output = lint(&["--policy", path.to_str().unwrap(), "good"]);
    assert_status(&output, 1);
    assert!(
        stdout(&output).contains("policy.yaml:3:11: error: "),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_policy_may_be_given_in_its_config_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.yaml");
    let policy = fs::read_to_string(fixtures().join("good/policy.yml")).unwrap();
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  policy.yaml: |\n    {}\n",
        policy.replace('\n', "\n    ")
    );
    fs::write(&path, map).unwrap();
    let output = lint(&[
        "-o",
        "json",
        "--policy",
        path.to_str().unwrap(),
        "bad/namespace.yaml",
    ]);
    let rules = json(&output)["findings"].to_string();
    assert!(
        rules.contains("egress-ip-refused") && rules.contains("overridden-rule"),
        "{rules}"
    );
}

#[test]
fn folders_are_walked_but_for_hidden_ones() {
    let folder = tempfile::tempdir().unwrap();
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {annotations: {egressway.dev/rules: alow}}\n";
    for file in [
        "a/b/c.yaml",
        "a/d.YML",
        "e.json",
        ".git/f.yaml",
        "notes.txt",
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, pod).unwrap();
    }
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    let mut command = command(&["-o", "json", "."]);
    let document = json(&command.current_dir(folder.path()).output().unwrap());
    let findings = document["findings"].as_array().unwrap();
    let files: Vec<_> = findings
        .iter()
        .map(|f| f["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["a/b/c.yaml", "a/d.YML", "e.json"]);
}
