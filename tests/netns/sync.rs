//! `egressway sync` and `gc`: what others broke is mended, what is nobody's goes, the rest stays.

mod owners;

use crate::harness::egress::{EGRESS, has_egress_addresses, shop_node, uplink};
use crate::harness::node::{FAR, METADATA, ip};
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// What a subcommand printed as JSON, and whether it ended with 0.
fn tidy(node: &Node, words: &str) -> (Vec<Value>, bool) {
    let output = node.tool(&format!("{words} -o json"));
    let text = output.stdout_text();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{words}: {e}: {text}{}", output.stderr));
    let changes = report["changes"].as_array().expect("changes").clone();
    (changes, output.code == Some(0))
}

/// `sync`, which reads the node's own policy file: what it did, and whether all is well now.
pub fn sync(node: &Node) -> (Vec<Value>, bool) {
    let policy = node.dir.path().join("policy.yaml");
    tidy(node, &format!("sync --policy-file {}", policy.display()))
}

pub fn all_are(changes: &[Value], did: &str) -> bool {
    !changes.is_empty() && changes.iter().all(|change| change["did"] == did)
}

/// The name of the first object that begins so, as "family kind name".
fn object(node: &Node, beginning: &str) -> String {
    let objects = node.objects();
    let found = objects.iter().find(|o| o.starts_with(beginning));
    let found = found.unwrap_or_else(|| panic!("no {beginning}*\n{}", node.describe()));
    found.split(' ').next_back().expect("a name").to_owned()
}

fn record(pod: &Pod<'_>) -> PathBuf {
    let file = format!("attachments/{}.json", pod.id());
    pod.node.state_dir().join(file)
}

