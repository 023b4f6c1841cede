//! What killed calls leave in the state directory.

use std::thread;
use std::time::{Duration, Instant};

use super::attachments::DEL_ENDS;
use super::{Did, Error, Sync};
use crate::plan::names::{pod_chain, veth_chain};
use crate::plan::{INET, NETDEV};
use crate::store::{AttachmentId, PolicyKey, Record, remove_file};
use rules::fault::shown;

impl Sync<'_> {
    /// Files that were never finished.
    pub(super) fn files(&mut self) -> Result<(), Error> {
        let state = self.options.state;
        let _lock = self.lock()?;
        for path in state.unfinished()? {
            let what = format!("file {}", shown(&path));
            self.remove(what, "a call was killed while it wrote it", |_, _| {
                remove_file(&path)
            });
        }
        Ok(())
    }

    /// Stored policies that nobody has, and names for them of attachments that have other rules, or of
    /// which there is neither record nor chain. A DEL removes both last, without the lock.
    pub(super) fn policies(&mut self) -> Result<(), Error> {
        let state = self.options.state;
        let deadline = Instant::now() + DEL_ENDS;
        while !(self.users_that_are_gone()?.is_empty() && state.unused_policies()?.is_empty())
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(20));
        }
        self.unused_policies()
    }

    /// The same without waiting for a DEL, which removes what is its own in any case.
    pub(super) fn unused_policies(&mut self) -> Result<(), Error> {
        let state = self.options.state;
        let _lock = self.lock()?;
        for (id, key) in self.users_that_are_gone()? {
            let what = format!("file {}", shown(&state.policy_link(&id, &key)));
            self.remove(
                what,
                "its attachment is gone, or has other rules",
                |_, state| state.release_policy(&id, &key),
            );
        }
        for path in state.unused_policies()? {
            let what = format!("file {}", shown(&path));
            self.remove(what, "no attachment has this policy", |_, _| {
                remove_file(&path)
            });
        }
        Ok(())
    }

    fn users_that_are_gone(&mut self) -> Result<Vec<(AttachmentId, PolicyKey)>, Error> {
        let state = self.options.state;
        let mut gone = Vec::new();
        for (id, key) in state.policy_users()? {
            let chain = pod_chain(id.as_str());
            let is_gone = match Record::read_alone(state, &id) {
                Ok(None) => self.nft.chain(&INET, &chain)?.is_none(),
                Ok(Some(record)) => record.policy != key,
                Err(_) => false, // whose rules these are can't be told
            };
            if is_gone {
                gone.push((id, key));
            }
        }
        Ok(gone)
    }

    /// Files that are no document of this version: left, and reported.
    pub(super) fn strange_files(&mut self) -> Result<(), Error> {
        for path in self.options.state.strangers()? {
            let what = format!("file {}", shown(&path));
            let why =
                "this version of egressway has no such file: somebody else's, or another version's";
            self.report.note(Did::Left, what, why);
        }
        Ok(())
    }

    /// Notes of links whose attachment has neither record nor chain: as long as there is a chain,
    /// the next ADD on that link must hear of it.
    pub(super) fn links(&mut self) -> Result<(), Error> {
        let state = self.options.state;
        let _lock = self.lock()?;
        for (name, ids) in state.links()? {
            let what = format!("link entry {name}");
            let ids = match ids {
                Ok(ids) if !ids.is_empty() => ids,
                Err(e) if e.is_other_version() => {
                    self.report.note(Did::Left, what, e.to_string());
                    continue;
                }
                _ => {
                    self.remove(what, "it names no attachment", |_, state| {
                        state.forget_link(&name)
                    });
                    continue;
                }
            };
            for id in ids {
                let chain = veth_chain(id.as_str());
                if state.has_attachment(&id) || self.nft.chain(&NETDEV, &chain)?.is_some() {
                    continue;
                }
                let why = format!("attachment {id} has no record");
                self.remove(what.clone(), &why, |_, state| state.remove_link(&name, &id));
            }
        }
        Ok(())
    }
}
