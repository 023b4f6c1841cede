//! The same denial, made by every kind of object that the compiler has.

use std::fmt::Write;

use super::flood::DENIED;
use crate::harness::Pod;
use crate::harness::node::FAR;

/// How a policy denies the port, and by which words the kernel's listing shows that.
pub struct Kind {
    pub name: &'static str,
    rules: fn() -> String,
    shows: Option<&'static str>,
}

pub const KINDS: [Kind; 4] = [
    Kind {
        name: "plain rules",
        rules: plain,
        shows: None,
    },
    Kind {
        name: "an interval set",
        rules: interval_set,
        shows: Some("flags interval"),
    },
    Kind {
        name: "a concatenated set",
        rules: concatenated_set,
        shows: Some("ipv4_addr ."),
    },
    Kind {
        name: "a port map",
        rules: port_map,
        shows: Some("verdict"),
    },
];

impl Kind {
    /// Two lists that deny the same, and differ in a rule that no packet here meets.
    pub fn pair(&self) -> [String; 2] {
        let both = (self.rules)();
        [1, 2].map(|n| format!("{both}deny proto/99 to 198.51.100.{n}"))
    }

    /// The pod's policy is of this kind.
    pub fn assert_is_of(&self, pod: &Pod<'_>) {
        let table = pod.node.netns.exec("nft list table inet egressway");
        let Some(word) = self.shows else {
            let port = format!("udp dport {DENIED} ");
            let plain = |line: &str| line.contains(&port) && line.contains("meta time");
            assert!(table.lines().any(plain), "{}: {table}", self.name);
            return;
        };
        let port = DENIED.to_string();
        let of_policy = |block: &&str| block.contains("set pol-") || block.contains("map pol-");
        let has_denied = |block: &&str| block.contains(FAR[0]) || block.contains(&port);
        let blocks = table.split("\n\t}").filter(of_policy).filter(has_denied);
        let sets: Vec<&str> = blocks.collect();
        let sets = sets.concat();
        assert!(sets.contains(word), "{}: {sets}", self.name);
    }
}

/// What ends some day stays a rule in its place.
fn plain() -> String {
    let rule = |far| format!("deny {DENIED}/udp to {far} until=2199-01-01T00:00:00Z\n");
    FAR.map(rule).concat()
}

fn interval_set() -> String {
    let [v4, v6] = FAR;
    format!(
        "deny {DENIED}/udp to {v4}, {v6}, 203.0.113.1, 203.0.113.5, 2001:db8:1::1, 2001:db8:1::5\n"
    )
}

/// As many ports as this, each with addresses of its own.
fn of_ports(ports: u16) -> String {
    let [v4, v6] = FAR;
    (0..ports).fold(String::new(), |mut text, n| {
        let port = DENIED + n;
        writeln!(
            text,
            "deny {port}/udp to {v4}, {v6}, 203.0.113.{n}, 2001:db8:1::{n}"
        )
        .expect("a string takes it");
        text
    })
}

fn concatenated_set() -> String {
    of_ports(60)
}

fn port_map() -> String {
    of_ports(8)
}
