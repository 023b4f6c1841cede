//! A namespace with egress addresses, and where they are.

use super::{Node, NodeOptions, Policy};

/// The egress addresses of the namespace `shop`, one a family.
pub const EGRESS: [&str; 2] = ["172.30.0.50", "fd30::50"];
/// The same, as the annotation lists them.
pub const BOTH: &str = "172.30.0.50, fd30::50";

/// A node where the namespace `shop` has the egress addresses `EGRESS`.
pub fn shop_node() -> Node {
    let node = Node::new(NodeOptions {
        dad: true,
        ..NodeOptions::default()
    });
    node.set_policy(&Policy::default().namespace("shop", "egress-ip", BOTH));
    node
}

/// The addresses of the node's uplink.
pub fn uplink(node: &Node) -> Vec<String> {
    let link = &node.netns.ip_json("addr show dev eth0")[0];
    let infos = link["addr_info"].as_array().expect("addresses");
    infos
        .iter()
        .map(|info| {
            format!(
                "{}/{}",
                info["local"].as_str().unwrap_or_default(),
                info["prefixlen"]
            )
        })
        .collect()
}

/// Whether both of `EGRESS` are on the uplink.
pub fn has_egress_addresses(node: &Node) -> [bool; 2] {
    let addresses = uplink(node);
    ["172.30.0.50/32", "fd30::50/128"].map(|wanted| addresses.iter().any(|a| a == wanted))
}
