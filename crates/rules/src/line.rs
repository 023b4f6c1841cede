//! Lines of the log: who sent what to whom, and which rule decided; and what is missing. As text, as JSON, and read
//! again.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::verdict::Verdict;

/// One verdict, as it is printed and read again. The fields' JSON names are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When the rule logged it, by the kernel's clock.
    #[serde(serialize_with = "in_microseconds")]
    pub time: Timestamp,
    /// In which cluster node; `None` here and below: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its UID, as the runtime knows it.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// What made the pod: `Deployment/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// What became of the packet.
    pub verdict: Verdict,
    /// What decided: `pod:erp`, `cluster-enforced:2`, `default:deny`.
    pub rule: String,
    /// The text in which the rule stands, for people: `pod annotation egressway.dev/rules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_source: Option<String>,
    /// Its line there, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_line: Option<usize>,
    /// The rule itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_text: Option<String>,
    /// As rules call it: `tcp`, `icmpv6`, `proto/47`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The pod's address.
    pub source: IpAddr,
    /// Its port, if the protocol has ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Where the packet goes, after a Service's translation.
    pub destination: IpAddr,
    /// The port there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Where the pod sent it, if a Service translated that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_destination: Option<IpAddr>,
    /// The port there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_destination_port: Option<u16>,
    /// Of ICMP and ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// Of ICMP and ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// The domain name by which a rule of the pod has the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The domain name that the pod had asked for to get the destination, and that no rule of it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// By which the packet came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The address that the pod has outside the cluster.
    #[serde(rename = "egressIP", skip_serializing_if = "Option::is_none")]
    pub egress_ip: Option<IpAddr>,
}

impl Line {
    /// For people, and for `cut` and `awk`: fields separated by one space, and a line feed.
    pub fn text(&self) -> String {
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
        for (what, name) in [("name", &self.name), ("asked", &self.asked)] {
            if let Some(name) = name {
                let _ = write!(text, " {what}={name}");
            }
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

    /// For programs: one object and a line feed.
    pub fn json(&self) -> String {
        json(Kind::Verdict, self)
    }
}

/// Log messages that were thrown away, by the kernel or by the agent, for a reader that was too slow. The fields' JSON names are a promise to scripts:
/// only such a record has `lost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// When it was noticed.
    #[serde(serialize_with = "in_microseconds")]
    pub time: Timestamp,
    /// How many, since the record before.
    pub lost: u64,
    /// More than these: how many is not known yet.
    pub lost_more: bool,
}

impl Loss {
    /// Of now, and nobody knows how many.
    pub fn unknown() -> Loss {
        Loss {
            time: Timestamp::now(),
            lost: 0,
            lost_more: true,
        }
    }

    /// For programs: one object and a line feed.
    pub fn json(&self) -> String {
        json(Kind::Lost, self)
    }
}

/// What a line of JSON is about: each says so itself, since several kinds come by the same stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A packet on which a rule decided: [`Line`].
    Verdict,
    /// Lines that are missing: [`Loss`].
    Lost,
    /// What the agent says of itself.
    Log,
}

/// The version of these lines. Fields may be added to it.
pub const VERSION: u32 = 1;

/// `value`, whose fields are at least one, as a line of this kind.
fn json(kind: Kind, value: &impl Serialize) -> String {
    let begin = match kind {
        Kind::Verdict => "{\"kind\":\"verdict\",\"v\":1,",
        Kind::Lost => "{\"kind\":\"lost\",\"v\":1,",
        Kind::Log => "{\"kind\":\"log\",\"v\":1,",
    };
    let mut line = Vec::with_capacity(600);
    line.extend_from_slice(begin.as_bytes());
    let last = line.len() - 1;
    // Nothing in it is a map with other keys than text, or can fail by itself.
    if serde_json::to_writer(Tail(&mut line, false), value).is_err() {
        line.truncate(last);
        line.push(b'}');
    }
    line.push(b'\n');
    String::from_utf8(line).unwrap_or_default()
}

/// Leaves out the first byte: an object's brace, in whose place something else stands.
struct Tail<'a>(&'a mut Vec<u8>, bool);

impl std::io::Write for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let skipped = usize::from(!self.1).min(bytes.len());
        self.1 |= skipped > 0;
        self.0.extend_from_slice(&bytes[skipped..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `10.0.0.2`, `10.0.0.2:443`, `[2001:db8::2]:443`.
pub fn end(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

/// As exact as the kernel's times are, and all of the same length.
///
/// # Errors
/// The serializer's.
pub fn in_microseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_losses_is_no_line() {
        let loss = Loss {
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            lost: 3,
            lost_more: false,
        };
        let text = loss.json();
        assert_eq!(
            text,
            "{\"kind\":\"lost\",\"v\":1,\"time\":\"2026-01-02T03:04:05.000000Z\",\"lost\":3,\"lostMore\":false}\n"
        );
        assert_eq!(serde_json::from_str::<Loss>(&text).unwrap(), loss);
        assert!(serde_json::from_str::<Line>(&text).is_err());
    }
}
