//! Gives attachments that are there other policies, while their pods run.
//!
//! What is new is put into the kernel first, where nobody is led to it; then the records are written, then all
//! attachments are led to their new policies in one transaction, and last what nobody has any more is
//! taken away. So whoever is killed in between leaves each pod with its old policy or its new one, whole;
//! the record says which it should be, and `sync` brings it there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::policy;
use crate::enforce::{self, Ledger, Move};
use crate::plan::{self, Base, Compiled, LAYOUT};
use crate::refusal::{CniError, nft_failure};
use crate::source::PodPolicy;
use crate::store::{AttachmentId, GroupName, PolicyHead, PolicyKey, Record, StateDir, StateError};
use nft::Nft;
use rules::stored::StoredPolicy;

/// How long to wait for the state directory's lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// A policy that attachments shall have.
#[derive(Debug)]
pub struct Wanted {
    /// Under which it is stored.
    pub key: PolicyKey,
    /// What has to be known of it in any case.
    pub head: PolicyHead,
    /// The policy.
    pub policy: PodPolicy,
    log_group: u16,
}

impl Wanted {
    /// With the NFLOG group of its log rules.
    pub fn new(policy: PodPolicy, log_group: u16) -> Wanted {
        let head = policy::head(&policy, log_group);
        Wanted {
            key: policy::outcome_key(&head, &policy, log_group),
            head,
            policy,
            log_group,
        }
    }
}

/// An attachment, and the policy that it shall have.
#[derive(Debug, Clone)]
pub struct PolicyChange {
    /// Which.
    pub id: AttachmentId,
    /// Its policy from now on.
    pub wanted: Arc<Wanted>,
}

/// What has become of changes.
#[derive(Debug, Default)]
pub struct Switched {
    /// The attachments that have their new policies.
    pub done: Vec<AttachmentId>,
    /// Those that have their old ones still, and why.
    pub failed: Vec<(AttachmentId, CniError)>,
}

impl Switched {
    fn fail(&mut self, ids: impl IntoIterator<Item = AttachmentId>, error: &CniError) {
        let failed = ids.into_iter().map(|id| (id, error.clone()));
        self.failed.extend(failed);
    }
}

/// Makes these changes, each or none of it. An attachment that goes meanwhile, that another version has made, or that has
/// its policy already, is left out.
///
/// # Errors
/// The state directory can't be locked, or the kernel can't be asked: nothing was changed.
pub fn switch(state: &StateDir, changes: &[PolicyChange]) -> Result<Switched, CniError> {
    let mut outcome = Switched::default();
    let mut wanted: BTreeMap<&PolicyKey, &Wanted> = BTreeMap::new();
    for change in changes {
        wanted.insert(&change.wanted.key, &change.wanted);
    }
    // It takes as long as a policy is big: nobody has to wait for that.
    let compiled: BTreeMap<&PolicyKey, Compiled> = wanted
        .iter()
        .map(|(key, wanted)| {
            (
                *key,
                plan::compile(&wanted.policy.effective, wanted.log_group),
            )
        })
        .collect();
    let mut nft = Nft::open().map_err(nft_failure)?;
    let mut refused: BTreeMap<&PolicyKey, CniError> = BTreeMap::new();
    let based = {
        let _lock = state.lock(Instant::now() + PATIENCE)?;
        rebase(&mut nft, state, wanted.values().copied())
    };
    if let Err(e) = based {
        outcome.fail(changes.iter().map(|change| change.id.clone()), &e);
        return Ok(outcome);
    }
    // Big ones come in pieces, and others' calls in between.
    let mut ahead = Vec::new();
    for (wanted, (key, policy)) in wanted.values().zip(&compiled) {
        let base = &wanted.head.base;
        match enforce::put_ahead(&mut nft, state, base, policy, Instant::now() + PATIENCE) {
            Ok(put) => ahead.extend(put),
            Err(e) => {
                refused.insert(key, e);
            }
        }
    }
    let locked = state.lock(Instant::now() + PATIENCE)?;
    let mut ledger = Ledger::open(state, &mut nft).map_err(nft_failure)?;
    for (key, policy) in &compiled {
        if refused.contains_key(key) {
            continue;
        }
        if let Err(e) = enforce::put(&mut nft, &mut ledger, policy) {
            refused.insert(key, nft_failure(e));
        }
    }
    let mut moved = Vec::new();
    for change in changes {
        let PolicyChange { id, wanted } = change;
        if let Some(error) = refused.get(&wanted.key) {
            outcome.fail([id.clone()], error);
            continue;
        }
        match write(state, id, wanted) {
            Ok(Some(before)) => moved.push((change, before)),
            Ok(None) => {}
            Err(e) => outcome.fail([id.clone()], &e),
        }
    }
    let moves: Vec<Move<'_>> = moved
        .iter()
        .filter_map(|(change, _)| {
            let policy = compiled.get(&change.wanted.key)?;
            let id = change.id.as_str();
            Some(Move { id, policy })
        })
        .collect();
    let switched = enforce::switch_all(&mut nft, &mut ledger, &moves).map_err(nft_failure);
    let mut groups = BTreeSet::new();
    for (change, before) in moved {
        groups.extend(before.names.iter().flat_map(|names| names.groups.clone()));
        let id = &change.id;
        let unneeded = match &switched {
            Ok(()) => {
                outcome.done.push(id.clone());
                &before.policy
            }
            Err(e) => {
                outcome.fail([id.clone()], e);
                let undone = state.write_attachment(id, &before);
                undone.unwrap_or_else(|e| tracing::warn!("{e}"));
                &change.wanted.key
            }
        };
        let released = state.release_policy(id, unneeded);
        released.unwrap_or_else(|e| tracing::warn!("{e}"));
    }
    let groups: Vec<GroupName> = groups.into_iter().collect();
    if let Err(e) = enforce::remove_names(&mut nft, &mut ledger, &groups) {
        tracing::warn!("sets of domain names may stay until sync: {e}");
    }
    drop(locked);
    // Those that nobody has got.
    for put in ahead {
        put.take_back(&mut nft, Instant::now() + PATIENCE);
    }
    Ok(outcome)
}

