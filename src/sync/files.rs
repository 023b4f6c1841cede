//! What killed calls leave in the state directory.

use super::{Error, Sync};
use crate::nft::Table;
use crate::plan::attachment::veth_chain;
use crate::state::{AttachmentId, StateDir, remove_file};

impl Sync<'_> {
    /// Files that were never finished.
    pub(super) fn files(&mut self) -> Result<(), Error> {
        let state = self.options.state;
        let _lock = self.lock()?;
        for path in state.unfinished()? {
            let what = format!("file {}", path.display());
            self.remove(what, "a call was killed while it wrote it", |_, _| {
                remove_file(&path)
            });
        }
        Ok(())
    }

    /// Notes of links whose attachment has neither record nor chain: as long as there is a chain,
    /// the next ADD on that link must hear of it.
    pub(super) fn links(&mut self) -> Result<(), Error> {
        let state = self.options.state;
        let _lock = self.lock()?;
        for (name, id) in state.links()? {
            let why = match &id {
                Some(id) if has_record(state, id) => continue,
                Some(id) => {
                    let chain = veth_chain(id.as_str());
                    if self.nft.chain(Table::Netdev, &chain)?.is_some() {
                        continue;
                    }
                    format!("attachment {id} has no record")
                }
                None => "it names no attachment".to_owned(),
            };
            self.remove(format!("note of link {name}"), &why, |_, state| {
                state.forget_link(&name)
            });
        }
        Ok(())
    }
}

/// Whether an attachment has a record, be it a damaged one.
pub(super) fn has_record(state: &StateDir, id: &AttachmentId) -> bool {
    state.attachment_path(id).exists()
}
