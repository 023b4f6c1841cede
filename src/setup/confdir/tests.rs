use super::*;
use serde_json::json;
use tempfile::TempDir;

const LIST: &str = r#"{"cniVersion":"0.3.1","name":"pods","plugins":[{"type":"bridge"}]}"#;
const SINGLE: &str =
    "{\n  \"cniVersion\": \"0.3.1\", \"name\": \"pods\", \"type\": \"bridge\"\n}\n";

struct Node {
    root: TempDir,
    conf: ConfDir,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| root.path().join(name);
        for name in ["net.d", "bin", "more"] {
            fs::create_dir(dir(name)).unwrap();
        }
        let conf = ConfDir {
            dir: dir("net.d"),
            bin_dirs: vec![dir("bin"), dir("more")],
        };
        let node = Node { root, conf };
        node.plugin("bin/bridge", 0o755);
        node
    }

    fn plugin(&self, path: &str, mode: u32) {
        files::replace(&self.root.path().join(path), b"#!", mode).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.conf.dir.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.conf.dir.join(name)).unwrap()
    }

    /// Every file of the directory, in order.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.conf.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn ensure(&self) -> Ensured {
        self.conf
            .ensure(&entry(), &self.conf.look().unwrap())
            .unwrap()
    }

    /// The name of the file that would be used, and those passed over.
    fn look(&self) -> (Option<String>, Vec<(String, String)>) {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let look = self.conf.look().unwrap();
        (
            look.found.map(|found| name(&found.path)),
            look.skipped
                .into_iter()
                .map(|s| (name(&s.path), s.why))
                .collect(),
        )
    }
}

fn entry() -> PluginEntry {
    PluginEntry::new(&json!({"type": "egressway"})).unwrap()
}

#[test]
fn the_first_usable_file_in_lexical_order() {
    let node = Node::new();
    assert_eq!(node.look(), (None, vec![]));
    assert_eq!(node.ensure(), Ensured::Nothing);
    node.write("README", LIST);
    node.write("00-a.conflist.bak", LIST);
    node.write(".10-hidden.conflist.egressway-new", LIST);
    fs::create_dir(node.conf.dir.join("01-dir.conf")).unwrap();
    node.write("20-b.conflist", LIST);
    assert_eq!(node.look(), (Some("20-b.conflist".into()), vec![]));
    node.write("10-c.json", SINGLE);
    assert_eq!(node.look().0.as_deref(), Some("10-c.json"));
    node.write("100-d.conf", SINGLE);
    assert_eq!(
        node.look().0.as_deref(),
        Some("10-c.json"),
        "`-` sorts before `0`"
    );
}

#[test]
fn bad_files_are_left_untouched_with_a_word() {
    let node = Node::new();
    let bad = [
        ("01-empty.conflist", "", "is empty"),
        ("02-cut.conflist", &LIST[..40], "is not a JSON object"),
        ("03-text.conf", "not json", "is not a JSON object"),
        (
            "04-plugin.conflist",
            r#"{"name":"n","plugins":[{"type":"gone"}]}"#,
            "names the plugin \"gone\"",
        ),
        (
            "05-path.conflist",
            r#"{"name":"n","plugins":[{"type":"../bin/bridge"}]}"#,
            "names the plugin",
        ),
        (
            "06-ours.conflist",
            r#"{"name":"n","plugins":[{"type":"egressway"}]}"#,
            "no other plugin",
        ),
        (
            "07-version.conflist",
            r#"{"name":"n","cniVersion":"9.0.0","plugins":[{"type":"bridge"}]}"#,
            "9.0.0",
        ),
    ];
    for (name, text, _) in bad {
        node.write(name, text);
    }
    fs::write(node.conf.dir.join("08-latin1.conf"), b"{\"name\":\"\xe9\"}").unwrap();
    assert_eq!(node.ensure(), Ensured::Nothing);
    let (found, skipped) = node.look();
    assert_eq!(found, None);
    assert_eq!(skipped.len(), bad.len() + 1);
    for ((name, text, why), (skipped, said)) in bad.iter().zip(&skipped) {
        assert_eq!(name, skipped);
        assert!(said.contains(why), "{name}: {said}");
        assert_eq!(node.read(name), *text);
    }
    node.write("09-good.conflist", LIST);
    assert_eq!(
        node.ensure(),
        Ensured::Put(node.conf.dir.join("09-good.conflist"))
    );
}

