//! ADD: the pod's egress is enforced when this returns, or nothing of it is left.

use std::borrow::Cow;
use std::time::Instant;

use crate::attachment::{self, Attachment, LAYOUT, Record, Rules};
use crate::egress::lease::Access;
use crate::egress::{self, Claim};
use crate::lifecycle::attach::{Installation, Shared};
use crate::plan::{self, AttachmentPlan, Base};
use crate::store::{self, AttachmentId, StateDir};
use netlink::{Netns, Rtnl, link};
use nft::Nft;
use rules::stored::StoredPolicy;

use super::Invocation;
use super::policy::{self, Head, Policy};
use crate::attachment::result::PodResult;
use crate::conf::Conf;
use crate::conf::WhenUnenforceable;
use crate::refusal::CniError;
use crate::refusal::{net_failure, nft_failure};

/// # Errors
/// Code 4: `CNI_ARGS`; 7: the conflist, or the way to the API; 8: the namespace; 11: trying again can help; 100: a policy text; 101: this
/// pod's packets would not be seen; 102: no egress IP; 103: the kernel refused; 5: the state directory.
pub fn add(call: &Invocation, conf: &Conf, deadline: Instant) -> Result<(), CniError> {
    let state = StateDir::new(&conf.state_dir);
    let policy = policy::of_pod(call, conf, &state, deadline)?;
    let Some(prev_result) = &conf.prev_result else {
        return Err(CniError::invalid_config("prevResult is missing"));
    };
    let result = PodResult::parse(prev_result, &call.ifname, &call.netns)?;
    let mut nft = Nft::open().map_err(nft_failure)?;
    let netns = open_netns(call, &nft)?;
    let failed = |e| net_failure("look at the pod's network", e);
    let mut rtnl = Rtnl::open(deadline).map_err(failed)?;
    let inspected =
        attachment::inspect(&mut nft, &mut rtnl, &netns, &call.ifname, &result, deadline);
    let attachment = match inspected {
        Ok(attachment) => attachment,
        Err(attachment::Error::Unenforceable(why))
            if conf.unenforceable == WhenUnenforceable::Allow =>
        {
            tracing::warn!(
                "this pod runs without any egress policy, as the conflist allows: {why}"
            );
            return Ok(());
        }
        Err(attachment::Error::Unenforceable(why)) => {
            return Err(CniError::unenforceable(format!(
                "this pod's egress cannot be enforced here: {why}. Set `unenforceable: allow` in the conflist to run such pods without any policy"
            )));
        }
        Err(attachment::Error::Nft(e)) => return Err(nft_failure(e)),
        Err(attachment::Error::Net(e)) => return Err(failed(e)),
    };
    uplink_exists(&mut rtnl, conf, &policy.head)?;
    let id = store::attachment_id(&conf.name, &call.container_id, &call.ifname);
    let claim = claim(call, conf, &state, &id, &policy.head, &attachment, deadline)?;
    let plan = attachment.plan(&id, &policy.head.chain, claim.addresses.clone());
    let record = record(call, conf, &attachment, plan, &policy, &claim);
    let before = Record::read_alone(&state, &id).unwrap_or_default();
    let shared = Shared {
        base: &|| {
            let cluster = &policy.read()?.effective.facts.cluster;
            Ok(Cow::Owned(Base::new(cluster)))
        },
        policy: &|| {
            let policy = &policy.read()?.effective;
            Ok(Cow::Owned(plan::compile(policy, conf.log_group)))
        },
    };
    let installed = state
        .lock(deadline)
        .map_err(CniError::from)
        .and_then(|_lock| {
            let before = before.as_ref();
            keep_policy(&state, &id, &policy)?;
            let installation = Installation {
                state: &state,
                id: &id,
                record: &record,
                before,
                base: &policy.head.base,
                shared,
                deadline,
            };
            let done = installation.run(&mut nft);
            let old = before.and_then(Record::policy_key);
            if old != Some(&policy.key) {
                let unneeded = if done.is_ok() { old } else { Some(&policy.key) };
                let released = unneeded.map_or(Ok(()), |key| state.release_policy(&id, key));
                released.unwrap_or_else(|e| tracing::warn!("{e}"));
            }
            done
        });
    if installed.is_err() && before.is_none() {
        drop(claim); // it holds the locks that giving back needs
        egress::give_back(&state, &id, deadline);
    }
    installed
}

fn keep_policy(state: &StateDir, id: &AttachmentId, policy: &Policy<'_>) -> Result<(), CniError> {
    state.keep_policy(id, &policy.key, policy.is_new, || {
        let rules = StoredPolicy::from(&policy.read()?.effective);
        Ok((&policy.head, rules))
    })
}

/// `own`: a socket in the plugin's own namespace.
fn open_netns(call: &Invocation, own: &Nft) -> Result<Netns, CniError> {
    let invalid = |e| CniError::invalid_netns(format!("CNI_NETNS: {e}"));
    let netns = Netns::open(&call.netns).map_err(invalid)?;
    let failed = |e| net_failure("tell the pod's network from the node's", e);
    if !call.netns_override && netns.has(own).map_err(failed)? {
        return Err(CniError::invalid_netns(format!(
            "CNI_NETNS {} is the plugin's own network namespace, not a pod's",
            call.netns.display()
        )));
    }
    Ok(netns)
}

/// A wrong `uplink` is said at the first pod, not only at the first one with an egress IP.
fn uplink_exists(rtnl: &mut Rtnl, conf: &Conf, policy: &Head) -> Result<(), CniError> {
    let Some(name) = &conf.uplink else {
        return Ok(());
    };
    let failed = |e| net_failure("look for the uplink", e);
    if link::get_by_name(rtnl, name).map_err(failed)?.is_some() {
        return Ok(());
    }
    let message = format!(
        "`uplink` in the conflist is {name:?}, and this node has no such device: correct it, or leave it out to use the default route's"
    );
    Err(if policy.egress.is_empty() {
        CniError::invalid_config(message)
    } else {
        CniError::egress_ip(message)
    })
}

fn claim(
    call: &Invocation,
    conf: &Conf,
    state: &StateDir,
    id: &AttachmentId,
    policy: &Head,
    attachment: &Attachment,
    deadline: Instant,
) -> Result<Claim, CniError> {
    let request = egress::Request {
        state,
        id,
        namespace: call.args.namespace.as_deref().unwrap_or_default(),
        uplink: conf.uplink.as_deref(),
        leases: conf.kubernetes.as_ref().map(|api| Access {
            kubeconfig: api.kubeconfig.clone(),
            node: api.node_name(),
        }),
        deadline,
    };
    request.take(
        &policy.egress,
        attachment.has_family(true),
        attachment.has_family(false),
    )
}

fn record(
    call: &Invocation,
    conf: &Conf,
    attachment: &Attachment,
    plan: AttachmentPlan,
    policy: &Policy<'_>,
    claim: &Claim,
) -> Record<Rules> {
    Record {
        layout: LAYOUT,
        network: conf.name.clone(),
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
        namespace: call.args.namespace.clone(),
        pod: call.args.name.clone(),
        uid: call.args.uid.clone(),
        exempt: policy.head.exempt,
        veth_index: attachment.veth.index,
        uplink: claim.uplink,
        log_group: conf.log_group,
        plan,
        policy: Rules::File(policy.key.clone()),
    }
}