/// The pod's network namespace goes, and no DEL comes. Waits until the veth has gone, too.
fn vanish(pod: Pod<'_>) {
    let (node, veth) = (pod.node, pod.veth.clone());
    drop(pod);
    let started = Instant::now();
    while node.netns.try_exec(&format!("ip link show {veth}")).code == Some(0) {
        assert!(started.elapsed() < exec::seconds(10), "{veth} stays");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Each of these opens a door, or shuts one: CHECK sees it, `sync --dry-run` says it and leaves it,
/// `sync` mends it, and finds nothing a second time.
#[test]
fn what_others_break_is_mended() {
    let node = shop_node();
    let policy = Policy::default()
        .namespace("shop", "egress-ip", "172.30.0.50, fd30::50")
        .enforced("deny to metadata");
    node.set_policy(&policy);
    let a = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let b = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 81/tcp"));
    let servers = node.serve_ext(&[80, 81]);
    let (id, policy_chain) = (a.id(), object(&node, "inet chain pol-"));
    let policy_set = object(&node, "inet set pol-");
    let inside = object(&node, "inet set inside4-");
    let bridge = object(&node, "netdev chain bridge-");
    let objects = node.objects();
    let breaks = [
        "flush ruleset".to_owned(),
        "delete table inet egressway".to_owned(),
        "delete table netdev egressway".to_owned(),
        "flush table inet egressway".to_owned(),
        format!("delete element inet egressway pod4 {{ {} }}", a.v4),
        format!("delete element inet egressway snat6 {{ {} }}", b.v6),
        format!("delete element inet egressway snatted4 {{ {} }}", b.v4),
        "delete element inet egressway eip4 { 172.30.0.50 }".to_owned(),
        format!("delete element netdev egressway bridged4 {{ {} }}", a.v4),
        format!("insert rule inet egressway pod-{id} accept"),
        format!("insert rule inet egressway {policy_chain} tcp dport 81 accept"),
        format!("delete element inet egressway {policy_set} {{ 169.254.169.254 }}"),
        format!("add element inet egressway {inside} {{ 198.51.100.0/24 }}"),
        format!("insert rule netdev egressway if-{id} accept"),
        format!("delete chain netdev egressway if-{id}"),
        format!("flush chain netdev egressway {bridge}"),
        "insert rule inet egressway enforce accept".to_owned(),
        "chain inet egressway enforce { policy drop; }".to_owned(),
        "add table inet egressway { flags dormant; }".to_owned(),
        "add table netdev egressway { flags dormant; }".to_owned(),
    ];
    assert_eq!(sync(&node), (vec![], true), "{}", node.describe());
    for damage in breaks {
        node.netns.nft(&damage);
        let said = tidy(&node, "sync --dry-run");
        assert!(all_are(&said.0, "would-repair"), "{damage}: {said:?}");
        assert!(
            !said.1,
            "{damage}: a dry run that found something ended with 0"
        );
        let checks = [&a, &b].map(|pod| pod.ours("CHECK").succeeded());
        assert_ne!(checks, [true, true], "CHECK did not see: {damage}");
        let (changes, good) = sync(&node);
        assert!(
            good && all_are(&changes, "repaired"),
            "{damage}: {changes:?}"
        );
        for pod in [&a, &b] {
            let check = pod.ours("CHECK");
            assert!(
                check.succeeded(),
                "{damage}: {:?}\n{}",
                check.output,
                node.describe()
            );
        }
        assert_eq!(node.objects(), objects, "{damage}");
        assert_eq!(sync(&node), (vec![], true), "a second time after: {damage}");
    }
    let mut probes = Vec::new();
    for pod in [&a, &b] {
        for family in 0..2 {
            let egress = Want::From(ip(EGRESS[family]));
            probes.push(Probe::tcp(&pod.netns, ip(FAR[family]), 80, egress));
            probes.push(Probe::tcp(&pod.netns, ip(FAR[family]), 81, Want::Silence));
            probes.push(Probe::tcp(
                &pod.netns,
                ip(METADATA[family]),
                80,
                Want::Silence,
            ));
        }
    }
    check(&node, &probes);
    drop(servers);
    a.delete();
    b.delete();
    assert_eq!(sync(&node), (vec![], true));
    node.assert_nothing_left();
}

/// The node's own part: addresses on the uplink, and the state directory's notes.
#[test]
fn addresses_and_notes_are_put_back() {
    let node = shop_node();
    let a = node.pod(PodSpec::new("a", Primary::Bridge));
    let b = node.pod(PodSpec::new("b", Primary::Bridge));
    let state = node.state_dir();
    let expect_mended = |what: &str| {
        let (changes, good) = sync(&node);
        assert!(
            good && all_are(&changes, "repaired"),
            "{what}: {changes:?}\n{}",
            node.describe()
        );
        assert_eq!(sync(&node), (vec![], true), "a second time after: {what}");
        assert_eq!(has_egress_addresses(&node), [true, true], "{what}");
    };
    node.netns
        .ip("addr del 172.30.0.50/32 dev eth0\naddr del fd30::50/128 dev eth0");
    expect_mended("addresses taken from the uplink");
    fs::remove_file(state.join("egress/172.30.0.50.json")).expect("remove");
    expect_mended("a file that is gone");
    fs::write(state.join("egress/fd30::50.json"), "{").expect("write");
    expect_mended("a damaged file");
    node.netns.ip("addr del 172.30.0.50/32 dev eth0");
    fs::remove_dir_all(state.join("egress")).expect("remove");
    expect_mended("files and address");
    fs::remove_dir_all(state.join("links")).expect("remove");
    expect_mended("notes of links");

    // Somebody else on the LAN has taken the address meanwhile: it is not taken back.
    node.netns.ip("addr del 172.30.0.50/32 dev eth0");
    node.ext.ip("addr add 172.30.0.50/24 dev eth0");
    let (changes, good) = sync(&node);
    assert!(!good && all_are(&changes, "failed"), "{changes:?}");
    let why = changes[0]["why"].as_str().expect("why");
    assert!(why.contains("answers for it"), "{why}");
    assert_eq!(has_egress_addresses(&node), [false, true]);
    node.ext.ip("addr del 172.30.0.50/24 dev eth0");
    expect_mended("free again");
    a.delete();
    assert_eq!(has_egress_addresses(&node), [true, true]);
    b.delete();
    assert_eq!(has_egress_addresses(&node), [false, false]);
    node.assert_nothing_left();
}

/// Pods that went without a DEL, and all that a killed call may leave.
#[test]
fn what_is_nobodys_goes() {
    for command in ["sync", "gc"] {
        let node = shop_node();
        let before = uplink(&node);
        let kept = node.pod(PodSpec::new("kept", Primary::Bridge).namespace("other"));
        let kept_alone = (node.objects(), node.elements("pod4"));
        for (n, primary) in [Primary::Bridge, Primary::Ptp, Primary::Calico]
            .into_iter()
            .enumerate()
        {
            vanish(
                node.pod(
                    PodSpec::new("gone", primary)
                        .rules(&format!("deny 8{n}/tcp to any except 192.0.2.1, 192.0.2.3")),
                ),
            );
        }
        // Its record has gone as well.
        let lost = node.pod(PodSpec::new("lost", Primary::Ptp).rules("deny 7/tcp"));
        fs::remove_file(record(&lost)).expect("remove");
        vanish(lost);
        let state = node.state_dir();
        for file in [
            "attachments/.new-0123456789abcdef.json",
            "attachments/0123456789abcdef.0123456789abcdef0123456789abcdef",
            "policies/0123456789abcdef0123456789abcdef",
            "policies/.new-fedcba9876543210fedcba9876543210",
            "links/.new-veth7.json",
            "egress/.new-172.30.0.50.json",
        ] {
            fs::write(state.join(file), "{").expect("write");
        }
        let link = |ids: &[&str]| json!({"version": 1, "attachments": ids}).to_string();
        fs::write(state.join("links/veth9.json"), link(&["0123456789abcdef"])).expect("write");
        // An ADD that was killed before it wrote its record, and a DEL that failed.
        let other_rules = format!("{}.0123456789abcdef0123456789abcdef", kept.id());
        let other_rules = state.join("attachments").join(other_rules);
        fs::write(&other_rules, "{").expect("write");
        let note = state.join(format!("links/{}.json", kept.veth));
        fs::write(&note, link(&["0123456789abcdef", &kept.id()])).expect("write");
        let egress = json!({"version": 1, "namespace": "shop", "uplink": "eth0", "uplinkIndex": 4711, "users": ["0123456789abcdef"]});
        fs::write(state.join("egress/172.30.0.51.json"), egress.to_string()).expect("write");
        node.netns.nft(
            "add chain inet egressway pol-0123456789abcdef
             add set inet egressway pol-0123456789abcdef-s1 { type ipv4_addr; }
             add rule inet egressway pol-0123456789abcdef ip daddr @pol-0123456789abcdef-s1 accept
             add chain inet egressway pod-0123456789abcdef
             add rule inet egressway pod-0123456789abcdef goto pol-0123456789abcdef
             add chain netdev egressway if-0123456789abcdef { type filter hook ingress device veth77 priority -500; policy drop; }
             add element inet egressway pod4 { 10.244.9.9 : goto pod-0123456789abcdef }
             add element inet egressway denied4 { 10.244.9.10 }
             add element inet egressway snat4 { 10.244.9.11 : 172.30.0.52 }
             add element inet egressway snatted6 { fd44:9::9 }
             add element inet egressway eip4 { 172.30.0.52 }
             add chain netdev egressway bridge-01234567
             add element netdev egressway bridged4 { 10.244.9.9 }",
        );

        let said = tidy(&node, &format!("{command} --dry-run"));
        assert!(all_are(&said.0, "would-remove"), "{command}: {:#?}", said.0);
        let (changes, good) = tidy(&node, command);
        assert!(
            good && all_are(&changes, "removed"),
            "{command}: {changes:#?}\n{}",
            node.describe()
        );
        assert_eq!(
            tidy(&node, command),
            (vec![], true),
            "{command}, a second time"
        );
        assert_eq!(
            (node.objects(), node.elements("pod4")),
            kept_alone,
            "{command}"
        );
        assert_eq!(uplink(&node), before, "{command}");
        assert_eq!(node.records(), [format!("{}.json", kept.id())]);
        assert!(!other_rules.exists(), "{command}");
        let noted = fs::read(&note).expect("an entry");
        let noted: Value = serde_json::from_slice(&noted).expect("JSON");
        assert_eq!(noted["attachments"], json!([kept.id()]), "{command}");
        assert_eq!(kept.ours("CHECK").ok(), "");
        fs::write(&other_rules, "{").expect("write");
        kept.delete();
        node.assert_nothing_left();
    }
}

/// CNI's GC, too, leaves nothing in the kernel that has no record.
#[test]
fn gc_of_the_runtime_removes_what_has_no_record() {
    let node = shop_node();
    let lost = node.pod(PodSpec::new("lost", Primary::Bridge).rules("deny 7/tcp"));
    fs::remove_file(record(&lost)).expect("remove");
    vanish(lost);
    let call = node.call("GC", "1.1.0", &[("cni.dev/valid-attachments", json!([]))]);
    assert_eq!(node.run(&call).ok(), "");
    node.assert_nothing_left();
    assert_eq!(has_egress_addresses(&node), [false, false]);
}

/// Where it can't be told what is right, the rules stay, and somebody is told.
#[test]
fn what_cannot_be_decided_stays() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let deny = |pod: &Pod<'_>, what: &str| {
        println!("{what}");
        let probes = [80, 81].map(|port| {
            let want = if port == 80 {
                Want::Reached
            } else {
                Want::Silence
            };
            Probe::tcp(&pod.netns, ip(FAR[0]), port, want)
        });
        check(&node, &probes);
    };
    let left = |changes: &[Value], word: &str| {
        assert!(all_are(changes, "left"), "{changes:#?}");
        let text = json!(changes).to_string();
        assert!(text.contains(word), "{word} in {text}");
    };
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let file = record(&pod);
    let whole = fs::read(&file).expect("a record");
    let with = |key: &str, value: Value| {
        let mut record: Value = serde_json::from_slice(&whole).expect("JSON");
        match value {
            Value::Null => drop(record.as_object_mut().expect("an object").remove(key)),
            value => record[key] = value,
        }
        fs::write(&file, record.to_string()).expect("write");
    };

    fs::remove_file(&file).expect("remove");
    for command in ["sync", "gc"] {
        let (changes, good) = tidy(&node, command);
        left(&changes, "recreate");
        assert!(!good);
        deny(&pod, "the record is gone, the pod is not");
    }
    fs::write(&file, &whole[..whole.len() / 2]).expect("write");
    left(&sync(&node).0, "damaged");
    deny(&pod, "half a record");
    for (key, value, word) in [
        ("version", json!(4711), "newer version"),
        ("version", json!(0), "older version"),
        ("version", Value::Null, "no version"),
        ("layout", json!(4711), "another version"),
        ("layout", json!(0), "another version"),
    ] {
        with(key, value);
        left(&sync(&node).0, word);
        deny(&pod, &format!("a record of {word}"));
    }
    fs::write(&file, &whole).expect("write");

    node.netns
        .nft("add chain inet egressway theirs { type filter hook forward priority 7; }");
    left(&sync(&node).0, "theirs");
    node.netns.nft("delete chain inet egressway theirs");

    // Rules and the note of the link are gone: as it is between a DEL's transaction and its end.
    node.netns.nft("flush ruleset");
    fs::remove_file(node.state_dir().join(format!("links/{}.json", pod.veth))).expect("remove");
    left(&sync(&node).0, "cut short");
    pod.ours("ADD").ok();
    deny(&pod, "added again");
    pod.delete();
    node.assert_nothing_left();
}

