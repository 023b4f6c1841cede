//! From a logged packet to a line: who sent what to whom, and which rule decided.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use clap::ValueEnum;
use jiff::Timestamp;
use nix::net::if_::if_indextoname;
use serde::{Deserialize, Serialize, Serializer};

use super::packet::{self, Packet, Transport};
use super::pods::Pods;
use crate::net::nflog::Logged;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Verdict {
    Allow,
    Deny,
    Reject,
    /// The next tier decides.
    Pass,
    /// In audit mode: the packet went.
    WouldDeny,
    /// In audit mode: the packet went.
    WouldReject,
}

impl Verdict {
    const ALL: [Verdict; 6] = [
        Verdict::Allow,
        Verdict::Deny,
        Verdict::Reject,
        Verdict::Pass,
        Verdict::WouldDeny,
        Verdict::WouldReject,
    ];

    /// As in prefixes.
    pub(in crate::cli) fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Reject => "reject",
            Verdict::Pass => "pass",
            Verdict::WouldDeny => "would-deny",
            Verdict::WouldReject => "would-reject",
        }
    }
}

/// One verdict, as it is printed and read again. The fields' JSON names are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Line {
    #[serde(serialize_with = "in_microseconds")]
    pub time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    pub verdict: Verdict,
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    pub source: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    pub destination: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Where the pod sent it, if a Service translated that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_destination: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(rename = "egressIP", skip_serializing_if = "Option::is_none")]
    pub egress_ip: Option<IpAddr>,
}

impl Line {
    /// For people, and for `cut` and `awk`: fields are separated by one space.
    pub(super) fn text(&self) -> String {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut text = format!(
            "{:.6} {}/{} {} {} {} {} -> {}",
            self.time,
            or_dash(&self.namespace),
            or_dash(&self.pod),
            self.verdict.as_str(),
            self.rule,
            or_dash(&self.protocol),
            end(self.source, self.source_port),
            end(self.destination, self.destination_port),
        );
        // Writing to a String can't fail.
        if let (Some(kind), Some(code)) = (self.icmp_type, self.icmp_code) {
            let _ = write!(text, " type={kind} code={code}");
        }
        if let Some(address) = self.original_destination {
            let original = end(address, self.original_destination_port);
            let _ = write!(text, " original={original}");
        }
        if let Some(interface) = &self.interface {
            let _ = write!(text, " interface={interface}");
        }
        if let Some(address) = self.egress_ip {
            let _ = write!(text, " egress-ip={address}");
        }
        text.push('\n');
        text
    }

