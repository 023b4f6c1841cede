use super::*;
use crate::attachment::test_support::{record, store};
use crate::store::{RecordNames, attachment_id};
use std::collections::BTreeMap;
use std::path::Path;

const PATTERNS: [&str; 3] = ["api.example.com", "*.example.org", "*.b.example.net"];

fn document(patterns: &[&str]) -> NameGroup {
    let tokens = BTreeMap::from([("90s".to_owned(), "00".repeat(16))]);
    NameGroup {
        patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        tokens: BTreeMap::from([("4".to_owned(), tokens)]),
    }
}

fn write(state: &Path, patterns: &[&str]) -> GroupName {
    let name = GroupName::of(patterns.iter().copied());
    let state = StateDir::new(state);
    state
        .write_name_group(&name, &document(patterns))
        .expect("writable");
    name
}

fn attach(state: &Path, pod: &str, (index, address): (u32, &str), names: Option<RecordNames>) {
    let mut record = record(pod, index, &[address], "");
    record.set_names(names.as_ref());
    store(state, &record);
}

fn of(groups: &[&GroupName]) -> Option<RecordNames> {
    Some(RecordNames {
        groups: groups.iter().map(|name| (*name).clone()).collect(),
        only_allowed: false,
    })
}

#[test]
fn patterns_mean_what_rules_say() {
    let patterns = Patterns::new(PATTERNS);
    for name in [
        "api.example.com",
        "a.example.org",
        "b.a.example.org",
        "x.b.example.net",
    ] {
        assert!(patterns.mean(name), "{name}");
    }
    for name in [
        "",
        "com",
        "example.com",
        "xapi.example.com",
        "api.example.com.x",
        "a.api.example.com",
        "example.org",
        "xexample.org",
        "a.xexample.org",
        "b.example.net",
        "xb.example.net",
        "x\\046example.org",
        // What looks like two labels is one.
        "x\\046b.example.net",
        "api\\046example.com",
    ] {
        assert!(!patterns.mean(name), "{name}");
    }
    assert!(!Patterns::default().mean("a.example"));
}

#[test]
fn groups_and_pods_are_known_as_soon_as_they_are_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wanted = WantedNames::new(StateDir::new(dir.path()));
    assert_eq!(wanted.refresh(), News::default());
    let api = write(dir.path(), &["api.example.com"]);
    let news = wanted.refresh();
    assert!(news.changed && news.anew == [api.clone()]);
    // Faster than the file system's clock ticks.
    for number in 0..50 {
        let (pod, address) = (format!("web-{number}"), format!("10.0.0.{number}"));
        attach(dir.path(), &pod, (number, &address), of(&[&api]));
        assert!(wanted.refresh().changed);
        let asker = wanted
            .asker(address.parse().expect("an address"))
            .expect("a pod")
            .clone();
        assert_eq!(&*asker.title, format!("shop/{pod}"));
        assert_eq!(wanted.meant(&asker, "api.example.com").count(), 1);
        assert_eq!(wanted.meant(&asker, "b.example.org").count(), 0);
    }
    // Other rules, and another group.
    let both = write(dir.path(), &["api.example.com", "*.example.org"]);
    attach(dir.path(), "web-1", (1, "10.0.0.1"), of(&[&api, &both]));
    assert_eq!(wanted.refresh().anew, std::slice::from_ref(&both));
    let asker = wanted.asker([10, 0, 0, 1].into()).expect("a pod").clone();
    assert_eq!(wanted.meant(&asker, "api.example.com").count(), 2);
    assert_eq!(wanted.meant(&asker, "b.example.org").count(), 1);
    // A group is made anew: its sets are new, too.
    write(dir.path(), &["api.example.com"]);
    assert_eq!(wanted.refresh().anew, std::slice::from_ref(&api));
    StateDir::new(dir.path())
        .remove_name_group(&api)
        .expect("removable");
    assert_eq!(wanted.refresh().anew, [api]);
    assert_eq!(wanted.meant(&asker, "api.example.com").count(), 1);
    assert_eq!(wanted.groups().count(), 1);
}

#[test]
fn an_address_is_its_last_owners() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateDir::new(dir.path());
    let mut wanted = WantedNames::new(state.clone());
    let api = write(dir.path(), &["api.example.com"]);
    attach(dir.path(), "new", (8, "10.0.0.2"), of(&[&api]));
    attach(dir.path(), "old", (7, "10.0.0.2"), of(&[]));
    attach(dir.path(), "none", (9, "10.0.0.3"), None);
    wanted.refresh();
    let title = |wanted: &WantedNames| {
        wanted
            .asker([10, 0, 0, 2].into())
            .map(|asker| asker.title.to_string())
    };
    assert_eq!(title(&wanted).as_deref(), Some("shop/new"));
    assert_eq!(
        wanted.asker([10, 0, 0, 3].into()),
        None,
        "its rules have no names"
    );
    let link_local: IpAddr = "fe80::1".parse().expect("an address");
    assert!(wanted.asker(link_local).is_some());
    state
        .remove_attachment(&attachment_id("net", "new", "eth0"))
        .expect("removable");
    assert!(wanted.refresh().changed);
    assert_eq!(title(&wanted).as_deref(), Some("shop/old"));
    state
        .remove_attachment(&attachment_id("net", "old", "eth0"))
        .expect("removable");
    wanted.refresh();
    assert_eq!(title(&wanted), None);
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wanted = WantedNames::new(StateDir::new(dir.path()));
    let api = write(dir.path(), &["api.example.com"]);
    attach(dir.path(), "web", (7, "10.0.0.2"), of(&[&api]));
    let damaged = dir.path().join("attachments/0000000000000000.json");
    std::fs::write(damaged, "{").expect("writable");
    std::fs::write(dir.path().join("names/0000000000000000.json"), "{}").expect("writable");
    std::fs::write(dir.path().join("names/x.json"), "{}").expect("writable");
    wanted.refresh();
    assert!(wanted.asker([10, 0, 0, 2].into()).is_some());
    assert_eq!(wanted.groups().count(), 1);
}

#[test]
fn nothing_is_read_again_without_a_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wanted = WantedNames::new(StateDir::new(dir.path()));
    let api = write(dir.path(), &["api.example.com"]);
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let names = fs::File::open(dir.path().join("names")).expect("a directory");
    names.set_modified(hour_ago).expect("writable");
    assert_eq!(wanted.refresh().anew, [api]);
    let other = write(dir.path(), &["other.example.com"]);
    names.set_modified(hour_ago).expect("writable");
    assert_eq!(wanted.refresh(), News::default());
    names.set_modified(hour_ago + TICK).expect("writable");
    assert_eq!(wanted.refresh().anew, [other], "and only that");
}
