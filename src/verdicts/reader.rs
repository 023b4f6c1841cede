//! From a logged packet to a line.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use nix::net::if_::if_indextoname;

use super::line::Line;
use super::packet::{self, Packet, Transport};
use super::pods::Pods;
use crate::names::told::Naming;
use netlink::nflog::Logged;
use rules::verdict::parse_prefix;

/// What made a pod, by the pod's UID as runtimes know it.
pub type Workload = Box<dyn Fn(&str) -> Option<String> + Send>;

/// What a destination of a pod is called: the pod's address, and that.
pub type CalledBy = Box<dyn Fn(IpAddr, IpAddr) -> Naming + Send>;

/// Makes lines, with what it knows of the node.
pub struct Reader {
    pods: Pods,
    node: Option<String>,
    workload: Option<Workload>,
    called_by: Option<CalledBy>,
    /// Names of interfaces by their indexes, which are not given twice.
    interfaces: HashMap<u32, String>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("pods", &self.pods)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// `state_dir` is the conflist's, which knows the pods.
    pub fn new(state_dir: &Path) -> Self {
        Reader {
            pods: Pods::new(state_dir),
            node: None,
            workload: None,
            called_by: None,
            interfaces: HashMap::new(),
        }
    }

    /// The same with what the cluster says: this node's name, and what made a pod.
    pub fn in_cluster(state_dir: &Path, node: Option<String>, workload: Workload) -> Self {
        Reader {
            node,
            workload: Some(workload),
            ..Reader::new(state_dir)
        }
    }

    /// The same with what domain names stand for.
    pub fn naming(self, called_by: CalledBy) -> Self {
        Reader {
            called_by: Some(called_by),
            ..self
        }
    }

    /// Learns which pods came and went. To be called before the lines of newly read messages.
    pub fn refresh(&mut self) {
        self.pods.refresh();
    }

    /// None: not logged by a rule of this program.
    pub fn line(&mut self, logged: &Logged) -> Option<Line> {
        let (rule, verdict) = parse_prefix(&logged.prefix)?;
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
        let place = pod.and_then(|pod| pod.places.of(rule));
        let pod_uid = pod.and_then(|pod| pod.uid.clone());
        let workload = self.workload.as_ref().zip(pod_uid.as_deref());
        let called_by = self.called_by.as_ref();
        let naming = called_by.map(|called_by| called_by(packet.source, packet.destination));
        let Naming { name, asked } = naming.unwrap_or_default();
        let of_same_family = |a: &&IpAddr| a.is_ipv4() == packet.source.is_ipv4();
        Some(Line {
            time: logged.time.unwrap_or_else(Timestamp::now),
            node: self.node.clone(),
            namespace: pod.and_then(|pod| pod.namespace.clone()),
            pod: pod.and_then(|pod| pod.name.clone()),
            workload: workload.and_then(|(workload, uid)| workload(uid)),
            pod_uid,
            verdict,
            rule: rule.to_owned(),
            rule_source: place.map(|place| place.source.clone()),
            rule_line: place.map(|place| place.line),
            rule_text: place.map(|place| place.text.clone()),
            protocol: packet.protocol.map(packet::protocol_name),
            source: packet.source,
            source_port,
            destination: packet.destination,
            destination_port,
            original_destination: original.map(|(address, _)| address),
            original_destination_port: original.and_then(|(_, port)| port),
            icmp_type,
            icmp_code,
            name,
            asked,
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

#[cfg(test)]
mod tests {
    use super::super::test_support::attach;
    use super::*;
    use netlink::nflog::Original;

    /// A SYN from 10.244.0.5:40000 to 203.0.113.9:443, came in by lo.
    fn syn() -> Logged {
        let mut payload = vec![0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0];
        payload.extend([10, 244, 0, 5, 203, 0, 113, 9, 0x9c, 0x40, 0x01, 0xbb]);
        Logged {
            prefix: "egressway pod:erp deny".to_owned(),
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
            prefix: "egressway cluster-enforced:2 would-reject".to_owned(),
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
        attach(
            dir.path(),
            "web-1",
            7,
            &["10.244.0.5"],
            &egress,
            "deny name=erp",
        );
        let line = read(&syn(), dir.path());
        assert_eq!(
            line.text(),
            "2026-01-02T03:04:05.060000Z shop/web-1 deny pod:erp tcp \
             10.244.0.5:40000 -> 203.0.113.9:443 interface=lo egress-ip=203.0.113.10\n"
        );
        assert_eq!(
            line.json(),
            concat!(
                r#"{"kind":"verdict","v":1,"time":"2026-01-02T03:04:05.060000Z","#,
                r#""namespace":"shop","pod":"web-1","verdict":"deny","rule":"pod:erp","#,
                r#""ruleSource":"pod annotation egressway.dev/rules","ruleLine":1,"#,
                r#""ruleText":"deny name=erp","protocol":"tcp","#,
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
                r#"{"kind":"verdict","v":1,"time":"2026-01-02T03:04:05.060000Z","verdict":"would-reject","#,
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
    fn others_packets_are_none_of_ours() {
        let arp = Logged {
            hw_protocol: 0x0806,
            ..syn()
        };
        assert_eq!(Reader::new(Path::new("/nonexistent")).line(&arp), None);
    }
}
