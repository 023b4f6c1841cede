use super::*;

const NETNS: &str = "/var/run/netns/cni-c2fb8e68-3221-5cfc-0c00-fa26ee15f5d5";

fn parse(text: &str) -> Result<PodResult, CniError> {
    let raw: &RawValue = serde_json::from_str(text).unwrap();
    PodResult::parse(raw, "eth0", Path::new(NETNS))
}

fn pod(addresses: &[&str], gateways: &[&str], host_interfaces: &[&str]) -> PodResult {
    let ips = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
    PodResult {
        addresses: ips(addresses),
        gateways: ips(gateways),
        host_interfaces: host_interfaces.iter().map(|s| s.to_string()).collect(),
    }
}

/// One result of each version and of the plugins that stretch them.
#[test]
fn every_versions_shape() {
    let both = pod(
        &["10.244.1.2", "fd00:10:244:1::2"],
        &["10.244.1.1", "fd00:10:244:1::1"],
        &[],
    );
    let table = [
        (
            "containerd 2.3.4, bridge, 1.1.0",
            r#"{"cniVersion":"1.1.0","interfaces":[{"mac":"46:a0:0e:0c:19:c3","name":"cni0"},{"mac":"22:15:73:da:6f:77","name":"vethe6ac0cd6"},{"mac":"da:29:07:c4:52:ca","name":"eth0","sandbox":"/var/run/netns/cni-c2fb8e68-3221-5cfc-0c00-fa26ee15f5d5"}],"ips":[{"address":"10.244.1.2/24","gateway":"10.244.1.1","interface":2},{"address":"fd00:10:244:1::2/64","gateway":"fd00:10:244:1::1","interface":2}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}"#,
            PodResult {
                host_interfaces: vec!["cni0".into(), "vethe6ac0cd6".into()],
                ..both.clone()
            },
        ),
        (
            "containerd 1.6.20, bridge, 1.0.0; the namespace by its other path",
            r#"{"cniVersion":"1.0.0","dns":{},"interfaces":[{"mac":"a6:a8:6f:f6:08:a5","name":"cni0"},{"mac":"7a:a2:7c:f5:d6:e3","name":"vethbb753017"},{"mac":"72:2d:4b:3c:23:e7","name":"eth0","sandbox":"/run/netns/cni-9924"}],"ips":[{"address":"10.244.1.2/24","gateway":"10.244.1.1","interface":2},{"address":"fd00:10:244:1::2/64","gateway":"fd00:10:244:1::1","interface":2}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}"#,
            PodResult {
                host_interfaces: vec!["cni0".into(), "vethbb753017".into()],
                ..both.clone()
            },
        ),
        (
            "0.4.0 and 0.3.1",
            r#"{"cniVersion":"0.3.1","interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/proc/1/ns/net"}],"ips":[{"version":"4","address":"10.244.1.2/24","gateway":"10.244.1.1","interface":1},{"version":"6","address":"fd00:10:244:1::2/64","gateway":"fd00:10:244:1::1","interface":1}],"dns":{}}"#,
            PodResult {
                host_interfaces: vec!["veth1".into()],
                ..both.clone()
            },
        ),
        (
            "0.3.0 as its spec has it, without a version",
            r#"{"ip":[{"version":"4","address":"10.244.1.2/24","gateway":"10.244.1.1"},{"version":"6","address":"fd00:10:244:1::2/64","gateway":"fd00:10:244:1::1"}]}"#,
            both.clone(),
        ),
        (
            "0.1.0 and 0.2.0",
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.244.1.2/24","gateway":"10.244.1.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00:10:244:1::2/64","gateway":"fd00:10:244:1::1"},"dns":{}}"#,
            both.clone(),
        ),
        (
            "0.2.0, one family",
            r#"{"ip4":{"ip":"10.0.0.2/24"},"ip6":null}"#,
            pod(&["10.0.0.2"], &[], &[]),
        ),
        (
            "AWS: a table's number for a MAC, a dummy with a device's number for a sandbox",
            r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eni1a2b3c4d5e6"},{"name":"eth0","mac":"1","sandbox":"/var/run/netns/cni-c2fb8e68-3221-5cfc-0c00-fa26ee15f5d5"},{"name":"dummy1a2b3c4d5e6","mac":"0","sandbox":"0"}],"ips":[{"version":"4","interface":1,"address":"192.168.61.5/32"}],"dns":{}}"#,
            pod(&["192.168.61.5"], &[], &["eni1a2b3c4d5e6"]),
        ),
        (
            "a host's address beside the pod's",
            r#"{"interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":1},{"address":"10.0.0.9/24"}]}"#,
            pod(&["10.0.0.2"], &["10.0.0.1"], &["cni0"]),
        ),
        (
            "only a host's address, and one that points nowhere",
            r#"{"interfaces":[{"name":"cni0"}],"ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","interface":7},{"address":"10.0.0.3/24","interface":-1}]}"#,
            pod(&["10.0.0.2", "10.0.0.3"], &[], &["cni0"]),
        ),
        (
            "an interface of the same name on the host is not the pod's",
            r#"{"interfaces":[{"name":"eth0","sandbox":""},{"name":"net9","sandbox":"/var/run/netns/cni-c2fb8e68-3221-5cfc-0c00-fa26ee15f5d5"}],"ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","interface":1}]}"#,
            pod(&["10.0.0.2"], &[], &["eth0"]),
        ),
        (
            "nulls, repetitions, no prefix length, numbers beyond any type",
            r#"{"interfaces":null,"ips":[{"address":"10.0.0.2","gateway":null,"interface":null,"x":1e999},{"address":"10.0.0.2/8","gateway":""}],"routes":null}"#,
            pod(&["10.0.0.2"], &[], &[]),
        ),
        ("nothing", "{}", PodResult::default()),
    ];
    for (what, text, expected) in table {
        assert_eq!(parse(text), Ok(expected), "{what}");
    }
}

#[test]
fn malformed_fields_are_named() {
    for (text, field) in [
        ("[]", "prevResult"),
        ("\"x\"", "prevResult"),
        (r#"{"ips":{}}"#, "prevResult.ips"),
        (r#"{"ips":[1]}"#, "prevResult.ips"),
        (r#"{"ips":[{}]}"#, "prevResult.ips[0].address"),
        (
            r#"{"ips":[{"address":"10.0.0.1/8"},{"address":"10.0.0.300/8"}]}"#,
            "prevResult.ips[1].address",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.1/33"}]}"#,
            "prevResult.ips[0].address",
        ),
        (r#"{"ips":[{"address":5}]}"#, "prevResult.ips[0].address"),
        (
            r#"{"ips":[{"address":"10.0.0.1/8","gateway":"x"}]}"#,
            "prevResult.ips[0].gateway",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.1/8","interface":"0"}]}"#,
            "prevResult.ips[0].interface",
        ),
        (
            r#"{"interfaces":[{"name":1}]}"#,
            "prevResult.interfaces[0].name",
        ),
        (
            r#"{"interfaces":[{"name":"a","sandbox":7}]}"#,
            "prevResult.interfaces[0].sandbox",
        ),
        (r#"{"interfaces":"cni0"}"#, "prevResult.interfaces"),
        (r#"{"ip4":"10.0.0.1/8"}"#, "prevResult.ip4"),
        (r#"{"ip4":{}}"#, "prevResult.ip4.ip"),
        (r#"{"ip6":{"ip":"::g/64"}}"#, "prevResult.ip6.ip"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code, 7, "{text}");
        assert!(
            error.msg.starts_with(&format!("{field}: ")),
            "{text}: {}",
            error.msg
        );
    }
}
