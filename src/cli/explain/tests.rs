//! What is printed, word for word.

use std::path::Path;

use super::*;
use crate::explain::Unresolved;
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};

const TIME: &str = "2026-05-01T00:00:00Z";

fn subject(tiers: &[(Tier, &str)], audit: bool) -> Subject {
    let tier = |(tier, text): &(Tier, &str)| {
        let source = format!("the {tier} text");
        TierRules::parse(*tier, &source, text, audit).unwrap_or_else(|e| panic!("{e}"))
    };
    let facts = Facts {
        cluster: vec!["10.96.0.0/12".parse().unwrap()],
        dns: vec!["10.96.0.10".parse().unwrap()],
        services: [("shop/db".to_owned(), vec!["10.96.0.20".parse().unwrap()])].into(),
        ..Facts::default()
    };
    let tiers = tiers.iter().map(tier).collect();
    Subject {
        name: "shop/web".to_owned(),
        namespace: Some("shop".to_owned()),
        pod: Some("web".to_owned()),
        attachment: None,
        policy: Effective::new(tiers, DefaultAction::Allow, audit, facts).unwrap(),
        unknown: Unresolved::default(),
        exempt: false,
        egress: Vec::new(),
        addresses: vec!["10.100.0.7".parse().unwrap()],
        local: vec!["192.0.2.1".parse().unwrap()],
        guarded: vec!["203.0.113.10".parse().unwrap()],
        notes: Vec::new(),
    }
}

/// The answer about `destination`, perhaps with ` via ADDRESS` and ` all` behind it.
fn ask(subject: Subject, asked: &str) -> String {
    let mut words = asked.split(' ');
    let destination: Destination = words.next().unwrap().parse().unwrap();
    let (mut via, mut all) = (None, false);
    while let Some(word) = words.next() {
        match word {
            "via" => via = Some(words.next().unwrap().parse().unwrap()),
            _ => all = true,
        }
    }
    let addresses = destination
        .addresses(Path::new("/nowhere"), None, false)
        .unwrap();
    let question = Question {
        traffic: destination.traffic,
        via,
        node: false,
        api_server: false,
        time: TIME.parse().unwrap(),
        all,
    };
    text::render(
        &Explanation::new(subject, &addresses, &question),
        all,
        false,
    )
}

fn ask_pod(rules: &str, asked: &str) -> String {
    ask(subject(&[(Tier::Pod, rules)], false), asked)
}

#[test]
fn an_allow() {
    assert_eq!(
        ask_pod(
            "deny 80/tcp\n\nallow 443/tcp name=web; deny",
            "198.51.100.7:443/tcp"
        ),
        "\
ALLOW  shop/web -> 198.51.100.7:443/tcp
by pod:web, line 3 of the pod text
    allow 443/tcp name=web
source address: the primary CNI's choice

pod (the pod text)
    1  deny 80/tcp             other port
>   3  allow 443/tcp name=web  decides
"
    );
}

#[test]
fn a_logged_deny_behind_a_pass() {
    let tiers = [
        (Tier::ClusterEnforced, "pass 443/tcp to internet\nreject"),
        (Tier::Pod, "deny to 198.51.100.0/24 log"),
    ];
    assert_eq!(
        ask(subject(&tiers, false), "198.51.100.7:443/tcp"),
        "\
DENY  shop/web -> 198.51.100.7:443/tcp
by pod:1, line 1 of the pod text
    deny to 198.51.100.0/24 log
logged as \"egressway pod:1 deny\"

cluster-enforced (the cluster-enforced text)
    1  pass 443/tcp to internet     passes on
pod (the pod text)
>   1  deny to 198.51.100.0/24 log  decides
"
    );
}

#[test]
fn all_rules_also_those_not_reached() {
    assert_eq!(
        ask_pod("reject udp\nallow", "198.51.100.7:53/udp all"),
        "\
REJECT  shop/web -> 198.51.100.7:53/udp
by pod:1, line 1 of the pod text
    reject udp

pod (the pod text)
>   1  reject udp  decides
    2  allow       not reached
  defaultAction: allow  not reached
"
    );
}

#[test]
fn the_default_action() {
    assert_eq!(
        ask_pod("deny 443/tcp to 2001:db8::/32", "198.51.100.7:443/tcp"),
        "\
ALLOW  shop/web -> 198.51.100.7:443/tcp
by default:allow: no rule decides, the policy file's defaultAction does
source address: the primary CNI's choice

pod (the pod text)
    1  deny 443/tcp to 2001:db8::/32  other family
> defaultAction: allow  decides
"
    );
}

#[test]
fn audit() {
    assert_eq!(
        ask(
            subject(&[(Tier::Pod, "reject icmp")], true),
            "198.51.100.7/icmp/8"
        ),
        "\
WOULD-REJECT  shop/web -> 198.51.100.7/icmp/8 (audit mode: the packet is allowed)
by pod:1, line 1 of the pod text
    reject icmp
logged as \"egressway pod:1 would-reject\"
source address: the primary CNI's choice

pod (the pod text, audit)
>   1  reject icmp  decides
"
    );
}

#[test]
fn an_exempt_namespace() {
    let mut exempt = subject(&[], false);
    exempt.exempt = true;
    assert_eq!(
        ask(exempt, "169.254.169.254:80/tcp"),
        "\
ALLOW  shop/web -> 169.254.169.254:80/tcp
by its namespace, which is exempt: no rule applies to it
source address: the primary CNI's choice
"
    );
}

