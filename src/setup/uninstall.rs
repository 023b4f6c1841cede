//! Takes off the node what was put there, in an order in which at no time something is called that is
//! not there any more.

use std::time::{Duration, Instant};

use super::config::Config;
use super::program::InstalledProgram;
use super::{files, policy};
use crate::egress;
use crate::enforce;
use crate::lifecycle::ByLeases;
use crate::store::StateDir;
use netlink::Rtnl;
use nft::Nft;
use rules::fault::shown;

/// How long the kernel and other calls of the plugin may keep us.
const LIMIT: Duration = Duration::from_secs(20);

/// Removes everything but the program itself: runtimes call it from configurations that they keep
/// (CRI-O does, for every pod that was started with it), and it answers DEL with success whatever
/// is missing. Goes on after a failure; returns all of them.
pub fn uninstall(config: &Config) -> Vec<String> {
    let mut failures = Vec::new();
    let (changed, failed) = config.confs().remove();
    for path in changed {
        tracing::info!("removed egressway from {}", shown(&path));
    }
    failures.extend(failed);
    let mut note = |outcome: Result<(), String>| failures.extend(outcome.err());

    let deadline = Instant::now() + LIMIT;
    let state = StateDir::new(&config.state_dir);
    {
        // A pod's ADD that is under way ends first.
        let lock = state.lock(deadline);
        note(delete_tables());
        drop(lock);
    }
    note(unguard(&state, deadline));
    for failure in egress::give_back_all(&state, &ByLeases, deadline) {
        note(Err(failure));
    }
    note(files::remove_tree(&config.state_dir).map_err(|e| e.to_string()));
    note(policy::remove_ours(config).map_err(|e| e.to_string()));
    note(files::remove_tree(&config.own_dir()).map_err(|e| e.to_string()));
    if !config.program().exists() {
        let put = InstalledProgram::at(config.program()).put();
        note(put.map(drop).map_err(|e| e.to_string()));
    }
    failures
}

/// Leaves the veths of pods that go on as they were before.
fn unguard(state: &StateDir, deadline: Instant) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("the veths of pods keep their guards: {e}");
    let mut rtnl = Rtnl::open(deadline).map_err(|e| failed(&e))?;
    // What can't be read is no reason to leave the others.
    for (_, record) in state.records().map_err(|e| failed(&e))? {
        let removed = record.guard.remove(&mut rtnl, record.veth_index);
        removed.map_err(|e| failed(&e))?;
    }
    Ok(())
}

fn delete_tables() -> Result<(), String> {
    Nft::open()
        .and_then(|mut nft| enforce::remove_all(&mut nft))
        .map_err(|e| format!("cannot remove the tables: {e}"))
}
