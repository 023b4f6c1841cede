//! The primary CNIs under which pods are made.

use super::{Netns, Node};
use serde_json::{Map, Value, json};

/// Which plugin gives a pod its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primary {
    /// bridge as the pods' gateway: 10.244.1.0/24, fd44:1::/64.
    Bridge,
    /// ptp: 10.244.2.0/24, fd44:2::/64.
    Ptp,
    /// A veth as Calico makes it: single addresses 10.244.3.x and fd44:3::x, gateway 169.254.1.1 by proxy ARP.
    Calico,
    /// macvlan on eth0: no host-side veth. 172.30.0.192/26.
    Macvlan,
}

impl Primary {
    /// The primary plugin's configuration; `None` where the harness does its work by hand.
    pub fn conf(self, node: &Node, masquerade: bool) -> Option<Map<String, Value>> {
        let ipam = |ranges: &[Value]| {
            json!({
                "type": "host-local",
                "dataDir": node.dir.path().join("ipam"),
                "ranges": ranges.iter().map(|r| json!([r])).collect::<Vec<_>>(),
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            })
        };
        let conf = match self {
            Self::Bridge => json!({
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": masquerade, "hairpinMode": true,
                "ipam": ipam(&[json!({"subnet": "10.244.1.0/24"}), json!({"subnet": "fd44:1::/64"})]),
            }),
            Self::Ptp => json!({
                "type": "ptp", "ipMasq": masquerade,
                "ipam": ipam(&[json!({"subnet": "10.244.2.0/24"}), json!({"subnet": "fd44:2::/64"})]),
            }),
            Self::Calico => return None,
            Self::Macvlan => json!({
                "type": "macvlan", "master": "eth0", "mode": "bridge",
                "ipam": ipam(&[json!({"subnet": "172.30.0.0/24", "rangeStart": "172.30.0.200",
                                      "rangeEnd": "172.30.0.210", "gateway": "172.30.0.100"})]),
            }),
        };
        let Value::Object(conf) = conf else {
            unreachable!("an object literal")
        };
        Some(conf)
    }
}

/// Makes a pod's interface as Calico does and returns the result that it would have printed.
pub fn calico_add(node: &Node, pod: &Netns, veth: &str, version: &str) -> String {
    let n = node.next();
    // From 10.244.3.1 on, and past 10.244.3.250 in the next networks.
    let (network, host) = (3 + (n - 1) / 250, 1 + (n - 1) % 250);
    let (v4, v6) = (format!("10.244.{network}.{host}"), format!("fd44:3::{n:x}"));
    calico_link(node, pod, veth, &v4, &v6);
    json!({
        "cniVersion": version,
        "interfaces": [{"name": veth}],
        "ips": [{"address": format!("{v4}/32")}, {"address": format!("{v6}/128")}],
        "dns": {},
    })
    .to_string()
}

/// The veth with its addresses and routes.
pub fn calico_link(node: &Node, pod: &Netns, veth: &str, v4: &str, v6: &str) {
    node.netns.ip(&format!(
        "link add {veth} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {}
         link set {veth} up
         route add {v4}/32 dev {veth}
         route add {v6}/128 dev {veth}",
        pod.name()
    ));
    // Answered at once, as Calico has it: the kernel holds delayed answers of all namespaces in one
    // short queue, and drops those that find it full.
    node.netns.sysctls(&[
        (&format!("net/ipv4/conf/{veth}/proxy_arp"), "1"),
        (&format!("net/ipv4/neigh/{veth}/proxy_delay"), "0"),
    ]);
    pod.ip(&format!(
        "addr add {v4}/32 dev eth0
         addr add {v6}/128 dev eth0 nodad
         link set eth0 up
         route add 169.254.1.1/32 dev eth0 scope link
         route add default via 169.254.1.1 dev eth0
         route add default via fe80::ecee:eeff:feee:eeee dev eth0"
    ));
}
