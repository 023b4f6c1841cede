//! The addresses that a namespace asks for.

use super::*;

#[test]
fn egress_addresses_in_the_order_of_the_list() {
    for (text, list) in [
        ("203.0.113.10", &["203.0.113.10/32"][..]),
        (
            "2001:db8::11 ,\t203.0.113.11",
            &["2001:db8::11/128", "203.0.113.11/32"],
        ),
        (
            "203.0.113.8/29\n203.0.113.1 # spare",
            &["203.0.113.8/29", "203.0.113.1/32"],
        ),
    ] {
        let file = PolicyFile::parse("f.yaml", FILE.split("namespaces:\n").next().unwrap_or(""));
        let file = file.unwrap_or_else(|error| panic!("{error}"));
        let policy = resolve(&file, "x", &namespace(&[("egress-ip", text)]), None);
        let policy = policy.unwrap_or_else(|error| panic!("{error}"));
        let egress: Vec<String> = policy.egress.iter().map(ToString::to_string).collect();
        assert_eq!(egress, list, "{text:?}");
    }
}

#[test]
fn a_namespace_keeps_its_own_egress_address() {
    let file = file_with("");
    for name in ["payments", "shop"] {
        assert!(resolve(&file, name, &file.namespace(name), None).is_ok());
    }
}

#[test]
fn egress_addresses_that_are_refused() {
    for (text, expected) in [
        (
            "198.51.100.1",
            "namespace x[egressway.dev/egress-ip]: 198.51.100.1/32 is not inside `egressIPs` of the policy file \
             (203.0.113.0/24, 2001:db8::/64): ask the cluster's operators for an address, or take one of those",
        ),
        (
            "203.0.112.0/23",
            "namespace x[egressway.dev/egress-ip]: 203.0.112.0/23 is not inside `egressIPs` of the policy file \
             (203.0.113.0/24, 2001:db8::/64): ask the cluster's operators for an address, or take one of those",
        ),
        (
            "203.0.113.1, 2001:db8::10",
            "namespace x[egressway.dev/egress-ip]: 2001:db8::10/128 belongs to the namespace payments, \
             which lists 2001:db8::10/128: take another address",
        ),
        (
            "203.0.113.40",
            "namespace x[egressway.dev/egress-ip]: 203.0.113.40/32 belongs to the namespace shop, \
             which lists 203.0.113.32/28: take another address",
        ),
        (
            "203.0.113.8/29",
            "namespace x[egressway.dev/egress-ip]: 203.0.113.8/29 belongs to the namespace payments, \
             which lists 203.0.113.10/32: take another address",
        ),
    ] {
        let error = resolved("", &[("egress-ip", text)], &[]).expect_err(text);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.code(), 102);
    }
}

/// Whatever `egressIPs` offers: answers would go elsewhere, or nowhere.
#[test]
fn egress_addresses_that_cannot_be_are_refused() {
    let text = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n\
                egressIPs: [0.0.0.0/0, \"::/0\"]\nclusterCIDRs: [10.244.0.0/16, \"fd44::/48\"]\n\
                nodeCIDRs: [172.30.0.0/28]\nclusterDNS: [169.254.20.10, 192.0.2.53]\n";
    let file = PolicyFile::parse("f.yaml", text).unwrap_or_else(|error| panic!("{error}"));
    let ask = |text: &str| resolve(&file, "x", &namespace(&[("egress-ip", text)]), None);
    for (text, expected) in [
        (
            "10.244.7.7",
            "10.244.7.7/32 is in `clusterCIDRs` (10.244.0.0/16): a pod's or a Service's",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.0/8 holds 10.244.0.0/16, which is in `clusterCIDRs`",
        ),
        ("fd44::7", "fd44::7/128 is in `clusterCIDRs` (fd44::/48)"),
        (
            "172.30.0.11",
            "172.30.0.11/32 is in `nodeCIDRs` (172.30.0.0/28): a node's own",
        ),
        ("127.0.0.1", "127.0.0.1/32 is loopback"),
        ("::1", "::1/128 is unspecified or loopback"),
        ("0.0.0.0", "0.0.0.0/32 is unspecified"),
        ("::", "::/128 is unspecified or loopback"),
        (
            "0.0.0.0/0",
            "0.0.0.0/0 holds 0.0.0.0/8, which is unspecified",
        ),
        ("224.0.0.1", "224.0.0.1/32 is multicast"),
        ("ff02::1", "ff02::1/128 is multicast"),
        ("255.255.255.255", "255.255.255.255/32 is broadcast"),
        ("169.254.7.7", "169.254.7.7/32 is link-local"),
        ("fe80::7", "fe80::7/128 is link-local"),
        (
            "64:ff9b::203.0.113.7",
            "64:ff9b::cb00:7107/128 is IPv4 behind a NAT64 prefix",
        ),
        ("fd00:ec2::254", "fd00:ec2::254/128 is a metadata service's"),
        ("168.63.129.16", "168.63.129.16/32 is a metadata service's"),
        ("192.0.2.53", "192.0.2.53/32 is a Service's"),
        ("203.0.113.7, 127.0.0.1", "127.0.0.1/32 is loopback"),
    ] {
        let error = ask(text).expect_err(text);
        let expected = format!("namespace x[egressway.dev/egress-ip]: {expected}");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.code(), 102);
    }
    for text in [
        "203.0.113.7",
        "240.0.0.7",
        "172.30.0.50",
        "10.0.0.1",
        "2001:db8::7",
    ] {
        assert!(ask(text).is_ok(), "{text}: {:?}", ask(text));
    }
}

#[test]
fn without_egress_ips_none_may_be_asked_for() {
    let file = PolicyFile::parse(
        "f.yaml",
        "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n",
    );
    let file = file.unwrap_or_else(|error| panic!("{error}"));
    let annotations = namespace(&[("egress-ip", "203.0.113.10")]);
    let error = resolve(&file, "x", &annotations, None).expect_err("nothing is offered");
    assert_eq!(error.code(), 102);
    assert!(error.to_string().contains("which has none"), "{error}");
}

#[test]
fn egress_lists_with_faults() {
    for text in [
        "",
        " ",
        ",",
        "203.0.113.10/24",
        "203.0.113.10;203.0.113.11",
        "::ffff:203.0.113.10",
        "eth0",
    ] {
        let error = resolved("", &[("egress-ip", text)], &[]).expect_err(text);
        assert_eq!(error.code(), 100, "{text:?}: {error}");
    }
}
