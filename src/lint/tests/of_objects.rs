//! Annotations as the API has them, without a file.

use super::super::{Carrier, Context, check_annotations};
use super::POLICY;
use crate::source::PolicyFile;

/// `SOURCE:LINE:COLUMN KIND` of each finding.
fn found(annotations: &[(&str, &str)], carrier: &Carrier<'_>) -> Vec<String> {
    let policy = PolicyFile::parse("policy.yaml", POLICY).expect("is valid");
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    let context = Context::new(Some(policy), Vec::new(), now);
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let annotations = annotations.iter().map(owned).collect();
    let found = check_annotations(&context, &annotations, carrier);
    let short = |finding: &super::Finding| {
        let fault = &finding.fault;
        let (line, column, kind) = (fault.line, fault.column, finding.kind.id);
        format!("{}:{line}:{column} {kind}", fault.source)
    };
    found.iter().map(short).collect()
}

#[test]
fn places_are_those_of_the_value() {
    let rules = ("egressway.dev/rules", "deny to 10.0.0.0/8\n  alow tcp");
    let pod = Carrier::Pod { namespace: None };
    assert_eq!(
        found(&[rules, ("other.dev/rules", "nonsense")], &pod),
        ["egressway.dev/rules:2:3 rule-syntax"]
    );
    assert_eq!(
        found(
            &[
                ("egressway.dev/mode", "audit"),
                ("egressway.dev/rule", "deny")
            ],
            &pod
        ),
        [
            "egressway.dev/mode:1:1 wrong-object",
            "egressway.dev/rule:1:1 unknown-annotation"
        ]
    );
}

#[test]
fn tiers_above_are_known() {
    let in_shop = Carrier::Pod {
        namespace: Some("shop"),
    };
    assert_eq!(
        found(
            &[(
                "egressway.dev/rules",
                "allow 25/tcp to 203.0.113.7\nallow 443/tcp"
            )],
            &in_shop
        ),
        ["egressway.dev/rules:1:1 overridden-rule"]
    );
    let namespace = Carrier::Namespace { name: "new" };
    let own = [
        ("egressway.dev/default-rules", "allow 587/tcp"),
        ("egressway.dev/enforced-rules", "deny 587/tcp"),
        ("egressway.dev/mode", "audti"),
    ];
    assert_eq!(
        found(&own, &namespace),
        [
            "egressway.dev/mode:1:1 annotation-value",
            "egressway.dev/default-rules:1:1 overridden-rule"
        ]
    );
}
