//! `suggest` and `report` as an operator runs them, and the page in a real browser.
//!
//! The browser is Debian's `chromium`, in the path.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::tool;

/// A denied packet's line.
fn line(pod: &str, destination: &str) -> String {
    format!(
        r#"{{"time":"2026-01-31T09:30:00.5Z","namespace":"shop","pod":"{pod}","verdict":"deny","rule":"default:deny","protocol":"tcp","source":"10.0.0.2","sourcePort":40000,"destination":"{destination}","destinationPort":443}}"#
    ) + "\n"
}

fn run(arguments: &[&str], stdin: &str) -> Output {
    tool::run(arguments, stdin.as_bytes())
}

fn status(arguments: &[&str], stdin: &str) -> Option<i32> {
    run(arguments, stdin).status.code()
}

#[test]
fn suggest_reads_a_pipe_and_tells_what_it_left_out() {
    let log = line("web", "192.0.2.0") + "lost\n\n" + &line("api", "192.0.2.1");
    let output = run(&["suggest", "-"], &log);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "# namespace shop\n\
         # logged 2 times by 2 pods, last 2026-01-31T09:30:00Z\n\
         allow 443/tcp to 192.0.2.0/31\n"
    );
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "egressway: left out what is no line of `egressway logs -o json`: 1 line, \
         the first is line 2 of stdin\n"
    );
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let log = line("web", "192.0.2.1");
    for (arguments, code) in [
        (&["suggest"][..], 0),
        (&["suggest", "-o", "yaml", "--by", "pod"], 0),
        (&["suggest", "--verdict", "allow"], 1),
        (&["suggest", "--namespace", "bank"], 1),
        (&["suggest", "/nonexistent/log"], 1),
        (&["suggest", "--generalise", "1"], 2),
        (&["suggest", "--by", "node"], 2),
        (&["report", "-w", "-"], 0),
        (&["report", "-w", "/nonexistent/report.html"], 1),
        (&["report", "/nonexistent/log", "-w", "-"], 1),
        (&["report"], 2),
    ] {
        assert_eq!(status(arguments, &log), Some(code), "{arguments:?}");
    }
    assert_eq!(status(&["suggest"], ""), Some(1));
    assert_eq!(status(&["report", "-w", "-"], "no line\n"), Some(1));
}

/// How much wider than itself the page, or a part of it that would then scroll, is in a frame so wide.
fn overflow(dir: &Path, frame: u32) -> String {
    let page = format!(
        "<iframe id=\"f\" src=\"report.html\" style=\"border:0;width:{frame}px;height:900px\"></iframe>\
         <p id=\"w\"></p><script>onload = () => {{ \
         const page = document.getElementById('f').contentDocument; \
         const parts = [page.documentElement, ...page.querySelectorAll('section')]; \
         const over = parts.map(part => part.scrollWidth - part.clientWidth); \
         document.getElementById('w').textContent = \
         page.documentElement.clientWidth + ' and ' + Math.max(...over); }}</script>"
    );
    let frame = dir.join("frame.html");
    fs::write(&frame, page).unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--hide-scrollbars",
            "--allow-file-access-from-files",
        ])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .args(["--window-size=1600,1000", "--dump-dom"])
        .arg(format!("file://{}", frame.display()))
        .output()
        .expect("chromium is installed");
    let dom = String::from_utf8(output.stdout).unwrap();
    let (_, found) = dom.split_once("<p id=\"w\">").unwrap();
    found.split_once('<').unwrap().0.to_owned()
}

#[test]
fn the_page_fits_every_screen() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let log = line("web", "192.0.2.1")
        + &line(
            &"long-name-".repeat(25),
            "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
        )
        + &line(&"x".repeat(253), "192.0.2.2");
    assert_eq!(
        status(&["report", "-w", page.to_str().unwrap()], &log),
        Some(0)
    );
    for width in [320, 390, 768, 1089, 1280] {
        assert_eq!(overflow(dir.path(), width), format!("{width} and 0"));
    }
}
