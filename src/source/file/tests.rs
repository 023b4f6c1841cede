use std::path::PathBuf;

use super::*;

const HEAD: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

/// What stands in the contract.
const WHOLE: &str = r#"
apiVersion: egressway.dev/v1alpha1
kind: ClusterEgressPolicy
enforced: |            # nobody can override these
  deny to metadata log name=no-metadata
defaults: |            # for what no other rule decided
  deny to internet log name=no-internet
defaultAction: deny
mode: audit
clusterCIDRs: [10.244.0.0/16, 10.96.0.0/12, "fd44::/48"]
clusterDNS: [10.96.0.10, 169.254.20.10]
nodeCIDRs: [172.30.0.0/24]
nat64Prefixes: ["64:ff9b::/96", "2001:db8:64::/48"]
exemptNamespaces: [kube-system]
egressIPs: [203.0.113.0/24, "2001:db8::/64"]
namespaces:
  payments:
    annotations:
      egressway.dev/egress-ip: 203.0.113.10, 2001:db8::10
      egressway.dev/default-rules: allow 443/tcp to internet
      example.com/egressway: ignored
"#;

#[test]
fn a_file_with_every_key() {
    let file = PolicyFile::parse("f.yaml", WHOLE).unwrap_or_else(|error| panic!("{error}"));
    let text = |values: &[IpNet]| values.iter().map(ToString::to_string).collect::<Vec<_>>();

    assert_eq!(file.enforced.source, "f.yaml: enforced");
    assert_eq!(file.enforced.rules[0].label(), "no-metadata");
    assert_eq!(file.defaults.source, "f.yaml: defaults");
    assert_eq!(file.defaults.rules[0].label(), "no-internet");
    assert_eq!(file.default_action, DefaultAction::Deny);
    assert_eq!(file.mode, Mode::Audit);
    assert_eq!(
        text(&file.facts.cluster),
        ["10.244.0.0/16", "10.96.0.0/12", "fd44::/48"]
    );
    assert_eq!(file.facts.dns.len(), 2);
    assert_eq!(text(&file.facts.nodes), ["172.30.0.0/24"]);
    let prefixes: Vec<String> = file.facts.nat64.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["64:ff9b::/96", "2001:db8:64::/48"]);
    assert!(file.exempt_namespaces.contains("kube-system"));
    assert_eq!(text(&file.egress_ips), ["203.0.113.0/24", "2001:db8::/64"]);

    let payments = file.namespace("payments");
    let rules = payments.default_rules.expect("has default rules");
    let rules = rules.expect("valid");
    assert_eq!(rules.text, "allow 443/tcp to internet");
    assert_eq!(
        rules.source,
        "f.yaml: namespaces.payments.annotations[egressway.dev/default-rules]"
    );
    assert_eq!(payments.enforced_rules, None);
    assert_eq!(file.namespace("other"), NamespaceAnnotations::default());
}

#[test]
fn nat64_has_its_well_known_prefix_unless_another_is_given() {
    let prefixes = |keys: &str| {
        let file = PolicyFile::parse("f.yaml", &format!("{HEAD}{keys}"));
        file.unwrap_or_else(|error| panic!("{error}")).facts.nat64
    };
    assert_eq!(prefixes(""), [nat64::WELL_KNOWN]);
    assert_eq!(prefixes("nat64Prefixes: []"), []);
}

/// As kubectl reads it.
#[test]
fn comments_may_be_of_any_length() {
    for lines in [33, 97, 5000] {
        let comment = "# why\n".repeat(lines);
        let text = format!(
            "{HEAD}enforced:\n{comment}  deny to 192.0.2.1\nclusterCIDRs:\n{comment}- 10.0.0.0/8\n{comment}"
        );
        let file = PolicyFile::parse("f.yaml", &text);
        let file = file.unwrap_or_else(|error| panic!("{lines}: {error}"));
        assert_eq!(
            (file.enforced.rules.len(), file.facts.cluster.len()),
            (1, 1)
        );
    }
}

