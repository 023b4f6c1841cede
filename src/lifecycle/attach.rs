//! Attaches a pod: when this returns, its egress is enforced, or nothing of it is left.

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

use super::install::install;
use super::named;
use super::node::Node;
use super::policy::Policy;
use crate::attachment::result::PodResult;
use crate::attachment::{self, Attachment, Unenforceable, Who};
use crate::egress::{self, Claim, Claimant, Member, Registry};
use crate::enforce::{self, Ledger, Shared};
use crate::guard::{self, Guard};
use crate::plan::{self, Base, Compiled, LAYOUT};
use crate::refusal::{CniError, net_failure, nft_failure};
use crate::store::document::Unknown;
use crate::store::{AttachmentId, PolicyHead, PolicyKey, Record, StateDir, StateError};
use netlink::{Netns, Rtnl, link};
use nft::{Family, Nft};
use rules::fault::shown;
use rules::stored::StoredPolicy;

/// An interface of a pod, to be enforced from now on.
pub struct Attach<'a> {
    /// The state directory.
    pub state: &'a StateDir,
    /// Whose interface it is.
    pub who: Who<'a>,
    /// The pod's network namespace.
    pub netns: &'a Path,
    /// It may be the namespace of this process.
    pub may_be_own_netns: bool,
    /// What the plugins before say of the pod.
    pub result: &'a PodResult,
    /// The conflist's `uplink`.
    pub uplink: Option<&'a str>,
    /// In a cluster: this node, as its nodes agree on who has which egress address.
    pub member: Option<Member>,
    /// Where they agree on that.
    pub registry: &'a dyn Registry,
    /// The conflist's `arpProbe`.
    pub arp_probe: bool,
    /// The NFLOG group of its log rules.
    pub log_group: u16,
    /// The pod has rules that its namespace's exemption makes void.
    pub rules_ignored: bool,
    /// What is done about packets that would be written behind the rules.
    pub forged_checksums: guard::Mode,
    /// When to give up.
    pub deadline: Instant,
}

/// Why a pod was not attached.
#[derive(Debug)]
pub enum Error {
    /// Its packets would not be seen. Nothing was changed.
    Unenforceable(Unenforceable),
    /// Anything else.
    Failed(CniError),
}

impl<E: Into<CniError>> From<E> for Error {
    fn from(error: E) -> Self {
        Error::Failed(error.into())
    }
}

