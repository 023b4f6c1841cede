//! Policy that can't be read: the message shows where, and the pod does not start.

use crate::harness::*;
use std::fs;

#[test]
fn policy_files_in_ruins() {
    let node = Node::new(NodeOptions::default());
    let path = node.dir.path().join("policy.yaml");
    undisturbed(&node, || {
        let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
        let good = Policy::default().text();
        let table: Vec<(&str, Option<String>, &str)> = vec![
            ("missing", None, "policy.yaml"),
            ("empty", Some(String::new()), "policy.yaml"),
            ("no YAML", Some("a: [b\n\tc".to_owned()), "policy.yaml"),
            ("not text", Some("\u{0}\u{1}".to_owned()), "policy.yaml"),
            ("a list", Some("- a".to_owned()), "policy.yaml"),
            (
                "another kind",
                Some(good.replace("ClusterEgressPolicy", "NetworkPolicy")),
                "NetworkPolicy",
            ),
            (
                "another version",
                Some(good.replace("v1alpha1", "v9")),
                "v9",
            ),
            (
                "a misspelt key",
                Some(good.replace("defaultAction", "defaultaction")),
                "defaultAction",
            ),
            (
                "a bad default",
                Some(good.replace("\"allow\"", "\"maybe\"")),
                "maybe",
            ),
            (
                "a bad CIDR",
                Some(good.replace("10.244.0.0/16", "10.244.0.0/99")),
                "10.244.0.0/99",
            ),
            (
                "a bad rule",
                Some(
                    Policy::default()
                        .enforced("deny to\n# fine\ndney to any")
                        .text(),
                ),
                "dney",
            ),
        ];
        for (what, text, word) in table {
            match text {
                Some(text) => fs::write(&path, text).expect("write"),
                None => fs::remove_file(&path).expect("remove"),
            }
            let error = pod.ours("ADD").error();
            assert!(
                error.text().contains(word),
                "{what}: {word:?} is not in {error:?}"
            );
            node.assert_nothing_of(&pod.who);
        }
        fs::remove_file(&path).expect("remove");
        fs::create_dir(&path).expect("make a directory");
        let error = pod.ours("ADD").error();
        assert!(error.text().contains("policy.yaml"), "{error:?}");
        // None of this keeps a pod from going.
        pod.delete();
        fs::remove_dir(&path).expect("remove");
        node.set_policy(&Policy::default());
    });
}

#[test]
fn bad_rules_are_shown_with_a_caret() {
    let node = Node::new(NodeOptions::default());
    undisturbed(&node, || {
        let table = [
            ("deny to internet\nallow 443/tpc to any", "443/tpc"),
            ("dney to any", "dney"),
            ("allow 70000/tcp", "70000"),
            ("allow 90-80/tcp", "90-80"),
            ("allow to 10.0.0.0/33", "10.0.0.0/33"),
            ("allow to 10.0.0.9-10.0.0.1", "10.0.0.9-10.0.0.1"),
            ("allow to 10.0.0.1-fd00::1", "10.0.0.1-fd00::1"),
            ("allow 443/tcp any", "any"),
            ("allow to any name=a\ndeny to any name=a", "name=a"),
            ("allow to any priority=70000", "70000"),
            ("allow to any log=fast", "fast"),
            ("allow to any until=tomorrow", "tomorrow"),
            ("deny to api.example.com", "api.example.com"),
            ("allow to \u{1f600}", "\u{1f600}"),
        ];
        for (rules, word) in table {
            let error = node
                .add_pod(PodSpec::new("a", Primary::Bridge).rules(rules))
                .expect_err(rules)
                .error;
            assert_eq!(error.code, 100, "{rules}: {error:?}");
            let text = error.text();
            assert!(
                text.contains("egressway.dev/rules"),
                "{rules}: where does it stand? {text}"
            );
            let lines: Vec<&str> = text.lines().collect();
            let caret = lines
                .iter()
                .position(|line| line.contains('^'))
                .unwrap_or_else(|| panic!("{rules}: no caret in {text}"));
            assert!(
                caret > 0 && lines[caret - 1].contains(word),
                "{rules}: the caret is not below {word}: {text}"
            );
        }
        // As large as an annotation can be.
        let huge = "deny 1-2/tcp to 198.51.100.0/24 # a very long story\n".repeat(4000);
        let result = node.add_pod(PodSpec::new("a", Primary::Bridge).rules(&huge));
        match result {
            Ok(pod) => pod.delete(),
            Err(e) => assert_eq!(e.error.code, 100, "{e:?}"),
        }
        let rubbish = "x".repeat(200_000);
        let error = node
            .add_pod(PodSpec::new("a", Primary::Bridge).rules(&rubbish))
            .expect_err("rubbish")
            .error;
        assert_eq!(error.code, 100);
        assert!(
            error.text().len() < 5000,
            "the kubelet shows this message: {} bytes",
            error.text().len()
        );
    });
}