/// Beside ADDs and DELs of a busy node nothing is undone, and nothing is taken for garbage.
#[test]
fn beside_adds_and_dels() {
    let node = shop_node();
    let first = node.pod(PodSpec::new("first", Primary::Bridge));
    thread::scope(|scope| {
        let pods = scope.spawn(|| {
            thread::scope(|scope| {
                for n in 0..4 {
                    let node = &node;
                    scope.spawn(move || {
                        for round in 0..4 {
                            let spec = PodSpec::new(&format!("p{n}"), Primary::Bridge)
                                .rules(&format!("deny 1{round}{n}/tcp\nallow"));
                            let pod = node.pod(spec);
                            let check = pod.ours("CHECK");
                            assert!(check.succeeded(), "{:?}\n{}", check.output, node.describe());
                            pod.delete();
                        }
                    });
                }
            });
        });
        let mut rounds = 0;
        while !pods.is_finished() || rounds < 3 {
            let (changes, good) = sync(&node);
            assert_eq!((changes, good), (vec![], true), "{}", node.describe());
            rounds += 1;
        }
        pods.join().expect("the pods");
    });
    assert_eq!(first.ours("CHECK").ok(), "");
    first.delete();
    node.assert_nothing_left();
    assert_eq!(has_egress_addresses(&node), [false, false]);
}
