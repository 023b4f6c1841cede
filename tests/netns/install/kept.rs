//! What others undo while the agent runs, and what it leaves to them.

use super::*;

#[test]
fn the_entry_comes_back_when_the_primary_writes_its_file_anew() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let agent = paths.start();
    until("the entry is put in", || paths.entry().is_some());
    for _ in 0..3 {
        paths.write_conflist();
        until("the entry is put in again", || paths.entry().is_some());
    }
    let after = tree(&paths.path("net.d"));
    let output = agent.terminate();
    succeeded(&output);
    assert!(
        output.stderr.contains("restored egressway's entry in"),
        "{}",
        output.stderr
    );
    assert_eq!(
        tree(&paths.path("net.d")),
        after,
        "everything is left in place"
    );
    assert!(paths.path("bin/egressway").exists());
}

/// Two agents that write one file: this one goes on for ever, and says so where people look.
#[test]
fn who_keeps_undoing_it_never_wins_and_is_told_of() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let agent = paths.start();
    agent.until_ready();
    let undone = std::cell::Cell::new(0);
    let undo = || {
        if paths.entry().is_some() {
            paths.write_conflist();
            undone.set(undone.get() + 1);
        }
    };
    until("it complains", || {
        undo();
        agent.readiness().1.contains("cni.exclusive=false")
    });
    // From here on seconds are between two attempts: what is told in the log must have been so for a while.
    undone.set(0);
    until("it goes on", || {
        undo();
        undone.get() > 3
    });
    until("the entry is put in again", || paths.entry().is_some());
    let output = agent.terminate();
    succeeded(&output);
    assert!(
        output.stderr.contains("two agents must not write one file"),
        "{}",
        output.stderr
    );
}

/// Another plugin that comes later is no thief.
#[test]
fn an_entry_behind_which_a_plugin_is_put_moves_to_the_end() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let agent = paths.start();
    agent.until_ready();
    let text = fs::read_to_string(paths.conflist()).expect("the conflist");
    let mut list: Value = serde_json::from_str(&text).expect("JSON");
    let plugins = list["plugins"].as_array_mut().expect("plugins");
    plugins.push(json!({"type": "bridge", "x": 1}));
    fs::write(paths.conflist(), list.to_string()).expect("write the conflist");
    until("the entry is the last one", || paths.entry().is_some());
    let said = agent.terminate().stderr;
    assert!(said.contains("moved egressway to the end of"), "{said}");
    assert!(!said.contains("something had removed it"), "{said}");
}

#[test]
fn the_program_comes_back_when_somebody_removes_or_replaces_it() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let program = paths.path("bin/egressway");
    let agent = paths.start();
    agent.until_ready();
    let own = fs::read(&program).expect("the program");
    let is_back = || fs::read(&program).is_ok_and(|there| there == own);
    fs::remove_file(&program).expect("remove the program");
    until("it is back", is_back);
    fs::write(&program, "#!/bin/sh\n").expect("replace the program");
    until("it is back", is_back);
    agent.until_ready();
    let said = agent.terminate().stderr;
    for word in ["something had removed it", "something had replaced it"] {
        assert!(said.contains(word), "{said}");
    }
}

/// It has our name, and another meaning.
#[test]
fn a_strangers_program_is_never_touched() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let program = paths.path("bin/egressway");
    fs::write(&program, "#!/bin/sh\n").expect("write a program");
    let before = tree(node.dir.path());
    let output = paths.run("install", &[]);
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.contains("another program of that name"),
        "{}",
        output.stderr
    );
    assert_eq!(tree(node.dir.path()), before);
}

#[test]
fn a_primary_that_comes_later_is_waited_for() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let half = &CONFLIST[..CONFLIST.len() / 2];
    fs::write(paths.conflist(), half).expect("write half a file");
    let output = paths.run("install", &["--once"]);
    assert_eq!(output.code, Some(1));
    for said in [
        "10-pods.conflist is left as it is: it is not a JSON object",
        "no configuration that a runtime could use",
    ] {
        assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
    }
    let left = fs::read_to_string(paths.conflist()).expect("the conflist");
    assert_eq!(left, half);

    let agent = paths.start();
    agent.until_not_ready("waiting for the primary CNI plugin");
    let other = r#"{"name":"other","plugins":[{"type":"not-there"}]}"#;
    let other_path = paths.path("net.d/05-other.conflist");
    fs::write(&other_path, other).expect("write another file");
    paths.write_conflist();
    until("the entry is put in", || paths.entry().is_some());
    agent.until_ready();
    let said = agent.terminate().stderr;
    assert!(said.contains("names the plugin \"not-there\""), "{said}");
    assert_eq!(fs::read_to_string(&other_path).expect("read"), other);
}
