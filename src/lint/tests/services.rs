//! Rules about Services, beside files that have some.

use super::found;

/// A pod with rules about Services, behind two of them, the rules in line 11.
fn beside_services(rules: &str) -> String {
    let services = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80, targetPort: 8080}, {port: 53, protocol: UDP}], clusterIP: 10.96.0.7}}
- {apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: None, ports: [{port: 5432}]}}
- {apiVersion: v1, kind: Service, metadata: {name: anywhere}, spec: {ports: [{port: 80}]}}
---
";
    format!(
        "{services}apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {{egressway.dev/rules: '{rules}'}}\n"
    )
}

#[test]
fn rules_about_services() {
    for (rules, wanted) in [
        ("allow 80/tcp to svc/shop/web; deny", &[][..]),
        ("allow 53/udp, 8080/tcp to SVC/Shop/Web", &[]),
        ("allow tcp to svc/shop/web", &[]),
        ("allow to svc/shop/web", &[]),
        ("allow icmp to svc/shop/web", &[]),
        (
            "allow 8080/tcp, sctp to svc/shop/web",
            &["11:63 service-port"],
        ),
        ("allow 80/udp to svc/shop/web", &["11:55 service-port"]),
        ("allow to svc/shop/wbe", &["11:48 unknown-service"]),
        // Another cluster's, or not in these files.
        ("allow to svc/shop/payments, svc/bank/wbe", &[]),
        (
            "allow 5432/tcp to svc/shop/db",
            &["11:57 no-service-address"],
        ),
        ("allow 81/tcp to svc/shop/anywhere", &[]),
        (
            "deny tcp; allow 80/tcp to svc/shop/web",
            &["11:49 unreachable-rule"],
        ),
    ] {
        assert_eq!(found(&beside_services(rules), false), wanted, "{rules}");
    }
}