impl Attach<'_> {
    /// Looks at the pod, takes its egress addresses, and has its rules enforced. May be repeated.
    ///
    /// # Errors
    /// Code 8: the namespace; 7: the uplink; 11: trying again can help; 102: no egress IP; 103: the kernel refused;
    /// 5: the state directory.
    pub fn run(&self, policy: &Policy<'_>) -> Result<(), Error> {
        let mut nft = Nft::open().map_err(nft_failure)?;
        let netns = self.open_netns(&nft)?;
        let failed = |e| net_failure("look at the pod's network", e);
        let mut rtnl = Rtnl::open(self.deadline).map_err(failed)?;
        let inspected = attachment::inspect(
            &mut nft,
            &mut rtnl,
            &netns,
            self.who.ifname,
            self.result,
            self.deadline,
        );
        let attachment = inspected.map_err(|e| match e {
            attachment::Error::Unenforceable(why) => Error::Unenforceable(why),
            attachment::Error::Nft(e) => nft_failure(e).into(),
            attachment::Error::Net(e) => failed(e).into(),
        })?;
        self.uplink_exists(&mut rtnl, &policy.head)?;
        named::check(&mut rtnl, policy)?;
        let id = self.who.id();
        let claim = self.claim(&id, &policy.head, &attachment)?;
        let before = Record::read_alone(self.state, &id).unwrap_or_default();
        let before = before.as_ref();
        let place = guard::Ends {
            veth: &attachment.veth,
            netns: &netns,
        };
        let guarded = self.guard(&mut rtnl, &place, before);
        let installed = guarded.and_then(|guard| {
            let mut record = self.record(&id, &attachment, policy, &claim, guard);
            if let Some(before) = before {
                record.unknown.clone_from(&before.unknown);
            }
            let installed = self.install(&mut nft, &mut rtnl, &id, &record, before, policy);
            if installed.is_err() {
                self.unguard(&mut rtnl, &place, &record, before);
            }
            Ok(installed?)
        });
        if installed.is_err() && before.is_none() {
            drop(claim); // it holds the locks that giving back needs
            egress::give_back(self.state, self.registry, &id, self.deadline);
        }
        installed
    }

    /// Ahead of all rules, and before they let anything through.
    fn guard(
        &self,
        rtnl: &mut Rtnl,
        place: &guard::Ends<'_>,
        before: Option<&Record<PolicyKey>>,
    ) -> Result<Guard, Error> {
        let before = before.map(|record| &record.guard);
        let guard = Guard::put(self.forged_checksums, self.state, rtnl, place, before);
        guard.map_err(|e| match e {
            guard::Error::NotFirst { veth, kind } => {
                Error::Unenforceable(Unenforceable::NotFirst { veth, kind })
            }
            guard::Error::Net(e) => net_failure("guard the pod's veth", e).into(),
            e => CniError::kernel(e.to_string()).into(),
        })
    }

    /// The guard as it was before.
    fn unguard(
        &self,
        rtnl: &mut Rtnl,
        place: &guard::Ends<'_>,
        record: &Record<PolicyKey>,
        before: Option<&Record<PolicyKey>>,
    ) {
        let guard = &record.guard;
        let done = match before.map(|before| before.guard.mode()) {
            Some(mode) => Guard::put(mode, self.state, rtnl, place, Some(guard)).map(drop),
            None => guard.remove(rtnl, place.veth.index),
        };
        done.unwrap_or_else(|e| tracing::warn!("{e}"));
    }

    /// With the policy's file, which has the attachment's name as long as its record says so.
    fn install(
        &self,
        nft: &mut Nft,
        rtnl: &mut Rtnl,
        id: &AttachmentId,
        record: &Record<PolicyKey>,
        before: Option<&Record<PolicyKey>>,
        policy: &Policy<'_>,
    ) -> Result<(), CniError> {
        let state = self.state;
        let compile = || -> Result<Compiled, CniError> {
            let policy = &policy.read()?.effective;
            Ok(plan::compile(policy, self.log_group))
        };
        // It takes as long as a policy is big: nobody has to wait for that.
        let known = Ledger::open(state, nft).map_err(nft_failure)?;
        let is_needed = policy.is_new || !known.has(&policy.head.chain);
        let compiled = is_needed.then(compile).transpose()?;
        let stored = || -> Result<StoredPolicy, CniError> {
            Ok(StoredPolicy::from(&policy.read()?.effective))
        };
        let mut rules = policy.is_new.then(stored).transpose()?;
        let marker = &policy.head.base;
        let ahead = match &compiled {
            Some(compiled) => enforce::put_ahead(nft, state, marker, compiled, self.deadline)?,
            None => None,
        };
        let shared = Shared {
            marker,
            base: &|| {
                let cluster = &policy.read()?.effective.facts.cluster;
                Ok(Cow::Owned(Base::new(cluster)))
            },
            policy: &|| match &compiled {
                Some(compiled) => Ok(Cow::Borrowed(compiled)),
                None => compile().map(Cow::Owned),
            },
        };
        let mut under_lock = || {
            let _lock = state.lock(self.deadline)?;
            state.keep_policy(id, &policy.key, policy.is_new, || {
                let rules = rules.take().map_or_else(stored, Ok)?;
                Ok::<_, CniError>((policy.head.clone(), rules))
            })?;
            let mut node = Node {
                state,
                nft,
                rtnl,
                deadline: self.deadline,
            };
            let done = install(&mut node, id, record, before, &shared);
            let old = before.map(|record| &record.policy);
            if old != Some(&policy.key) {
                let unneeded = if done.is_ok() { old } else { Some(&policy.key) };
                let released = unneeded.map_or(Ok(()), |key| state.release_policy(id, key));
                released.unwrap_or_else(|e: StateError| tracing::warn!("{e}"));
            }
            done
        };
        let done = under_lock();
        if let (Err(_), Some(ahead)) = (&done, ahead) {
            ahead.take_back(nft, self.deadline);
        }
        done
    }

    /// `own`: a socket in this process's own namespace.
    fn open_netns(&self, own: &Nft) -> Result<Netns, CniError> {
        let invalid = |e| CniError::invalid_netns(format!("CNI_NETNS: {e}"));
        let netns = Netns::open(self.netns).map_err(invalid)?;
        let failed = |e| net_failure("compare the pod's network namespace with the node's", e);
        if !self.may_be_own_netns && netns.has(own).map_err(failed)? {
            return Err(CniError::invalid_netns(format!(
                "CNI_NETNS {} is the plugin's own network namespace, not a pod's",
                shown(self.netns)
            )));
        }
        Ok(netns)
    }

    /// A wrong `uplink` is said at the first pod, not only at the first one with an egress IP.
    fn uplink_exists(&self, rtnl: &mut Rtnl, policy: &PolicyHead) -> Result<(), CniError> {
        let Some(name) = self.uplink else {
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
        &self,
        id: &AttachmentId,
        policy: &PolicyHead,
        attachment: &Attachment,
    ) -> Result<Claim, CniError> {
        let claimant = Claimant {
            state: self.state,
            id,
            namespace: self.who.namespace.unwrap_or_default(),
            uplink: self.uplink,
            member: self.member.as_ref(),
            registry: self.registry,
            arp_probe: self.arp_probe,
            deadline: self.deadline,
        };
        let families = [(Family::V4, true), (Family::V6, false)];
        let families: Vec<Family> = families
            .into_iter()
            .filter(|(_, v4)| attachment.has_family(*v4))
            .map(|(family, _)| family)
            .collect();
        claimant.take(&policy.egress, &families)
    }

    fn record(
        &self,
        id: &AttachmentId,
        attachment: &Attachment,
        policy: &Policy<'_>,
        claim: &Claim,
        guard: Guard,
    ) -> Record<PolicyKey> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Record {
            layout: LAYOUT,
            network: self.who.network.to_owned(),
            container_id: self.who.container_id.to_owned(),
            ifname: self.who.ifname.to_owned(),
            namespace: owned(self.who.namespace),
            pod: owned(self.who.pod),
            uid: owned(self.who.uid),
            exempt: policy.head.exempt,
            netns: Some(self.netns.to_owned()),
            rules_ignored: self.rules_ignored,
            veth_index: attachment.veth.index,
            iif: attachment.iif,
            uplink: claim.uplink,
            log_group: self.log_group,
            guard,
            id: id.clone(),
            veth: attachment.veth.name.clone(),
            mac: attachment.mac,
            addresses: attachment.addresses.clone(),
            link_local: attachment.link_local.clone(),
            bridge: attachment.bridge.clone(),
            policy_chain: policy.head.chain.clone(),
            names: policy.head.names.clone(),
            egress: claim.addresses.clone(),
            policy: policy.key.clone(),
            unknown: Unknown::default(),
        }
    }
}