#[test]
fn limits_and_tunnel_ports() {
    let file = |keys: &str| PolicyFile::parse("f.yaml", &format!("{HEAD}{keys}"));
    let usual = file("").expect("is valid");
    let all = |file: &PolicyFile| {
        (
            file.limits.rules,
            file.limits.plain_rules,
            file.limits.pairs,
            file.log_per_second,
        )
    };
    assert_eq!(all(&usual), (10_000, 256, 12_000, 50));
    let given = file("limits: {plainRules: 7, pairs: 8}\ntunnelPorts: [51820]").expect("is valid");
    assert_eq!(all(&given), (10_000, 7, 8, 50));
    assert_eq!(given.facts.tunnel_ports, [51820]);
    let wrong = file("limits: {rules: 0}\ntunnelPorts: [0, 65536, 1]").expect_err("is wrong");
    let wrong = wrong.to_string();
    for part in [
        "f.yaml:3:17: expected a number of rules from 1 on, found 0",
        "expected a UDP port from 1 to 65535, found 0",
        "expected a UDP port from 1 to 65535, found 65536",
    ] {
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[test]
fn the_smallest_file_is_the_one_in_the_message() {
    let message = SourceError::FileMissing {
        path: PathBuf::from("/x"),
    }
    .to_string();
    let (_, example) = message.split_once('\n').expect("has an example");
    let file = PolicyFile::parse("f.yaml", example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.default_action, DefaultAction::Allow);
    assert_eq!(file.mode, Mode::Enforce);
}

#[test]
fn empty_rules_are_no_rules() {
    let text = format!("{HEAD}enforced:\ndefaults: |\n  # none\n");
    let file = PolicyFile::parse("f.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.enforced.rules, []);
    assert_eq!(file.defaults.rules, []);
}

/// `faults.txt` has files, with `HEAD` for the two lines that each begins with, between `>>>` and `---`, and then the
/// whole answer.
#[test]
fn each_fault_is_shown_as_written_down() {
    let mut seen = 0;
    for block in include_str!("faults.txt").split(">>>\n").skip(1) {
        let (text, expected) = block.split_once("===\n").expect("a file and its answer");
        let text = text.replace("HEAD\n", HEAD).replace("\\t", "\t");
        let error = PolicyFile::parse("f.yaml", &text)
            .and_then(|file| file.check_names())
            .expect_err(&text);
        assert_eq!(error.to_string(), expected.trim_end(), "for\n{text}");
        assert_eq!(error.code(), 100);
        seen += 1;
    }
    assert!(seen > 25, "only {seen} files");
}

#[test]
fn loads_from_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("policy.yaml");
    fs::write(&path, WHOLE).expect("written");
    let file = PolicyFile::load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        file.enforced.source,
        format!("{}: enforced", path.display())
    );
}

#[test]
fn what_is_no_policy_file_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("policy.yaml");
    let shown = |path: &Path| {
        let error = PolicyFile::load(path).expect_err("is no policy file");
        assert_eq!(error.code(), 100);
        error.to_string()
    };
    assert!(shown(&path).starts_with(&format!("there is no policy file {}", path.display())));
    assert!(shown(dir.path()).ends_with(" is a directory"));

    let below = path.join("x");
    for (bytes, reason) in [
        (
            &b""[..],
            " is empty; it starts with `apiVersion: egressway.dev/v1alpha1` and `kind: ClusterEgressPolicy`",
        ),
        (
            b" \n\n",
            " is empty; it starts with `apiVersion: egressway.dev/v1alpha1` and `kind: ClusterEgressPolicy`",
        ),
        (b"a: b\nc: \xff\n", " is not UTF-8, first in line 2"),
        (&vec![b'#'; (4 << 20) + 1], " has more than 4 MiB"),
    ] {
        fs::write(&path, bytes).expect("written");
        assert_eq!(
            shown(&path),
            format!("the policy file {}{reason}", path.display())
        );
    }
    assert!(shown(&below).starts_with(&format!(
        "cannot read the policy file {}: ",
        below.display()
    )));

    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    assert!(shown(&fifo).ends_with(" is not a regular file"));
}

#[test]
fn a_large_file_is_read_in_time() {
    let mut text = format!("{HEAD}enforced: |\n");
    for n in 0..20_000 {
        text.push_str(&format!(
            "  deny 443/tcp to 10.{}.{}.0/24 name=r-{n}\n",
            n / 256,
            n % 256
        ));
    }
    let start = std::time::Instant::now();
    let file = PolicyFile::parse("f.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.enforced.rules.len(), 20_000);
    assert!(
        start.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}
