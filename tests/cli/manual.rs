//! Shells' completions and the manual pages.

/// What a package installs beside the program names every subcommand.
#[test]
fn completions_and_manual_pages_are_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_egressway"))
            .args(arguments)
            .output()
            .expect("run");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let script = run(&["completions", "bash"]);
    run(&["man", "--out", dir.path().to_str().expect("a path")]);
    let mut pages: Vec<String> = std::fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    pages.sort();
    assert!(pages.contains(&"egressway.1".to_owned()));
    for subcommand in [
        "show",
        "explain",
        "lint",
        "logs",
        "capture",
        "suggest",
        "report",
        "completions",
        "man",
    ] {
        assert!(script.contains(subcommand), "{subcommand}");
        let page = std::fs::read_to_string(dir.path().join(format!("egressway-{subcommand}.1")));
        assert!(
            page.expect("a page")
                .contains(&format!("egressway\\-{subcommand}")),
            "{pages:?}"
        );
    }
}
