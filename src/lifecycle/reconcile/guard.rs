//! Each attachment's guard against packets that are written behind the rules.

use super::{Area, Did, Error, Sync, title};
use crate::store::{AttachmentId, PolicyKey, Record};

impl Sync<'_> {
    /// Puts back what is missing of it; the record says then what is there. Under the state
    /// directory's lock, and only of an attachment that no DEL is at work on.
    pub(super) fn guard(
        &mut self,
        id: &AttachmentId,
        record: &mut Record<PolicyKey>,
    ) -> Result<(), Error> {
        let state = self.options.state;
        let mut rtnl = self.rtnl()?;
        let found = record.guard.verify(&mut rtnl, record.veth_index);
        let what = title(record);
        let why = match found {
            Ok(None) => return Ok(()),
            Ok(Some(why)) => why,
            Err(e) => {
                self.report.note(Did::Failed, what, e.to_string());
                return Ok(());
            }
        };
        let did = self.repaired();
        let outcome = match did {
            Did::Repaired => record
                .guard
                .restore(state, &mut rtnl, record.veth_index)
                .map_err(|e| e.to_string())
                .and_then(|guard| {
                    let known = record.guard == guard;
                    record.guard = guard;
                    let written = match known {
                        true => Ok(()),
                        false => state.write_attachment(id, record),
                    };
                    written.map_err(|e| e.to_string())
                }),
            _ => Ok(()),
        };
        self.report.part = Area::Guard;
        self.report.outcome(did, what, &why, outcome);
        self.report.part = Area::Rules;
        Ok(())
    }
}
