//! `kubernetes`: which API is asked, and what is done when it does not answer.

use std::path::PathBuf;
use std::time::Duration;

use super::{DEADLINE, keys, path};
use crate::cluster::hostname;
use crate::defaults;
use crate::json::{self, JsonObject};
use crate::refusal::{CniError, quoted};

/// How to reach the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Absolute. Default [`defaults::kubeconfig`].
    pub kubeconfig: PathBuf,
    /// For all that one call asks of the API. Default 5 s.
    pub timeout: Duration,
    /// What ADD does when the API can't be asked. Default: refuse.
    pub when_unreachable: WhenUnreachable,
    /// How old what was read may be to be used instead. Default 1 h.
    pub snapshot_max_age: Duration,
    /// None: see [`Kubernetes::node_name`].
    pub node_name: Option<String>,
}

/// What ADD does when the API can't be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenUnreachable {
    /// The pod does not start; the runtime tries again.
    #[default]
    Refuse,
    /// What an earlier ADD read is used, if it is young enough.
    Snapshot,
}

impl Kubernetes {
    /// This node's name in Kubernetes: `nodeName`, else the kernel's hostname in lower case.
    pub fn node_name(&self) -> String {
        self.node_name.clone().unwrap_or_else(hostname)
    }
}

pub(super) fn read(entry: &JsonObject<'_>) -> Result<Option<Kubernetes>, CniError> {
    let Some(object) = json::object(entry, "kubernetes", "kubernetes")? else {
        return Ok(None);
    };
    keys::only_kubernetes(&object)?;
    let timeout = duration(&object, "timeout", "\"5s\"")?.unwrap_or(Duration::from_secs(5));
    if timeout >= DEADLINE {
        return Err(json::invalid(
            "kubernetes.timeout",
            &format!(
                "expected less than the {} s that a whole call may take, got {timeout:?}",
                DEADLINE.as_secs()
            ),
        ));
    }
    Ok(Some(Kubernetes {
        kubeconfig: path(&object, "kubeconfig", "kubernetes.kubeconfig")?
            .unwrap_or_else(defaults::kubeconfig),
        timeout,
        when_unreachable: when_unreachable(&object)?,
        snapshot_max_age: duration(&object, "snapshotMaxAge", "\"1h\"")?
            .unwrap_or(Duration::from_secs(3600)),
        node_name: node_name(&object)?,
    }))
}

/// A duration of more than nothing, such as `500ms`, `5s` or `1h30m`.
fn duration(
    object: &JsonObject<'_>,
    key: &str,
    example: &str,
) -> Result<Option<Duration>, CniError> {
    let at = format!("kubernetes.{key}");
    let expected = format!("a duration such as {example}");
    let Some(text) = json::value::<String>(object, key, &at, &expected)? else {
        return Ok(None);
    };
    let duration = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero());
    match duration {
        Some(duration) => Ok(Some(duration)),
        None => Err(json::invalid(
            &at,
            &format!("expected {expected}, got {}", quoted(text)),
        )),
    }
}

fn when_unreachable(object: &JsonObject<'_>) -> Result<WhenUnreachable, CniError> {
    const EXPECTED: &str = "refuse or snapshot";
    let at = "kubernetes.whenUnreachable";
    match json::value::<String>(object, "whenUnreachable", at, EXPECTED)?.as_deref() {
        None => Ok(WhenUnreachable::default()),
        Some("refuse") => Ok(WhenUnreachable::Refuse),
        Some("snapshot") => Ok(WhenUnreachable::Snapshot),
        Some(other) => Err(json::invalid(
            at,
            &format!("expected {EXPECTED}, got {}", quoted(other)),
        )),
    }
}

fn node_name(object: &JsonObject<'_>) -> Result<Option<String>, CniError> {
    let at = "kubernetes.nodeName";
    let name: Option<String> = json::value(object, "nodeName", at, "a node's name")?;
    // RFC 1123 subdomain: it goes into Leases, and there is compared with other nodes' names.
    let is_name = |name: &str| {
        (1..=253).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    match name {
        Some(name) if !is_name(&name) => Err(json::invalid(
            at,
            &format!("expected a node's name, got {}", quoted(&name)),
        )),
        name => Ok(name),
    }
}
