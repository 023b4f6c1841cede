//! The rules that apply to every pod although nobody has written them.

use crate::effective::{Facts, Tier, TierRules};
use crate::fault::Faults;

/// Where they stand, for people.
const SOURCE: &str = "built-in";
/// What [`no_tunnels`] is called in its tier: logs say `built-in:no-tunnels`.
const NO_TUNNELS: &str = "no-tunnels";

/// UDP ports at which nodes open what they are sent: VXLAN (RFC 7348; Linux' own, which flannel uses), Geneve
/// (RFC 8926), and this project's own tunnel.
pub const TUNNEL_PORTS: [u16; 4] = [4789, 8472, 6081, 4799];
/// IP in IP (RFC 2003), IPv6 in IP (RFC 2473, RFC 4213), GRE (RFC 2784).
pub const TUNNEL_PROTOCOLS: [u8; 3] = [4, 41, 47];

/// All of them that these facts give a meaning.
///
/// # Errors
/// None that a test would not find: the texts are this module's own.
pub fn tiers(facts: &Facts) -> Result<Vec<TierRules>, Faults> {
    let mut tiers = vec![no_tunnels(Some(facts))?];
    if !facts.dns.is_empty() {
        tiers.push(dns()?);
    }
    Ok(tiers)
}

/// The allowance that lets every pod ask clusterDNS.
///
/// # Errors
/// As [`tiers`].
pub fn dns() -> Result<TierRules, Faults> {
    TierRules::parse(Tier::Dns, SOURCE, "allow to dns", false)
}

/// What a pod may not send to nodes, unless an enforced rule allows it: a node opens such a packet, and goes on
/// with whatever is inside, which no rule has seen. Where nothing is known of the cluster, all words are
/// there.
///
/// # Errors
/// As [`tiers`].
pub fn no_tunnels(facts: Option<&Facts>) -> Result<TierRules, Faults> {
    let more = facts.map_or(&[][..], |facts| &facts.tunnel_ports);
    let mut ports: Vec<u16> = TUNNEL_PORTS.iter().chain(more).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    let ports = ports.iter().map(|port| format!("{port}/udp"));
    let protocols = TUNNEL_PROTOCOLS
        .iter()
        .map(|number| format!("proto/{number}"));
    let traffic: Vec<String> = ports.chain(protocols).collect();
    // A tunnel may have any of the node's addresses, and one of the cluster's on another node.
    let mut targets = vec!["node"];
    if facts.is_none_or(|facts| !facts.nodes.is_empty()) {
        targets = vec!["nodes"];
    }
    if facts.is_none_or(|facts| !facts.cluster.is_empty()) {
        targets.push("cluster");
    }
    let text = format!(
        "deny {} to {} log name={NO_TUNNELS}",
        traffic.join(","),
        targets.join(",")
    );
    TierRules::parse(Tier::BuiltIn, SOURCE, &text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tunnels_reads_as_documented() {
        let text = |facts: Option<&Facts>| no_tunnels(facts).expect("a rule").rules[0].text.clone();
        let traffic = "4789/udp,4799/udp,6081/udp,8472/udp,proto/4,proto/41,proto/47";
        assert_eq!(
            text(None),
            format!("deny {traffic} to nodes,cluster log name=no-tunnels")
        );
        let mut facts = Facts::default();
        assert_eq!(
            text(Some(&facts)),
            format!("deny {traffic} to node log name=no-tunnels")
        );
        facts.tunnel_ports = vec![51820, 4789];
        facts.cluster = vec!["10.244.0.0/16".parse().expect("a network")];
        assert_eq!(
            text(Some(&facts)),
            "deny 4789/udp,4799/udp,6081/udp,8472/udp,51820/udp,proto/4,proto/41,proto/47 to node,cluster \
             log name=no-tunnels"
        );
    }
}