#[test]
fn a_plugin_is_a_program_in_any_of_the_directories() {
    let node = Node::new();
    node.write(
        "10-a.conflist",
        r#"{"name":"n","plugins":[{"type":"cilium-cni"}]}"#,
    );
    assert_eq!(node.look().0, None);
    node.plugin("more/cilium-cni", 0o644);
    assert_eq!(node.look().0, None, "it can't be run");
    node.plugin("more/cilium-cni", 0o755);
    assert_eq!(node.look().0.as_deref(), Some("10-a.conflist"));
}

#[test]
fn into_a_list_and_out_again() {
    let node = Node::new();
    node.write("10-a.conflist", LIST);
    let path = node.conf.dir.join("10-a.conflist");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(node.ensure(), Ensured::Put(path.clone()));
    assert_eq!(node.ensure(), Ensured::Already(path.clone()));
    assert!(node.read("10-a.conflist").contains("egressway"));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(node.names(), ["10-a.conflist"]);
    assert_eq!(node.conf.remove(), (vec![path], vec![]));
    assert_eq!(node.read("10-a.conflist"), LIST);
    assert_eq!(node.conf.remove(), (vec![], vec![]));
}

#[test]
fn a_single_plugin_becomes_a_list_and_comes_back() {
    for name in ["10-a.conf", "10-a.json"] {
        let node = Node::new();
        node.write(name, SINGLE);
        let list = node.conf.dir.join("10-a.conflist");
        assert_eq!(node.ensure(), Ensured::Put(list.clone()));
        assert_eq!(node.look().0.as_deref(), Some("10-a.conflist"));
        assert_eq!(node.ensure(), Ensured::Already(list.clone()));
        // The primary starts again and writes its file anew.
        node.write(name, SINGLE);
        assert_eq!(
            node.look().0.as_deref(),
            Some(if name.ends_with('f') {
                name
            } else {
                "10-a.conflist"
            })
        );
        assert!(matches!(
            node.ensure(),
            Ensured::Put(_) | Ensured::Already(_)
        ));
        let _ = fs::remove_file(node.conf.dir.join(name));
        assert_eq!(node.conf.remove(), (vec![list], vec![]));
        assert_eq!(node.names(), [name]);
        assert_eq!(node.read(name), SINGLE);
    }
}

#[test]
fn a_list_that_others_have_changed_stays_a_list() {
    let node = Node::new();
    node.write("10-a.conf", SINGLE);
    node.ensure();
    let changed = node
        .read("10-a.conflist")
        .replace("\"bridge\"", "\"bridge\", \"mtu\": 1400");
    node.write("10-a.conflist", &changed);
    node.conf.remove();
    assert_eq!(node.names(), ["10-a.conflist"]);
    assert!(node.read("10-a.conflist").contains("1400"));
    assert!(!node.read("10-a.conflist").contains("egressway"));
}

#[test]
fn every_list_loses_our_entry() {
    let node = Node::new();
    node.write("20-old.conflist", LIST);
    node.ensure();
    node.write("10-new.conflist", LIST);
    node.ensure();
    node.write("05-bad.conflist", "{");
    node.write(
        "06-ours.conflist",
        r#"{"name":"n","plugins":[{"type":"egressway"}]}"#,
    );
    let (changed, failures) = node.conf.remove();
    assert_eq!(changed.len(), 2);
    assert!(
        failures[0].contains("06-ours.conflist has no other plugin"),
        "{failures:?}"
    );
    for name in ["20-old.conflist", "10-new.conflist"] {
        assert_eq!(node.read(name), LIST);
    }
}

#[test]
fn what_others_call_their_files_does_nothing_to_a_terminal() {
    let skipped = PassedOver {
        path: "/etc/cni/net.d/\u{1b}[2J.conf".into(),
        why: "is empty".to_owned(),
    };
    assert_eq!(
        skipped.to_string(),
        r"/etc/cni/net.d/\u{1b}[2J.conf is left as it is: it is empty"
    );
}
