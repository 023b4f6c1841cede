//! ADD: the pod's egress is enforced when this returns, or nothing of it is left.

use std::time::Instant;

use super::Invocation;
use crate::attachment::result::PodResult;
use crate::cluster::TimeLimit;
use crate::conf::{Conf, PodAnnotations, WhenUnenforceable, WhenUnreachable};
use crate::egress::Member;
use crate::lifecycle::ByLeases;
use crate::lifecycle::attach::{Attach, Error};
use crate::lifecycle::policy::{self, Sources};
use crate::refusal::CniError;
use crate::source::{Snapshots, api};
use crate::store::StateDir;

/// # Errors
/// Code 4: `CNI_ARGS`; 7: the conflist, or the way to the API; 8: the namespace; 11: trying again can help; 100: a policy text; 101: this
/// pod's packets would not be seen; 102: no egress IP; 103: the kernel refused; 5: the state directory.
pub fn add(call: &Invocation, conf: &Conf, deadline: Instant) -> Result<(), CniError> {
    let state = StateDir::new(&conf.state_dir);
    let sources = sources(call, conf, &state, deadline);
    let policy = policy::of_pod(&sources, &state)?;
    let Some(prev_result) = &conf.prev_result else {
        return Err(CniError::invalid_config("prevResult is missing"));
    };
    let attach = Attach {
        state: &state,
        who: call.who(conf),
        netns: &call.netns,
        may_be_own_netns: call.netns_override,
        result: &PodResult::parse(prev_result, &call.ifname, &call.netns)?,
        uplink: conf.uplink.as_deref(),
        member: conf.kubernetes.as_ref().map(|api| Member {
            kubeconfig: api.kubeconfig.clone(),
            node: api.node_name(),
        }),
        registry: &ByLeases,
        arp_probe: conf.arp_probe,
        forged_checksums: conf.forged_checksums,
        log_group: conf.log_group,
        rules_ignored: sources.ignored(&policy.head),
        deadline,
    };
    match attach.run(&policy) {
        Ok(()) => Ok(()),
        Err(Error::Unenforceable(why)) if conf.unenforceable == WhenUnenforceable::Allow => {
            tracing::warn!(
                "this pod runs without any egress policy, as the conflist allows: {why}"
            );
            Ok(())
        }
        Err(Error::Unenforceable(why)) => Err(CniError::unenforceable(format!(
            "this pod's egress cannot be enforced here: {why}. Set `unenforceable: allow` in the conflist to run such pods without any policy"
        ))),
        Err(Error::Failed(e)) => Err(e),
    }
}

/// Where the pod's policy comes from.
fn sources<'a>(
    call: &'a Invocation,
    conf: &'a Conf,
    state: &'a StateDir,
    deadline: Instant,
) -> Sources<'a> {
    Sources {
        file: &conf.policy_file,
        api: conf.kubernetes.as_ref().map(|api| api::Access {
            kubeconfig: &api.kubeconfig,
            limit: TimeLimit::overall(api.timeout, deadline),
            snapshots: Snapshots {
                state,
                max_age: api.snapshot_max_age,
                used: api.when_unreachable == WhenUnreachable::Snapshot,
            },
        }),
        namespace: call.args.namespace.as_deref(),
        pod: call.args.name.as_deref(),
        uid: call.args.uid.as_deref(),
        annotations: match &conf.pod_annotations {
            PodAnnotations::Present(annotations) => Some(annotations),
            PodAnnotations::Absent => None,
        },
        log_group: conf.log_group,
    }
}
