//! Which keys our conflist entry has, and what a misspelt one was meant to be.
//!
//! Runtimes and later specs add keys that we don't know, so an unknown key is no error, unless it
//! looks like one of ours: `policyfile` would otherwise silently mean the default policy.

use crate::json::{self, JsonObject};
use crate::refusal::{CniError, quoted};

/// Every key of ours, beside the spec's `type` and `capabilities`.
pub const OURS: [&str; 10] = [
    "policyFile",
    "kubernetes",
    "stateDir",
    "uplink",
    "logGroup",
    "logLevel",
    "logFile",
    "unenforceable",
    "arpProbe",
    "forgedChecksums",
];

/// Keys of the spec and of libcni, which are never misspelt ones of ours. `cni.dev/` is the spec's, too.
const STANDARD: [&str; 14] = [
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "ipMasq",
    "loadOnlyInlinedPlugins",
    "name",
    "prevResult",
    "runtimeConfig",
    "type",
];

const KUBERNETES: [&str; 5] = [
    "kubeconfig",
    "timeout",
    "whenUnreachable",
    "snapshotMaxAge",
    "nodeName",
];

/// Whether an entry whose `type` is ours may be ours: of its own keys, it has none, or at least one that we know. Another
/// program of that name has others.
pub fn may_be_ours<'k>(keys: impl IntoIterator<Item = &'k str>) -> bool {
    let standard = |key: &&str| STANDARD.contains(key) || key.starts_with("cni.dev/");
    let mut own = keys.into_iter().filter(|key| !standard(key)).peekable();
    // A misspelt one is for the plugin to refuse, by name.
    own.peek().is_none() || own.any(|key| OURS.contains(&key) || meant_key(key, &OURS).is_some())
}

/// The most edits between a misspelt key and the one it was meant to be.
const MAX_EDITS: usize = 2;

/// # Errors
/// Code 7 for the first key that looks like one of ours and isn't.
pub fn misspelt(entry: &JsonObject<'_>) -> Result<(), CniError> {
    for key in entry.keys() {
        if OURS.contains(&key.as_str())
            || STANDARD.contains(&key.as_str())
            || key.starts_with("cni.dev/")
        {
            continue;
        }
        if let Some(meant) = meant_key(key, &OURS) {
            return Err(json::invalid(
                &quoted(key),
                &format!("unknown key, did you mean \"{meant}\"?"),
            ));
        }
    }
    Ok(())
}

/// # Errors
/// Code 7 for the first unknown key of the `kubernetes` object: nobody but us writes there.
pub fn only_kubernetes(object: &JsonObject<'_>) -> Result<(), CniError> {
    match object
        .keys()
        .find(|key| !KUBERNETES.contains(&key.as_str()))
    {
        None => Ok(()),
        Some(key) => Err(json::invalid(
            &format!("kubernetes: {}", quoted(key)),
            &match meant_key(key, &KUBERNETES) {
                Some(meant) => format!("unknown key, did you mean \"{meant}\"?"),
                None => format!("unknown key, expected one of {}", KUBERNETES.join(", ")),
            },
        )),
    }
}

fn meant_key(key: &str, known: &[&'static str]) -> Option<&'static str> {
    // No key of ours is that long; a distance to a huge key would take long.
    if key.len() > 64 {
        return None;
    }
    let plain = |key: &str| key.replace(['_', '-'], "").to_lowercase();
    known
        .iter()
        .map(|known| (strsim::osa_distance(&plain(key), &plain(known)), *known))
        .filter(|(edits, _)| *edits <= MAX_EDITS)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_misspelt_key_was_meant_to_be() {
        for (key, meant) in [
            ("policyfile", "policyFile"),
            ("policy_file", "policyFile"),
            ("policy-file", "policyFile"),
            ("PolicyFile", "policyFile"),
            ("policyFiles", "policyFile"),
            ("polciyFile", "policyFile"),
            ("statedir", "stateDir"),
            ("stateDirs", "stateDir"),
            ("kuberntes", "kubernetes"),
            ("upLink", "uplink"),
            ("log_group", "logGroup"),
            ("loglevl", "logLevel"),
            ("LOGFILE", "logFile"),
            ("unenforcable", "unenforceable"),
            ("forgedChecksum", "forgedChecksums"),
        ] {
            assert_eq!(meant_key(key, &OURS), Some(meant), "{key}");
        }
    }

    #[test]
    fn other_plugins_keys_are_not_ours() {
        let long = "uplink".repeat(20);
        // Seen in real conflists, of whatever plugin.
        for key in [
            "bridge",
            "isGateway",
            "hairpinMode",
            "mtu",
            "delegate",
            "policy",
            "log_path",
            "pluginLogFile",
            "pluginLogLevel",
            "nodename",
            "datastore_type",
            "myKey",
            "master",
            "vlan",
            "snat",
            "debug",
            "",
            &long,
        ] {
            assert_eq!(meant_key(key, &OURS), None, "{key}");
        }
        for key in STANDARD {
            assert_eq!(
                meant_key(key, &OURS),
                None,
                "{key} would not need its exception"
            );
        }
    }
}