#[test]
fn what_depends_on_the_port_is_told_exactly() {
    assert_eq!(
        ask_pod("allow 443/tcp,8000-8100/tcp\nallow icmp/8\ndeny", "198.51.100.7"),
        "\
DEPENDS  shop/web -> 198.51.100.7: on the protocol or the port
VERDICT   RULE    LOGGED   TRAFFIC
deny      pod:3   no       1-442/tcp, 444-7999/tcp, 8101-65535/tcp, udp, sctp, other icmp, other protocols
allow     pod:1   no       443/tcp, 8000-8100/tcp
allow     pod:2   no       icmp/8
source address: the primary CNI's choice
Ask for one protocol and port, such as 443/tcp, to see the way to its answer.
"
    );
}

#[test]
fn several_rules_of_one_verdict() {
    assert_eq!(
        ask_pod("pass 22/tcp\ndeny tcp", "198.51.100.7/tcp all"),
        "\
DEPENDS  shop/web -> 198.51.100.7/tcp: on the protocol or the port
VERDICT   RULE                          LOGGED   TRAFFIC
deny      pod:2                         no       1-21/tcp, 23-65535/tcp
allow     pod:1 passes, default:allow   no       22/tcp
source address: the primary CNI's choice

pod (the pod text)
    1  pass 22/tcp
    2  deny tcp
  defaultAction: allow
"
    );
    let same = ask_pod("deny 22/tcp\ndeny", "198.51.100.7");
    let first = same.lines().next().unwrap();
    assert_eq!(
        first,
        "DENY  shop/web -> 198.51.100.7: whatever the protocol and port, by several rules"
    );
}

#[test]
fn what_does_not_depend_on_the_port_has_one_answer() {
    assert_eq!(
        ask_pod(
            "deny 443/tcp to 192.0.2.0/24\nallow to 198.51.100.7",
            "198.51.100.7"
        ),
        "\
ALLOW  shop/web -> 198.51.100.7
by pod:2, line 2 of the pod text
    allow to 198.51.100.7
source address: the primary CNI's choice

pod (the pod text)
    1  deny 443/tcp to 192.0.2.0/24  other address
>   2  allow to 198.51.100.7         decides
"
    );
}

#[test]
fn a_service_is_judged_as_asked_and_as_translated() {
    let tiers = [(Tier::Dns, "allow to dns"), (Tier::Pod, "deny")];
    assert_eq!(
        ask(
            subject(&tiers, false),
            "10.100.0.9:5353/udp via 10.96.0.10:53"
        ),
        "\
ALLOW  shop/web -> 10.100.0.9:5353/udp, sent to 10.96.0.10:53
by dns:1, line 1 of the dns text
    allow to dns
source address: the primary CNI's choice

dns (the dns text)
>   1  allow to dns  decides
"
    );
}

#[test]
fn a_service_of_an_attached_pod_is_known() {
    for (via, answer) in [
        ("svc/shop/db:443", "ALLOW"),
        ("10.96.0.20:443", "ALLOW"),
        ("10.96.0.21:443", "DENY"),
        ("svc/kube-system/kube-dns:53", "REJECT"),
    ] {
        let rules = "allow 443/tcp to svc/shop/db\nreject to dns\ndeny";
        let text = ask_pod(rules, &format!("10.100.0.9:8443/tcp via {via}"));
        assert!(text.starts_with(answer), "{text}");
    }
}

#[test]
fn the_egress_ip_holds_outside_the_cluster_and_the_node() {
    let source = |to: &str, egress: &[&str]| {
        let mut subject = subject(&[], false);
        subject.egress = egress.iter().map(|net| net.parse().unwrap()).collect();
        let text = ask(subject, to);
        let line = text.lines().find(|line| line.starts_with("source address"));
        line.unwrap().to_owned()
    };
    let egress = ["203.0.113.20/32"];
    let own = "source address: 203.0.113.20, the egress IP";
    let primary = "source address: the primary CNI's choice";
    for (to, egress, expected) in [
        ("198.51.100.7:1/tcp", &egress[..], own),
        ("192.168.1.1:1/tcp", &egress, own),
        ("10.96.0.1:1/tcp", &egress, primary),
        ("192.0.2.1:1/tcp", &egress, primary),
        ("169.254.169.254:1/tcp", &egress, primary),
        ("[2001:db8::1]:1/tcp", &egress, primary),
        (
            "198.51.100.7:1/tcp",
            &["203.0.113.16/29", "2001:db8::/64"],
            "source address: an egress IP, one of 203.0.113.16/29",
        ),
    ] {
        assert_eq!(source(to, egress), expected, "{to}");
    }
}

#[test]
fn an_egress_ip_of_the_node_answers_ping_only() {
    assert_eq!(
        ask_pod("allow", "203.0.113.10:443/tcp"),
        "\
DENY  shop/web -> 203.0.113.10:443/tcp
by built-in:egress-ip: it is an egress IP of this node, on which only ping is answered

pod (the pod text)
>   1  allow  decides
"
    );
    assert!(ask_pod("allow", "203.0.113.10/icmp/8").starts_with("ALLOW"));
    assert!(ask_pod("deny", "203.0.113.10:443/tcp").contains("\nby pod:1"));
    assert_eq!(
        ask_pod("allow", "203.0.113.10").lines().nth(3),
        Some("allow     pod:1                no       icmp/8")
    );
}

#[test]
fn what_never_leaves_is_said() {
    let last = |to: &str| ask_pod("allow", to).lines().last().unwrap().to_owned();
    assert_eq!(
        last("10.100.0.7:80/tcp"),
        "note: 10.100.0.7 is the pod itself: what it sends there never leaves it"
    );
    assert_eq!(
        last("[2001:db8::1]:80/tcp"),
        "note: the pod has no IPv6 address: it cannot send to 2001:db8::1"
    );
}
