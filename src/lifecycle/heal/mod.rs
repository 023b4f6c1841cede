//! What has to be put back after something has happened on the node, found out cheaply: what is remembered of
//! each attachment is compared with what the kernel says of all devices at once, and only what differs from it is
//! looked at by [`reconcile`], with the code of `sync`.

mod remembered;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::ByLeases;
use super::reconcile::{self, Area, Change, Did, Error, ReconcileOptions, Which};
use crate::egress::place::Ways;
use crate::store::StateDir;
use netlink::Rtnl;
use nft::Nft;
use remembered::Remembered;

/// How long a look may wait for a lock, or for the kernel to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happened {
    /// Somebody else has changed our tables.
    pub rules: bool,
    /// Links, addresses or routes have changed.
    pub devices: bool,
    /// Of these links something of traffic control has changed.
    pub filters: BTreeSet<u32>,
    /// Something in the state directory has changed.
    pub files: bool,
    /// Whatever may have happened since the last look of this kind.
    pub anything: bool,
    /// What others undo as soon as it is put back: left to the next look at anything.
    pub contested: BTreeSet<Area>,
}

impl Happened {
    /// Nobody knows what.
    pub fn anything() -> Happened {
        Happened {
            anything: true,
            ..Happened::default()
        }
    }

    /// Nothing has.
    pub fn is_nothing(&self) -> bool {
        *self == Happened::default()
    }

    /// Both.
    pub fn add(&mut self, other: Happened) {
        self.rules |= other.rules;
        self.devices |= other.devices;
        self.filters.extend(other.filters);
        self.files |= other.files;
        self.anything |= other.anything;
        self.contested.extend(other.contested);
    }

    fn leaves(&self, part: Area) -> bool {
        !self.anything && self.contested.contains(&part)
    }
}

/// What has come of a look.
#[derive(Debug, Default)]
pub struct Found {
    /// What was found, and what has become of it.
    pub changes: Vec<Change>,
    /// There is something of which a DEL or an ADD may be at work: it should be looked at once more, soon.
    pub is_unfinished: bool,
    /// Everything was compared.
    pub is_all: bool,
}

/// Puts back what others break, for as long as it lives.
pub struct Healer {
    state: StateDir,
    policy_file: PathBuf,
    remembered: Remembered,
    /// The number of the state of the kernel's rules in which everything was as it should be.
    whole: Option<u32>,
    /// What was wrong with an egress address when it was looked at last, and can't be mended here.
    stays: BTreeMap<IpAddr, Vec<String>>,
}

impl Healer {
    /// Of this node.
    pub fn new(state: StateDir, policy_file: PathBuf) -> Healer {
        Healer {
            remembered: Remembered::new(state.clone()),
            state,
            policy_file,
            whole: None,
            stays: BTreeMap::new(),
        }
    }

    /// Looks at what may be broken after this, and puts it back. To be called by one thread, in the node's network
    /// namespace.
    ///
    /// # Errors
    /// The kernel or the state directory does not tell what there is.
    pub fn look(&mut self, happened: &Happened) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut nft = Nft::open()?;
        let before = nft.generation()?;
        if !happened.leaves(Area::Records) {
            self.remembered.update(&mut nft, &mut found.changes)?;
        }
        let leaves_rules = happened.leaves(Area::Rules);
        let everything =
            happened.rules && !leaves_rules || happened.anything && self.whole != Some(before);
        let mut rtnl = Rtnl::open(Instant::now() + PATIENCE)?;
        let addresses = self.state.list_egress()?;
        let ways = match addresses.is_empty() && !self.remembered.use_egress() {
            true => Ways::read_devices(&mut rtnl)?,
            false => Ways::read(&mut rtnl)?,
        };
        let mut which = BTreeSet::new();
        if !leaves_rules {
            which.extend(self.remembered.others(&ways.devices));
        }
        if !happened.leaves(Area::Guard) {
            which.extend(self.remembered.at(&happened.filters));
        }
        let egress = !happened.leaves(Area::EgressIps);
        let is_egress_faulty = egress && self.is_egress_faulty(&addresses, &ways);
        let which = match everything {
            true => Which::All,
            false if which.is_empty() && !is_egress_faulty => return Ok(found),
            false => Which::These(which),
        };
        let options = ReconcileOptions {
            state: &self.state,
            registry: &ByLeases,
            policy_file: Some(&self.policy_file),
            repair: true,
            dry_run: false,
        };
        let mended = reconcile::mend(&options, &which, egress)?;
        if everything {
            // What can't be mended is no reason to look for it again and again.
            let mut changes = mended.report.changes.iter();
            let is_whole = !mended.is_unfinished && changes.all(|c| c.did == Did::Left);
            self.whole = is_whole.then_some(before);
        }
        found.changes.extend(mended.report.changes);
        found.is_unfinished = mended.is_unfinished;
        found.is_all = everything;
        Ok(found)
    }

    /// Whether something can be done about an egress address, or something is to be said of it.
    fn is_egress_faulty(&mut self, addresses: &[IpAddr], ways: &Ways) -> bool {
        let mut is_faulty = self.remembered.egress().any(|a| !addresses.contains(&a));
        let mut stays = BTreeMap::new();
        for address in addresses {
            let Ok(Some(owner)) = self.state.read_egress(*address) else {
                is_faulty = true;
                continue;
            };
            if owner.is_lost() || owner.users.is_empty() {
                continue;
            }
            let (mends, hopeless): (Vec<_>, Vec<_>) = ways
                .faults(*address, &owner)
                .into_iter()
                .partition(|fault| fault.mends);
            is_faulty |= hopeless.is_empty() && !mends.is_empty();
            let hopeless: Vec<String> = hopeless.into_iter().map(|fault| fault.why).collect();
            if !hopeless.is_empty() {
                is_faulty |= self.stays.get(address) != Some(&hopeless);
                stays.insert(*address, hopeless);
            }
        }
        self.stays = stays;
        is_faulty
    }
}

/// Something was put back that is in the state directory.
fn restored(what: String, why: &str, outcome: Result<(), impl std::fmt::Display>) -> Change {
    let (did, why) = match outcome {
        Ok(()) => (Did::Repaired, why.to_owned()),
        Err(e) => (Did::Failed, format!("{why}; {e}")),
    };
    Change {
        part: Area::Records,
        did,
        what,
        why,
    }
}
