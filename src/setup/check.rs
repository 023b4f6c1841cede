//! `egressway install --check`: looks at everything that an installation needs, and changes nothing.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};

use super::config::Config;
use super::policy::{self, InCluster, POLICY_KEY};
use super::program::{InPlace, InstalledProgram};
use super::{coverage, guard, kernel};
use crate::attachment;
use crate::source::PolicyFile;
use crate::store::StateDir;
use netlink::Rtnl;
use rules::fault::shown;

/// How long the kernel may take to tell of a device.
const NETLINK_TIMEOUT: Duration = Duration::from_secs(5);

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rating {
    /// As it should be.
    Good,
    /// An installation would change it.
    Change,
    /// Worth knowing.
    Note,
    /// An installation would stop here.
    Bad,
}

impl fmt::Display for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rating::Good => "ok",
            Rating::Change => "change",
            Rating::Note => "note",
            Rating::Bad => "FAIL",
        })
    }
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// How it stands.
    pub status: Rating,
    /// What was looked at.
    pub what: &'static str,
    /// What was seen.
    pub seen: String,
}

fn item(what: &'static str, status: Rating, seen: impl Into<String>) -> Item {
    Item {
        status,
        what,
        seen: seen.into(),
    }
}

/// Looks at everything.
pub fn check(config: &Config) -> Vec<Item> {
    let mut items = vec![
        kernel_item(),
        guard_item(config),
        services_item(),
        program_item(config),
        policy_item(config),
        api_item(config),
    ];
    items.extend(conflist_items(config));
    items.push(coverage_item(config));
    for (what, dir) in [
        ("bin dir", config.program().parent().map(Path::to_owned)),
        ("conf dir", Some(config.conf_dir.clone())),
        (
            "policy dir",
            config.policy_file.parent().map(Path::to_owned),
        ),
        ("state dir", Some(config.state_dir.clone())),
    ] {
        items.extend(dir.map(|dir| directory_item(what, &dir)));
    }
    items
}

fn kernel_item() -> Item {
    match kernel::check() {
        Ok(()) => item(
            "kernel",
            Rating::Good,
            format!(
                "Linux {} took every rule of a sample policy, in a network namespace of its own",
                kernel::release()
            ),
        ),
        Err(e) => item("kernel", Rating::Bad, e.to_string()),
    }
}

fn guard_item(config: &Config) -> Item {
    match guard::look(config) {
        Ok(found) if found.is_good() => item("checksums", Rating::Good, found.text()),
        Ok(found) => item("checksums", Rating::Note, found.text()),
        Err(e) => item("checksums", Rating::Bad, e.to_string()),
    }
}

fn services_item() -> Item {
    const WHAT: &str = "kube-proxy";
    let deadline = Instant::now() + NETLINK_TIMEOUT;
    match Rtnl::open(deadline).and_then(|mut rtnl| attachment::ipvs(&mut rtnl)) {
        Ok(None) => item(
            WHAT,
            Rating::Good,
            "Services are translated ahead of all rules",
        ),
        Ok(Some(why)) => item(WHAT, Rating::Bad, format!("no pod would start: {why}")),
        Err(e) => item(WHAT, Rating::Bad, e.to_string()),
    }
}

fn program_item(config: &Config) -> Item {
    let mut program = InstalledProgram::at(config.program());
    let looked = program.look();
    let path = shown(program.path());
    let (status, seen) = match looked {
        Ok(InPlace::Nothing) => (Rating::Change, format!("{path} would be written")),
        Ok(InPlace::Same) => {
            let version = env!("CARGO_PKG_VERSION");
            (Rating::Good, format!("{path} is this version, {version}"))
        }
        Ok(InPlace::Other) => (
            Rating::Change,
            format!("{path} is another build and would be replaced"),
        ),
        Err(e) => (Rating::Bad, e.to_string()),
    };
    item("program", status, seen)
}

