//! Brings records, links and the kernel together again, after whatever came between them: somebody
//! flushed the tables, deleted an element, took an egress address from the uplink, or a call was
//! killed half-way.
//!
//! What is missing is put back from the attachments' records, by the code that ADD uses, one
//! attachment at a time and under the locks that ADD and DEL take: it may run at any time. What has
//! no record and no interface any more is removed. What can't be told safely is left and said: a
//! rule that is kept too long harms less than one that goes too early.
//!
//! Each step relies on the order in which ADD and DEL work under the state directory's lock:
//! record, link's note, transaction; transaction, link's note, and without the lock the record.

mod attachments;
mod carriers;
mod egress;
mod files;
mod guard;
mod mend;
mod orphans;
mod report;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::egress::Registry;
use crate::egress::place::Ways;
use crate::enforce::Compared;
use crate::store::{AttachmentId, Lock, StateDir, StateError};
use netlink::{self, Rtnl};
use nft::{self, Nft};

pub use mend::{Mended, mend};
pub(crate) use report::title;
pub use report::{Area, Change, Did, Report};

/// How long one step may wait for a lock, or for the kernel or the network to answer.
const STEP: Duration = Duration::from_secs(10);

/// How long whoever must not hold up others waits for the lock of an egress address, which an ADD keeps to its end.
const BESIDE: Duration = Duration::from_millis(500);

/// What shall be done.
#[derive(Debug, Clone, Copy)]
pub struct ReconcileOptions<'a> {
    /// The state directory.
    pub state: &'a StateDir,
    /// Where egress addresses are given back.
    pub registry: &'a dyn Registry,
    /// The policy file, which knows the cluster's networks when no record does.
    pub policy_file: Option<&'a Path>,
    /// Puts back what is missing. Without it, what is nobody's is removed, and that is all.
    pub repair: bool,
    /// Changes nothing, and says what would be done.
    pub dry_run: bool,
}

/// Which attachments are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Only these.
    These(BTreeSet<AttachmentId>),
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the causes say what it is about
pub enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Nft(#[from] nft::Error),
    #[error(transparent)]
    Net(#[from] netlink::Error),
}

/// Compares everything, and mends it.
///
/// # Errors
/// The kernel or the state directory does not tell what there is. What concerns a single object
/// only is in the report.
pub fn run(options: &ReconcileOptions<'_>) -> Result<Report, Error> {
    let mut sync = Sync::new(options)?;
    sync.step("the state directory's files", Sync::files);
    // Addresses before rules, as ADD does it.
    sync.step("egress IPs", Sync::egress);
    sync.step("attachments", |sync| sync.attachments(&Which::All));
    sync.step("what has no record", Sync::orphans);
    sync.step("notes of links", Sync::links);
    sync.step("stored policies", Sync::policies);
    sync.step("other files of the state directory", Sync::strange_files);
    sync.settle_pending();
    Ok(sync.report)
}

/// Removes what has no record, and leaves attachments alone: for GC, which knows of those of one
/// network only.
///
/// # Errors
/// As [`run`].
pub fn remove_orphans(state: &StateDir, registry: &dyn Registry) -> Result<Report, Error> {
    let mut sync = Sync::that_removes(state, registry)?;
    sync.step("the state directory's files", Sync::files);
    sync.step("egress IPs", Sync::egress);
    sync.step("what has no record", Sync::orphans);
    sync.step("notes of links", Sync::links);
    sync.step("stored policies", Sync::policies);
    Ok(sync.report)
}

/// Removes policies that no pod has, as somebody leaves them who is killed while running pods get others; and waits for
/// nobody.
///
/// # Errors
/// As [`run`].
pub fn remove_unused_policies(state: &StateDir, registry: &dyn Registry) -> Result<Report, Error> {
    let mut sync = Sync::that_removes(state, registry)?;
    sync.step("policies in the kernel", Sync::led_to_by_nobody);
    sync.step("stored policies", Sync::unused_policies);
    Ok(sync.report)
}

struct Sync<'a> {
    options: ReconcileOptions<'a>,
    nft: Nft,
    report: Report,
    /// The node's devices, addresses and routes, as they were when all began or something had changed.
    ways: Ways,
    /// What pods share and was found whole, so that it is looked at once.
    whole: Compared,
    /// Attachments of which a DEL may be at work, and what is wrong with each.
    pending: Vec<attachments::Pending>,
    /// Only puts back.
    removes: bool,
}

impl<'a> Sync<'a> {
    fn new(options: &ReconcileOptions<'a>) -> Result<Self, Error> {
        let mut rtnl = Rtnl::open(Instant::now() + STEP)?;
        Ok(Self {
            options: *options,
            ways: Ways::read(&mut rtnl)?,
            nft: Nft::open()?,
            report: Report::default(),
            whole: Compared::default(),
            pending: Vec::new(),
            removes: true,
        })
    }

    /// Of whoever repairs nothing.
    fn that_removes(state: &'a StateDir, registry: &'a dyn Registry) -> Result<Self, Error> {
        Self::new(&ReconcileOptions {
            state,
            registry,
            policy_file: None,
            repair: false,
            dry_run: false,
        })
    }

    /// One step's failure leaves the others their chance.
    fn step(&mut self, what: &str, step: impl FnOnce(&mut Self) -> Result<(), Error>) {
        if let Err(e) = step(self) {
            self.report.note(Did::Failed, what, e.to_string());
        }
    }

    /// The state directory's lock, which makes the directory; a dry run leaves nothing, not even
    /// that.
    fn lock(&self) -> Result<Option<Lock>, StateError> {
        let state = self.options.state;
        if self.options.dry_run && !state.exists() {
            return Ok(None);
        }
        state.lock(self.deadline()).map(Some)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + STEP
    }

    fn rtnl(&self) -> Result<Rtnl, netlink::Error> {
        Rtnl::open(self.deadline())
    }

    fn removed(&self) -> Did {
        if self.options.dry_run {
            Did::WouldRemove
        } else {
            Did::Removed
        }
    }

    /// Does it, unless this is a dry run, and notes that something was removed.
    fn remove<E: std::fmt::Display>(
        &mut self,
        what: impl Into<String>,
        why: &str,
        work: impl FnOnce(&mut Nft, &StateDir) -> Result<(), E>,
    ) {
        if !self.removes {
            return;
        }
        let did = self.removed();
        let outcome = match did {
            Did::Removed => work(&mut self.nft, self.options.state),
            _ => Ok(()),
        };
        self.report.outcome(did, what, why, outcome);
    }

    /// Addresses whose users are gone, or that are gone from the uplink.
    fn egress(&mut self) -> Result<(), Error> {
        self.report.part = Area::EgressIps;
        let addresses = egress::known(self.options.state, &mut self.nft)?;
        let users = egress::users(self.options.state)?;
        for address in addresses {
            // What nobody uses is there to be removed.
            if !self.removes && !users.contains_key(&address) {
                continue;
            }
            if egress::is_fine(self.options.state, address, users.get(&address), &self.ways) {
                continue;
            }
            let request = egress::Reconcile {
                state: self.options.state,
                registry: self.options.registry,
                address,
                repair: self.options.repair,
                dry_run: self.options.dry_run,
                lock_by: match self.removes {
                    true => self.deadline(),
                    false => Instant::now() + BESIDE,
                },
                deadline: self.deadline(),
            };
            request.run(&mut self.nft, &mut self.report);
        }
        self.report.part = Area::Rules;
        Ok(())
    }
}
