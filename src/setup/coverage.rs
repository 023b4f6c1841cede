//! Which pods of this node run without any policy, because they were there before us.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::store::{StateDir, StateError};
use netlink::route::{self, Family};
use netlink::{self, Rtnl, link};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Net(#[from] netlink::Error),
}

/// Where libcni, by which containerd and CRI-O call plugins, keeps what they were asked and what they answered.
pub const CNI_CACHE: &str = "/var/lib/cni/results";

/// So many pods are named in one sentence.
const NAMED: usize = 50;

/// No entry of the cache is longer.
const LONGEST: u64 = 1 << 20;

/// A running pod that no attachment covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uncovered {
    /// The host's side of its veth.
    pub veth: String,
    /// `NAMESPACE/NAME`, if the runtime's cache says whose it is.
    pub pod: Option<String>,
}

/// The veths whose other end is in another network namespace, and which no attachment has, with their pods' names as
/// far as `cache` tells. Almost all of them are running pods' interfaces; a pod in the host's network has none.
///
/// # Errors
/// The state directory or the links can't be read.
pub fn uncovered(state: &StateDir, cache: &Path) -> Result<Vec<Uncovered>, Error> {
    let mut covered = BTreeSet::new();
    // A damaged record covers nothing that could be named.
    for (_, record) in state.records()? {
        covered.insert(record.veth_index);
    }
    let mut rtnl = Rtnl::open(Instant::now() + Duration::from_secs(10))?;
    // A node that is a container itself has a veth as its uplink.
    let uplinks = [Family::V4, Family::V6].map(|f| route::default_route_device(&mut rtnl, f));
    for uplink in uplinks {
        covered.extend(uplink?);
    }
    let veths: Vec<String> = link::all(&mut rtnl)?
        .into_iter()
        .filter(|link| link.kind.as_deref() == Some("veth") && link.peer_netnsid.is_some())
        .filter(|link| !covered.contains(&link.index))
        .map(|link| link.name)
        .collect();
    if veths.is_empty() {
        return Ok(Vec::new());
    }
    let mut pods = pods_by_veth(cache);
    let named = |veth: String| Uncovered {
        pod: pods.remove(&veth),
        veth,
    };
    let mut all: Vec<Uncovered> = veths.into_iter().map(named).collect();
    all.sort_by(|a, b| (a.pod.is_none(), &a.pod, &a.veth).cmp(&(b.pod.is_none(), &b.pod, &b.veth)));
    Ok(all)
}

/// An entry of the cache, as far as it says whose an interface is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    result: Option<CachedResult>,
}

#[derive(Debug, Deserialize)]
struct CachedResult {
    #[serde(default)]
    interfaces: Vec<CachedInterface>,
}

#[derive(Debug, Deserialize)]
struct CachedInterface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

/// Whose the host's interfaces are. What can't be read names nobody: it is only a name that is missing then.
fn pods_by_veth(cache: &Path) -> BTreeMap<String, String> {
    let mut pods = BTreeMap::new();
    let Ok(entries) = fs::read_dir(cache) else {
        return pods;
    };
    for entry in entries.flatten() {
        let is_file = entry
            .metadata()
            .is_ok_and(|m| m.is_file() && m.len() <= LONGEST);
        let Some(cached) = is_file
            .then(|| fs::read(entry.path()).ok())
            .flatten()
            .and_then(|bytes| serde_json::from_slice::<Cached>(&bytes).ok())
        else {
            continue;
        };
        let arg = |wanted: &str| {
            let mut args = cached.cni_args.iter();
            args.find(|(key, _)| key == wanted)
                .map(|(_, value)| value.as_str())
        };
        let (Some(namespace), Some(name)) = (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) else {
            continue;
        };
        let pod = shown(&format!("{namespace}/{name}"));
        let interfaces = cached
            .result
            .into_iter()
            .flat_map(|result| result.interfaces);
        for interface in interfaces.filter(|interface| interface.sandbox.is_empty()) {
            pods.insert(interface.name, pod.clone());
        }
    }
    pods
}

/// Whose names these are, for a message.
fn shown(name: &str) -> String {
    rules::fault::printable(name)
}

/// `3 pods of this node (shop/web-0, shop/web-1, interface veth3) ...`; none if all are covered.
pub fn sentence(uncovered: &[Uncovered]) -> Option<String> {
    let pods = match uncovered.len() {
        0 => return None,
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    };
    let name = |one: &Uncovered| match &one.pod {
        Some(pod) => pod.clone(),
        None => format!("interface {}", shown(&one.veth)),
    };
    let named: Vec<String> = uncovered.iter().take(NAMED).map(name).collect();
    let more = match uncovered.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{pods} of this node ({}{more}) started while egressway was not in the conflist: they have no policy until they are recreated",
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink::test_support::{in_fresh_netns, ip, new_netns, veth};

    #[test]
    fn a_veth_without_attachment_is_a_pod_not_covered() {
        in_fresh_netns(|| {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::new(dir.path());
            let cache = dir.path().join("cache");
            assert_eq!(uncovered(&state, &cache).unwrap(), []);
            let pod = new_netns();
            veth("veth1", "eth0", &pod);
            veth("veth2", "eth2", &pod);
            veth("eth0", "eth1", &pod);
            ip("route add default dev eth0");
            let found = |veth: &str, pod: Option<&str>| Uncovered {
                veth: veth.to_owned(),
                pod: pod.map(str::to_owned),
            };
            let nameless = [found("veth1", None), found("veth2", None)];
            assert_eq!(uncovered(&state, &cache).unwrap(), nameless);
            // As libcni writes it.
            fs::create_dir(&cache).unwrap();
            let entry = r#"{"kind":"cniCacheV1","containerId":"c","config":"e30=","ifName":"eth0","networkName":"net",
                "cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","web-0"]],
                "result":{"cniVersion":"1.0.0","dns":{},"interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01"},
                {"name":"veth2","mac":"02:00:00:00:00:02"},{"name":"veth1","sandbox":"/var/run/netns/a"}]}}"#;
            fs::write(cache.join("net-c-eth0"), entry).unwrap();
            fs::write(cache.join("net-d-eth0"), &entry[..90]).unwrap();
            let all = uncovered(&state, &cache).unwrap();
            assert_eq!(
                all,
                [found("veth2", Some("shop/web-0")), found("veth1", None)]
            );
            let said = sentence(&all).unwrap();
            assert!(
                said.starts_with("2 pods of this node (shop/web-0, interface veth1) started"),
                "{said}"
            );
        });
    }

    #[test]
    fn how_it_is_said() {
        let pod = |n: usize| Uncovered {
            veth: format!("v{n}"),
            pod: Some(format!("shop/\u{1b}{n}")),
        };
        let pods = |n: usize| (0..n).map(pod).collect::<Vec<_>>();
        assert_eq!(sentence(&[]), None);
        let said = |n| sentence(&pods(n)).unwrap();
        assert!(said(52).starts_with("52 pods of this node (shop/"));
        assert!(said(52).contains("49 and 2 more)"));
    }
}