fn policy_item(config: &Config) -> Item {
    let path = shown(&config.policy_file);
    match PolicyFile::load(&config.policy_file) {
        Ok(_) => item("policy", Rating::Good, format!("{path} is valid")),
        Err(_) if config.cluster.is_some() && !config.policy_file.exists() => item(
            "policy",
            Rating::Change,
            format!("{path} would be written from the ConfigMap"),
        ),
        Err(e) => item("policy", Rating::Bad, e.to_string()),
    }
}

fn api_item(config: &Config) -> Item {
    let Some(cluster) = &config.cluster else {
        return item(
            "API",
            Rating::Note,
            "no service account here: the plugin would not ask the Kubernetes API",
        );
    };
    let name = &cluster.configmap;
    match policy::fetch(config, cluster) {
        Ok(InCluster::Text(text)) => match PolicyFile::parse(&format!("ConfigMap {name}"), &text) {
            Ok(_) => item(
                "API",
                Rating::Good,
                format!(
                    "{} answers; the policy of ConfigMap {name} is valid",
                    cluster.account.server
                ),
            ),
            Err(e) => item("API", Rating::Bad, e.to_string()),
        },
        Ok(InCluster::Missing) => item("API", Rating::Bad, format!("there is no ConfigMap {name}")),
        Ok(InCluster::NoKey) => item(
            "API",
            Rating::Bad,
            format!("ConfigMap {name} has no key {POLICY_KEY}"),
        ),
        Err(e) => item("API", Rating::Bad, e.to_string()),
    }
}

fn conflist_items(config: &Config) -> Vec<Item> {
    let confs = config.confs();
    let look = match confs.look() {
        Ok(look) => look,
        Err(e) => return vec![item("conflist", Rating::Bad, e.to_string())],
    };
    let entry = match config.entry() {
        Ok(entry) => entry,
        Err(e) => return vec![item("conflist", Rating::Bad, e.to_string())],
    };
    let mut items: Vec<Item> = look
        .skipped
        .iter()
        .map(|skipped| item("conflist", Rating::Note, skipped.to_string()))
        .collect();
    items.push(match &look.found {
        None => item(
            "conflist",
            Rating::Bad,
            format!(
                "{} has no configuration that a runtime could use",
                shown(&config.conf_dir)
            ),
        ),
        Some(found) if confs.lack(&entry, &look).is_some() => item(
            "conflist",
            Rating::Change,
            format!(
                "{} would {}get {}",
                shown(&found.path),
                if found.single {
                    "become a .conflist and "
                } else {
                    ""
                },
                entry.as_line()
            ),
        ),
        Some(found) => item(
            "conflist",
            Rating::Good,
            format!("egressway is in {}", shown(&found.path)),
        ),
    });
    items
}

fn coverage_item(config: &Config) -> Item {
    match coverage::uncovered(
        &StateDir::new(&config.state_dir),
        coverage::CNI_CACHE.as_ref(),
    ) {
        Ok(names) => match coverage::sentence(&names) {
            None => item("pods", Rating::Good, "every pod of this node is covered"),
            Some(sentence) => item("pods", Rating::Note, sentence),
        },
        Err(e) => item("pods", Rating::Bad, e.to_string()),
    }
}

/// Whether files can be made in a directory, or in the nearest one above it that is there.
fn directory_item(what: &'static str, dir: &Path) -> Item {
    let there = dir.ancestors().find(|path| path.exists());
    let there = there.unwrap_or(Path::new("/"));
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Err(errno) => item(
            what,
            Rating::Bad,
            format!("{} cannot be written: {}", shown(there), errno.desc()),
        ),
        Ok(()) if there == dir => {
            item(what, Rating::Good, format!("{} can be written", shown(dir)))
        }
        Ok(()) => item(
            what,
            Rating::Change,
            format!("{} would be made", shown(dir)),
        ),
    }
}
