//! Which pods of this node run without any policy, because they were there before us.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::store::{Record, StateDir, StateError};
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

/// The names of the veths whose other end is in another network namespace, and which no attachment has.
/// Almost all of them are running pods' interfaces; a pod in the host's network has none.
///
/// # Errors
/// The state directory or the links can't be read.
pub fn uncovered(state: &StateDir) -> Result<Vec<String>, Error> {
    let mut covered = BTreeSet::new();
    for id in state.list_attachments()? {
        // A damaged record covers nothing that could be named.
        if let Ok(Some(record)) = Record::read_alone(state, &id) {
            covered.insert(record.veth_index);
        }
    }
    let mut rtnl = Rtnl::open(Instant::now() + Duration::from_secs(10))?;
    // A node that is a container itself has a veth as its uplink.
    let uplinks = [Family::V4, Family::V6].map(|f| route::default_route_device(&mut rtnl, f));
    for uplink in uplinks {
        covered.extend(uplink?);
    }
    let mut names: Vec<String> = link::all(&mut rtnl)?
        .into_iter()
        .filter(|link| link.kind.as_deref() == Some("veth") && link.peer_netnsid.is_some())
        .filter(|link| !covered.contains(&link.index))
        .map(|link| link.name)
        .collect();
    names.sort();
    Ok(names)
}

/// `3 pods of this node (veth1, veth2, veth3) ...`; none if all are covered.
pub fn sentence(names: &[String]) -> Option<String> {
    let pods = match names.len() {
        0 => return None,
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    };
    let shown = names.iter().take(10).map(String::as_str);
    let shown: Vec<&str> = shown.collect();
    let more = if names.len() > shown.len() {
        ", ..."
    } else {
        ""
    };
    Some(format!(
        "{pods} of this node (interfaces {}{more}) started while egressway was not in the conflist: they have no policy until they are recreated",
        shown.join(", ")
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
            assert_eq!(uncovered(&state).unwrap(), Vec::<String>::new());
            let pod = new_netns();
            veth("veth1", "eth0", &pod);
            veth("eth0", "eth1", &pod);
            ip("route add default dev eth0");
            assert_eq!(uncovered(&state).unwrap(), ["veth1"]);
        });
    }

    #[test]
    fn how_it_is_said() {
        let names = |n: usize| (0..n).map(|n| format!("v{n}")).collect::<Vec<_>>();
        assert_eq!(sentence(&[]), None);
        let said = |n| sentence(&names(n)).unwrap();
        assert!(said(1).starts_with("1 pod of this node (interfaces v0) started"));
        assert!(said(12).starts_with("12 pods of this node (interfaces v0, v1,"));
        assert!(said(12).contains("v9, ...)"));
    }
}
