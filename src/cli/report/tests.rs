//! The page's structure, without a browser.

use std::path::Path;

use super::*;
use crate::verdicts::test_support::{attach, line};

/// What two pods of `shop` and one unknown pod did.
fn summary() -> Summary {
    let mut summary = Summary::default();
    for (minute, text) in [
        (0, "shop/web allow pod:1 tcp 203.0.113.9 443"),
        (1, "shop/web deny pod:erp tcp 198.51.100.66 8080"),
        (2, "shop/web deny pod:erp tcp 198.51.100.66 8080"),
        (3, "shop/api would-deny default:deny udp 2001:db8::1 53"),
        (
            5,
            "-/- reject cluster-enforced:no-metadata tcp 169.254.169.254 80",
        ),
        (6, "shop/web allow pod:1 icmp 203.0.113.9 8/0"),
    ] {
        summary.add(&line(minute, text));
    }
    summary.skipped = 2;
    summary.lost = Some("7 log messages".to_owned());
    summary
}

/// A state directory in which `web` and `db` have these rules.
fn state(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    attach(dir.path(), "web", 7, &["10.0.0.2"], &[], text);
    attach(
        dir.path(),
        "db",
        8,
        &["10.0.0.3"],
        &[],
        "deny to metadata log name=erp",
    );
    dir
}

const RULES: &str = "allow log\ndeny to 10.0.0.0/8 log name=erp; deny to 10.0.0.1 log name=<b>
allow 443/tcp";

fn rules() -> Rules {
    let dir = state(&RULES.replace("<b>", "b"));
    Rules::read(dir.path(), &summary()).unwrap()
}

#[test]
fn the_page_is_as_it_was() {
    let page = page::page(&summary(), Some(&rules()));
    // To look at it, or to renew the file: the variable says where to write it.
    if let Some(path) = std::env::var_os("EGRESSWAY_WRITE_REPORT") {
        fs::write(path, &page).unwrap();
    }
    assert!(
        page == include_str!("golden.html"),
        "EGRESSWAY_WRITE_REPORT=src/cli/report/golden.html renews the file"
    );
}

#[test]
fn the_page_refers_to_nothing_outside_and_runs_nothing() {
    let page = page::page(&summary(), Some(&rules()));
    for outside in [
        "http:",
        "https:",
        "//",
        "src=",
        "href",
        "url(",
        "@import",
        "<script",
        "<link",
        "<img",
        "<iframe",
        " on",
        "javascript",
    ] {
        let found = page
            .match_indices(outside)
            .find(|(at, _)| !is_word(&page[*at..]));
        assert_eq!(found, None, "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// ` on` as in a sentence, not as in ` onclick=`.
fn is_word(rest: &str) -> bool {
    rest.strip_prefix(" on").is_some_and(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic());
        end.is_none_or(|end| !rest[end..].starts_with('='))
    })
}

#[test]
fn every_element_ends_where_it_should() {
    let page = page::page(&summary(), Some(&rules()));
    assert_eq!(unclosed(&page), Vec::<String>::new());
    assert_eq!(unclosed("<p><b>x</p>"), ["b"]);
}

/// The elements that are not closed in their order.
fn unclosed(page: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        let name = tag.split(' ').next().unwrap();
        let empty = tag.ends_with('/') || ["!DOCTYPE", "meta"].contains(&name);
        match name.strip_prefix('/') {
            Some(name) if open.last().is_some_and(|last| last == name) => drop(open.pop()),
            Some(_) => return open.split_off(open.len() - 1),
            None if !empty => open.push(name.to_owned()),
            None => {}
        }
    }
    open
}

#[test]
fn whatever_a_log_says_stays_text() {
    const EVIL: &str = "</td></style><script>alert(1)</script><img src=x onerror='a' \" &\u{202e}";
    let mut hostile = line(0, "shop/web deny pod:1 tcp 203.0.113.9 443");
    hostile.namespace = Some(EVIL.to_owned());
    hostile.pod = Some(EVIL.to_owned());
    hostile.rule = EVIL.to_owned();
    hostile.protocol = Some(EVIL.to_owned());
    let mut summary = Summary::default();
    summary.add(&hostile);
    let mut rules = Rules::default();
    let rule = rules
        .logging
        .entry((EVIL.to_owned(), EVIL.to_owned()))
        .or_default();
    rule.source = EVIL.to_owned();
    let page = page::page(&summary, Some(&rules));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    for harm in ["<script", "<img", "onerror='", "\u{202e}", "</td></style"] {
        assert!(!page.contains(harm), "{harm}");
    }
    assert_eq!(unclosed(&page), Vec::<String>::new());
}

#[test]
fn rules_are_never_logged_only_if_they_could_be() {
    let found = rules();
    let never: Vec<&str> = found
        .logging
        .iter()
        .filter(|(_, of_rule)| !of_rule.matched)
        .map(|((_, text), _)| text.as_str())
        .collect();
    // `pod:erp` of `web` was logged; that of `db`, which is another rule, was not.
    let wanted = [
        "deny to 10.0.0.1 log name=b",
        "deny to metadata log name=erp",
    ];
    assert_eq!(never, wanted);
    assert_eq!(
        (found.attachments, found.silent, found.unreadable),
        (2, 1, 0)
    );
}

#[test]
fn a_damaged_record_is_told() {
    let dir = state("allow log");
    fs::write(dir.path().join("attachments/0000000000000000.json"), "{").unwrap();
    let rules = Rules::read(dir.path(), &summary()).unwrap();
    assert_eq!((rules.attachments, rules.unreadable), (2, 1));
    let page = page::page(&summary(), Some(&rules));
    assert!(page.contains("1 record of the state directory can&#39;t be read"));
}

#[test]
fn nothing_to_report_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, write) = (dir.path().join("log"), dir.path().join("out.html"));
    fs::write(&log, "no line\n").unwrap();
    let args = Args {
        files: vec![log.clone()],
        state_dir: None,
        write: write.clone(),
    };
    assert!(matches!(main(&args), Err(Error::Nothing)));
    assert!(!write.exists());
    fs::write(
        &log,
        line(0, "shop/web deny pod:1 tcp 203.0.113.9 443").json(),
    )
    .unwrap();
    main(&args).unwrap();
    let page = fs::read_to_string(&write).unwrap();
    assert!(page.contains("made without --state-dir"));
    let elsewhere = Args {
        write: Path::new("/nonexistent/out.html").to_owned(),
        ..args
    };
    let error = main(&elsewhere).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot write /nonexistent/out.html: "),
        "{error}"
    );
}
