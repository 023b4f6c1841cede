//! The table as docs/attacks.md has it.

use super::case::{Case, On};
use super::table::GROUPS;
use std::fmt::Write as _;

const HEAD: &str = "# Attacks

What a pod with NET_RAW can try, and what came of it. Each case was sent three times in each of four
topologies, as raw frames between real network namespaces: without the plugin in the chain; with it,
by a pod that may do everything; and with it, by a pod whose rules allow the ports 10 and 30010 and
deny the rest. `netns::attack` sends them all with every run of the tests, and fails if one comes out
otherwise than it is written here.

| cell | |
|---|---|
| **never** | arrives without the plugin, and never with it, whatever the rules say |
| by rule | arrives without the plugin; with it, if the rules allow it, and not if they don't |
| allowed | arrives without the plugin and with it, for the reason given |
| - | does not arrive even without the plugin, nor with it |
| by rule only | does not arrive without the plugin; with it, if the rules allow it |

`bridge` is the bridge plugin, without br_netfilter and with it; `ptp` the ptp plugin; `Calico` a veth
as Calico makes it. Without a bridge the pod's only neighbour is the node, and most of what needs
another one can't be tried. *Where* is where the packet was looked for.

A pod with NET_ADMIN in the host's user namespace is not in this table: it can leave any firewall of
the host (see \"Limits\" in the README).
";

/// The whole document.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    for group in GROUPS {
        let _ = write!(
            text,
            "\n## {}\n\n| case | where | bridge | bridge, br_netfilter | ptp | Calico |\n|---|---|---|---|---|---|\n",
            group.title
        );
        for case in group.cases {
            let why = if case.why.is_empty() {
                String::new()
            } else {
                format!(" ({})", case.why)
            };
            let cells = [On::BRIDGE, On::BRIDGE_NF, On::PTP, On::CALICO].map(|on| cell(case, on));
            let _ = writeln!(
                text,
                "| {}{why} | {} | {} |",
                case.what,
                case.at.name(),
                cells.join(" | ")
            );
        }
    }
    text
}

fn cell(case: &Case, on: On) -> &'static str {
    match (case.without.has(on), case.open.has(on), case.closed.has(on)) {
        (true, false, false) => "**never**",
        (true, true, false) => "by rule",
        (true, true, true) => "allowed",
        (false, false, false) => "-",
        (false, true, false) => "by rule only",
        (_, _, true) => panic!("{}: allowed only where rules are", case.what),
    }
}
