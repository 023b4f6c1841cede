//! What every subcommand's output is like: examples in each help, no colour where none belongs, a closed
//! pipe, a narrow terminal.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressway"));
    command
        .args(line.split_whitespace())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"))
        .env_remove("CNI_COMMAND")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

fn output(line: &str) -> Output {
    command(line).output().unwrap()
}

/// What a command answers on a terminal of so many columns. Its stderr goes elsewhere: of what takes longer than a
/// second a bar is drawn there, by moving the cursor, however plain the answer is.
fn on_a_terminal(columns: u16, environment: &[(&str, &str)], line: &str) -> String {
    let inner = format!(
        "stty rows 24 cols {columns}; exec {} {line} 2>/dev/null",
        env!("CARGO_BIN_EXE_egressway")
    );
    let mut script = Command::new("script");
    script.args(["-qec", &inner, "/dev/null"]);
    script
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"))
        .env_remove("CNI_COMMAND")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    String::from_utf8(script.output().unwrap().stdout).unwrap()
}

/// The subcommands, as the help lists them.
fn subcommands() -> Vec<String> {
    let help = String::from_utf8(output("--help").stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    let names = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<String> = names
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect();
    assert!(names.len() >= 9, "{names:?}");
    names
}

/// Answers that need no node, each with something to colour.
const ANSWERS: [&str; 2] = [
    "explain --manifest explain/web.yaml --policy explain/policy.yaml 203.0.113.7:443/tcp",
    "lint lint/bad",
];

#[test]
fn every_help_has_an_example() {
    for name in subcommands() {
        let help = output(&format!("{name} --help"));
        assert_eq!(help.status.code(), Some(0));
        let help = String::from_utf8(help.stdout).unwrap();
        let call = format!("egressway {name}");
        let examples = help
            .lines()
            .filter(|line| line.contains(&call) && !line.starts_with("Usage:"));
        assert!(examples.count() > 0, "{help}");
        let short = String::from_utf8(output(&format!("{name} -h")).stdout).unwrap();
        assert!(!short.is_empty() && short.len() <= help.len());
    }
}

/// Text that nobody has to scroll for: a hundred columns, or what the terminal has.
#[test]
fn every_help_fits_its_terminal() {
    let mut lines: Vec<String> = subcommands()
        .iter()
        .map(|n| format!("{n} --help"))
        .collect();
    lines.push("--help".to_owned());
    for line in lines {
        let help = String::from_utf8(output(&line).stdout).unwrap();
        let wide: Vec<&str> = help.lines().filter(|l| l.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{line}: {wide:#?}");
        for columns in [20, 40, 250] {
            let here = on_a_terminal(columns, &[], &line).replace("\r\n", "\n");
            let words = |text: &str| -> Vec<String> {
                text.split_whitespace().map(str::to_owned).collect()
            };
            assert_eq!(words(&here), words(&help), "{line}");
            let columns = usize::from(columns.clamp(40, 100));
            // Usage and the names of options are not broken.
            let breaks = |l: &&str| {
                l.trim().contains(' ') && !l.starts_with("Usage:") && !l.trim().starts_with('-')
            };
            let wide: Vec<&str> = here
                .lines()
                .filter(breaks)
                .filter(|l| l.chars().count() > columns)
                .collect();
            assert!(wide.is_empty(), "{line}, {columns} columns: {wide:#?}");
        }
    }
}

/// Text that is cut to fit could hide a rule's end.
#[test]
fn a_narrow_terminal_gets_all_of_it() {
    for line in ANSWERS {
        let narrow = on_a_terminal(40, &[("NO_COLOR", "1")], line).replace("\r\n", "\n");
        let piped = command(line).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(narrow, String::from_utf8(piped.stdout).unwrap());
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    for line in ANSWERS {
        let coloured = on_a_terminal(80, &[], line);
        assert!(coloured.contains('\u{1b}'), "{coloured:?}");
        for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let plain = on_a_terminal(80, &[variable], line);
            assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{plain:?}");
        }
        assert!(!on_a_terminal(80, &[], &format!("{line} --color=never")).contains('\u{1b}'));
        let wanted = command(&format!("{line} --color always"))
            .env("NO_COLOR", "1")
            .output();
        assert!(wanted.unwrap().stdout.contains(&0x1b));
        // an empty NO_COLOR means nothing (no-color.org)
        assert!(on_a_terminal(80, &[("NO_COLOR", "")], line).contains('\u{1b}'));
        let piped = output(line);
        assert!(!piped.stdout.is_empty() && !piped.stdout.contains(&0x1b));
        assert!(!piped.stderr.contains(&0x1b));
    }
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    let mut lines: Vec<String> = ANSWERS.map(str::to_owned).to_vec();
    lines.extend(subcommands().iter().map(|name| format!("{name} --help")));
    lines.extend(
        [
            "--help",
            "completions bash",
            "lint --list-checks",
            "lint -o sarif lint/bad",
            "explain --manifest explain/web.yaml --policy explain/policy.yaml -o json 203.0.113.7",
        ]
        .map(str::to_owned),
    );
    for line in lines {
        let mut child = command(&line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.code().is_some(), "{line}: {}", ended.status);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(
            !said.contains("panicked") && !said.contains("roken pipe"),
            "{line}: {said}"
        );
    }
}