    /// One object.
    pub(in crate::cli) fn json(&self) -> String {
        // Nothing in it is a map with other keys than text, or can fail by itself.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// `10.0.0.2`, `10.0.0.2:443`, `[2001:db8::2]:443`.
fn end(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

/// As exact as the kernel's times are, and all of the same length.
pub(super) fn in_microseconds<S: Serializer>(
    time: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

/// Makes lines, with what it knows of the node.
#[derive(Debug)]
pub(super) struct Reader {
    pods: Pods,
    /// Names of interfaces by their indexes, which are not given twice.
    interfaces: HashMap<u32, String>,
}

impl Reader {
    pub(super) fn new(state_dir: &Path) -> Self {
        Reader {
            pods: Pods::new(state_dir),
            interfaces: HashMap::new(),
        }
    }

    /// Learns which pods came and went. To be called before the lines of newly read messages.
    pub(super) fn refresh(&mut self) {
        self.pods.refresh();
    }

    /// None: not logged by a rule of this program.
    pub(super) fn line(&mut self, logged: &Logged) -> Option<Line> {
        let (rule, verdict) = rule_and_verdict(&logged.prefix)?;
        let packet = packet::parse(logged.hw_protocol, &logged.payload)?;
        let (source_port, destination_port) = match packet.transport {
            Transport::Ports {
                source,
                destination,
            } => (Some(source), Some(destination)),
            _ => (None, None),
        };
        let (icmp_type, icmp_code) = match packet.transport {
            Transport::Icmp { kind, code } => (Some(kind), Some(code)),
            _ => (None, None),
        };
        let to = (packet.destination, destination_port);
        let original = logged
            .original
            .map(|original| (original.address, original.port))
            .filter(|original| *original != to && destination_is_whole(&packet));
        let pod = self.pods.of(packet.source);
        let of_same_family = |a: &&IpAddr| a.is_ipv4() == packet.source.is_ipv4();
        Some(Line {
            time: logged.time.unwrap_or_else(Timestamp::now),
            namespace: pod.and_then(|pod| pod.namespace.clone()),
            pod: pod.and_then(|pod| pod.name.clone()),
            verdict,
            rule: rule.to_owned(),
            protocol: packet.protocol.map(packet::protocol_name),
            source: packet.source,
            source_port,
            destination: packet.destination,
            destination_port,
            original_destination: original.map(|(address, _)| address),
            original_destination_port: original.and_then(|(_, port)| port),
            icmp_type,
            icmp_code,
            egress_ip: pod.and_then(|pod| pod.egress.iter().find(of_same_family).copied()),
            interface: logged
                .physindev
                .or(logged.indev)
                .and_then(|index| self.interface(index)),
        })
    }

    /// None: it has gone.
    fn interface(&mut self, index: u32) -> Option<String> {
        if let Some(name) = self.interfaces.get(&index) {
            return Some(name.clone());
        }
        let name = if_indextoname(index).ok()?.into_string().ok()?;
        // nix 0.31 looks for another return value than libc's NULL, and finds no error.
        if name.is_empty() {
            return None;
        }
        self.interfaces.insert(index, name.clone());
        Some(name)
    }
}

/// Whether the packet tells all of where it goes. A later fragment has no ports: they can't be
/// compared with those of its flow.
fn destination_is_whole(packet: &Packet) -> bool {
    !matches!(packet.transport, Transport::Unknown)
        || packet
            .protocol
            .is_some_and(|protocol| !packet::has_ports(protocol))
}

/// Takes a prefix `egress-cni RULE VERDICT` apart. None: it is another program's.
pub(in crate::cli) fn rule_and_verdict(prefix: &str) -> Option<(&str, Verdict)> {
    let (rule, word) = prefix.strip_prefix("egress-cni ")?.split_once(' ')?;
    let verdict = Verdict::ALL.into_iter().find(|v| v.as_str() == word)?;
    // What others put into a prefix must not reach the terminal.
    let printable = !rule.is_empty() && rule.bytes().all(|byte| byte.is_ascii_graphic());
    printable.then_some((rule, verdict))
}

#[cfg(test)]
mod tests {
    use super::super::pods::tests::attach;
    use super::*;
    use crate::net::nflog::Original;

    /// A SYN from 10.244.0.5:40000 to 203.0.113.9:443, came in by lo.
    fn syn() -> Logged {
        let mut payload = vec![0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0];
        payload.extend([10, 244, 0, 5, 203, 0, 113, 9, 0x9c, 0x40, 0x01, 0xbb]);
        Logged {
            prefix: "egress-cni pod:erp deny".to_owned(),
            time: Some("2026-01-02T03:04:05.06Z".parse().unwrap()),
            indev: Some(1),
            physindev: None,
            outdev: None,
            hw_protocol: 0x0800,
            payload,
            original: None,
        }
    }

    /// An echo request from 2001:db8::5 to 2001:db8::9, without a known interface.
    fn ping6() -> Logged {
        let mut payload = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        for last in [5, 9] {
            payload.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        payload.extend([128, 0, 0, 0]);
        Logged {
            prefix: "egress-cni cluster-enforced:2 would-reject".to_owned(),
            indev: None,
            hw_protocol: 0x86dd,
            payload,
            ..syn()
        }
    }

    fn read(logged: &Logged, state: &Path) -> Line {
        let mut reader = Reader::new(state);
        reader.refresh();
        reader.line(logged).unwrap()
    }

    #[test]
    fn a_line_names_the_pod_and_its_egress_address() {
        let dir = tempfile::tempdir().unwrap();
        let egress = ["2001:db8:e::1", "203.0.113.10"];
        attach(dir.path(), "web-1", 7, &["10.244.0.5"], &egress);
        let line = read(&syn(), dir.path());
        assert_eq!(
            line.text(),
            "2026-01-02T03:04:05.060000Z shop/web-1 deny pod:erp tcp \
             10.244.0.5:40000 -> 203.0.113.9:443 interface=lo egress-ip=203.0.113.10\n"
        );
        assert_eq!(
            line.json(),
            concat!(
                r#"{"time":"2026-01-02T03:04:05.060000Z","namespace":"shop","pod":"web-1","#,
                r#""verdict":"deny","rule":"pod:erp","protocol":"tcp","#,
                r#""source":"10.244.0.5","sourcePort":40000,"#,
                r#""destination":"203.0.113.9","destinationPort":443,"#,
                r#""interface":"lo","egressIP":"203.0.113.10"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_or_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let line = read(&ping6(), dir.path());
        assert_eq!(
            line.text(),
            "2026-01-02T03:04:05.060000Z -/- would-reject cluster-enforced:2 icmpv6 \
             2001:db8::5 -> 2001:db8::9 type=128 code=0\n"
        );
        assert_eq!(
            line.json(),
            concat!(
                r#"{"time":"2026-01-02T03:04:05.060000Z","verdict":"would-reject","#,
                r#""rule":"cluster-enforced:2","protocol":"icmpv6","#,
                r#""source":"2001:db8::5","destination":"2001:db8::9","#,
                r#""icmpType":128,"icmpCode":0}"#,
                "\n"
            )
        );
    }

    #[test]
    fn where_the_pod_sent_it_is_told_if_a_service_translated_that() {
        let sent = |address: &str, port| {
            Some(Original {
                address: address.parse().unwrap(),
                port,
            })
        };
        let mut logged = syn();
        logged.original = sent("203.0.113.9", Some(443));
        let same = read(&logged, Path::new("/nonexistent"));
        assert_eq!(same.original_destination, None);
        for (original, text) in [
            (sent("10.96.0.20", Some(443)), "original=10.96.0.20:443"),
            (sent("203.0.113.9", Some(80)), "original=203.0.113.9:80"),
        ] {
            logged.original = original;
            let line = read(&logged, Path::new("/nonexistent"));
            assert!(line.text().contains(text), "{}", line.text());
            let json = serde_json::to_value(&line).unwrap();
            let original = original.unwrap();
            assert_eq!(json["originalDestination"], original.address.to_string());
            assert_eq!(json["originalDestinationPort"], original.port.unwrap());
        }
        let mut ping = ping6();
        ping.original = sent("2001:db8::9", None);
        assert_eq!(
            read(&ping, Path::new("/nonexistent")).original_destination,
            None
        );
        // A later fragment: who knows its port?
        logged.original = sent("203.0.113.9", Some(80));
        logged.payload[7] = 1;
        assert_eq!(
            read(&logged, Path::new("/nonexistent")).original_destination,
            None
        );
    }

    #[test]
    fn ipv6_ports_stand_behind_brackets() {
        let mut logged = ping6();
        logged.payload[6] = 17;
        logged.payload.truncate(40);
        logged.payload.extend([0, 53, 0, 54]);
        let text = read(&logged, Path::new("/nonexistent")).text();
        assert!(
            text.contains(" udp [2001:db8::5]:53 -> [2001:db8::9]:54\n"),
            "{text}"
        );
    }

    #[test]
    fn a_bridged_packet_came_in_by_the_port() {
        let mut logged = syn();
        logged.indev = Some(i32::MAX.cast_unsigned());
        let unknown = read(&logged, Path::new("/nonexistent"));
        assert_eq!(unknown.interface, None);
        logged.physindev = Some(1);
        let line = read(&logged, Path::new("/nonexistent"));
        assert_eq!(line.interface.as_deref(), Some("lo"));
    }

    #[test]
    fn every_verdict_is_read() {
        for verdict in Verdict::ALL {
            let prefix = format!("egress-cni default:deny {}", verdict.as_str());
            assert_eq!(rule_and_verdict(&prefix), Some(("default:deny", verdict)));
            let option = verdict.to_possible_value().unwrap();
            assert_eq!(option.get_name(), verdict.as_str());
            let json = serde_json::to_value(verdict).unwrap();
            assert_eq!(json, verdict.as_str());
        }
    }

    #[test]
    fn others_prefixes_and_packets_are_none_of_ours() {
        for prefix in [
            "",
            "egress-cni",
            "egress-cni pod:erp",
            "egress-cni pod:erp ",
            "egress-cni  deny",
            "egress-cni pod:erp permit",
            "egress-cni pod:erp deny ",
            "egress-cni pod:\u{1b}[31m deny",
            "egress-cni pod: erp deny",
            "other-cni pod:erp deny",
            " egress-cni pod:erp deny",
        ] {
            assert_eq!(rule_and_verdict(prefix), None, "{prefix:?}");
        }
        let arp = Logged {
            hw_protocol: 0x0806,
            ..syn()
        };
        assert_eq!(Reader::new(Path::new("/nonexistent")).line(&arp), None);
    }
}