/// The base that these policies need. One node has one policy file, so they agree.
fn rebase<'a>(
    nft: &mut Nft,
    state: &StateDir,
    wanted: impl Iterator<Item = &'a Wanted>,
) -> Result<(), CniError> {
    let mut ledger = Ledger::open(state, nft).map_err(nft_failure)?;
    let mut seen = BTreeSet::new();
    for wanted in wanted {
        if seen.insert(&wanted.head.base) {
            let base = Base::new(&wanted.policy.effective.facts.cluster);
            enforce::rebase(nft, &mut ledger, &base).map_err(nft_failure)?;
        }
    }
    Ok(())
}

/// Writes the record as it shall be, and gives back what it was; none if there is nothing to do.
fn write(
    state: &StateDir,
    id: &AttachmentId,
    wanted: &Wanted,
) -> Result<Option<Record<PolicyKey>>, CniError> {
    let Some(before) = Record::read_alone(state, id)? else {
        return Ok(None); // its DEL was faster
    };
    if before.layout != LAYOUT || before.id != *id || before.policy == wanted.key {
        return Ok(None);
    }
    let is_new = state.policy_head(&wanted.key).is_none();
    state.keep_policy(id, &wanted.key, is_new, || {
        let rules = StoredPolicy::from(&wanted.policy.effective);
        Ok::<_, StateError>((wanted.head.clone(), rules))
    })?;
    let record = Record {
        exempt: wanted.head.exempt,
        policy_chain: wanted.head.chain.clone(),
        names: wanted.head.names.clone(),
        policy: wanted.key.clone(),
        ..before.clone()
    };
    let written = state.write_attachment(id, &record);
    if let Err(e) = written {
        let released = state.release_policy(id, &wanted.key);
        released.unwrap_or_else(|e| tracing::warn!("{e}"));
        return Err(e.into());
    }
    Ok(Some(before))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use netlink::test_support::{in_fresh_netns, run};
    use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
    use serde_json::json;

    const ID: &str = "0123456789abcdef";

    fn wanted(rules: usize) -> Arc<Wanted> {
        let mut text = String::new();
        for n in 0..rules {
            let port = n + 1;
            writeln!(text, "deny {port}/tcp to 10.1.{}.7 log", n % 256).expect("a string");
        }
        let tier = TierRules::parse(Tier::Pod, "test", &text, false).expect("valid rules");
        let facts = Facts::default();
        let effective = Effective::new(vec![tier], DefaultAction::Allow, false, facts);
        let policy = PodPolicy {
            effective: effective.expect("no unknown names"),
            exempt: false,
            egress: Vec::new(),
            start_without_agent: false,
        };
        Arc::new(Wanted::new(policy, 100))
    }

    fn running(state: &StateDir, id: &AttachmentId) {
        let record = json!({
            "layout": LAYOUT, "network": "net", "containerID": "c", "ifname": "eth0",
            "namespace": null, "pod": null, "uid": null, "exempt": false,
            "vethIndex": 7, "uplink": null, "logGroup": 100, "guard": {"action": "ignore"},
            "id": ID, "veth": "host0", "mac": "02:00:00:00:00:01", "addresses": ["10.1.0.2"],
            "linkLocal": [], "bridge": null, "policyChain": "pol-1", "egressIPs": [],
            "policy": "0123456789abcdef0123456789abcdef",
        });
        let record: Record<PolicyKey> = serde_json::from_value(record).expect("a record");
        state.write_attachment(id, &record).expect("write");
    }

    /// While thousands of elements go into the kernel, others' pods start.
    #[test]
    fn a_big_policy_of_a_running_pod_comes_in_pieces() {
        in_fresh_netns(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let (state, id) = (StateDir::new(dir.path()), ID.parse().expect("an id"));
            running(&state, &id);
            let mut nft = Nft::open().expect("a socket");
            let change = |rules| PolicyChange {
                id: ID.parse().expect("an id"),
                wanted: wanted(rules),
            };
            let took = |nft: &mut Nft, change: &PolicyChange| {
                let before = nft.generation().expect("told");
                let outcome = switch(&state, std::slice::from_ref(change)).expect("done");
                assert_eq!(outcome.done, std::slice::from_ref(&change.id));
                nft.generation().expect("told") - before
            };
            took(&mut nft, &change(1));
            run(
                "nft",
                &["add", "chain", "inet", "egressway", &format!("pod-{ID}")],
            );
            let (small, big) = (change(2), change(5000));
            let few = took(&mut nft, &small);
            let many = took(&mut nft, &big);
            assert!(many > few + 2, "{few} and {many} transactions");
            let led = nft.goto_of(&plan::INET, &format!("pod-{ID}"));
            let chain = &big.wanted.head.chain;
            assert_eq!(led.expect("told").as_ref(), Some(chain));
            assert!(enforce::being_put(&state).is_empty());

            // The pod is gone by the time that its policy is there.
            run(
                "nft",
                &["flush", "chain", "inet", "egressway", &format!("pod-{ID}")],
            );
            run(
                "nft",
                &["delete", "chain", "inet", "egressway", &format!("pod-{ID}")],
            );
            let other = change(5001);
            took(&mut nft, &other);
            let left = nft.chain(&plan::INET, &other.wanted.head.chain);
            assert!(left.expect("told").is_none());
        });
    }
}
