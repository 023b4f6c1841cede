//! What is done about each pod's packets that would be written behind the rules.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::guard;
use crate::store::{Guard, Record};
use netlink::{self, Rtnl, tc};

/// What the conflist's `forgedChecksums` came to for an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ForgedChecksums {
    action: Action,
    /// None: only a filter counts.
    dropped: Option<u64>,
    /// Why it is not [`Action::Drop`], which was asked for.
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Drop,
    Resolve,
    Ignore,
}

impl fmt::Display for ForgedChecksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.action, &self.reason) {
            (Action::Drop, _) => write!(f, "drop ({} dropped)", self.dropped.unwrap_or_default()),
            (Action::Resolve, Some(why)) => write!(f, "resolve (slow: {why})"),
            (Action::Resolve, None) => f.write_str("resolve (slow, as the conflist says)"),
            (Action::Ignore, _) => f.write_str("IGNORED"),
        }
    }
}

/// What the kernel says of all veths' filters, and of each veth that was asked about.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// By the veth's index.
    dropped: HashMap<u32, u64>,
    problems: HashMap<u32, String>,
}

impl Guards {
    pub(super) fn read<'r>(
        rtnl: &mut Rtnl,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> Result<Self, netlink::Error> {
        let problems = records
            .into_iter()
            .filter_map(|record| Some((record.veth_index, problem(rtnl, record)?)))
            .collect();
        Ok(Guards {
            problems,
            dropped: tc::dropped(rtnl)?,
        })
    }

    pub(super) fn of(&self, record: &Record) -> ForgedChecksums {
        let dropped = self.dropped.get(&record.veth_index).copied();
        let (action, dropped, reason) = match &record.guard {
            Guard::Drop { .. } => (Action::Drop, Some(dropped.unwrap_or_default()), None),
            Guard::Resolve { reason, .. } => (Action::Resolve, None, reason.clone()),
            Guard::Ignore => (Action::Ignore, None, None),
        };
        ForgedChecksums {
            action,
            dropped,
            reason,
        }
    }

    /// What is wrong ahead of the rules at this veth.
    pub(super) fn problem(&self, veth: u32) -> Option<String> {
        self.problems.get(&veth).cloned()
    }
}

/// What somebody has done at the veth. What cannot be seen is not said to be well.
fn problem(rtnl: &mut Rtnl, record: &Record) -> Option<String> {
    match record.guard.verify(rtnl, record.veth_index) {
        Ok(None) => {}
        Ok(Some(why)) => return Some(why),
        Err(e) => return Some(e.to_string()),
    }
    match tc::detour(rtnl, record.veth_index, guard::is_own) {
        Ok(None) => None,
        Ok(Some(detour)) => Some(format!(
            "traffic control at {} takes packets past the rules: {detour}",
            record.veth
        )),
        Err(e) => Some(e.to_string()),
    }
}

/// What stands below the list of all attachments: whatever is not as everywhere.
pub(super) fn told_below<'a>(all: impl Iterator<Item = &'a ForgedChecksums> + Clone) -> String {
    let mut text = String::new();
    let dropped: u64 = all.clone().filter_map(|guard| guard.dropped).sum();
    if dropped > 0 {
        text += &format!("\nforged checksums: {dropped} packets dropped\n");
    }
    let mut others: Vec<(String, usize)> = Vec::new();
    for guard in all.filter(|guard| guard.action != Action::Drop) {
        let what = guard.to_string();
        match others.iter_mut().find(|(known, _)| *known == what) {
            Some((_, pods)) => *pods += 1,
            None => others.push((what, 1)),
        }
    }
    for (what, pods) in others {
        let plural = if pods == 1 { "" } else { "s" };
        text += &format!("\nforged checksums of {pods} pod{plural}: {what}\n");
    }
    text
}

#[cfg(test)]
impl ForgedChecksums {
    pub(super) fn dropped(packets: u64) -> Self {
        Self {
            action: Action::Drop,
            dropped: Some(packets),
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::test_support::record;

    #[test]
    fn each_guard_in_words() {
        let mut web = record("web", 7, &["10.0.0.2"], "");
        let guards = Guards {
            dropped: [(7, 9)].into(),
            ..Guards::default()
        };
        let mut told = |guard: Guard| {
            web.guard = guard;
            let found = guards.of(&web);
            (found.to_string(), found.dropped)
        };
        let resolve = |reason: Option<&str>| Guard::Resolve {
            netns: "/run/netns/web".into(),
            joining: false,
            reason: reason.map(str::to_owned),
        };
        let drop = Guard::Drop {
            tag: "00".to_owned(),
        };
        assert_eq!(told(drop), ("drop (9 dropped)".to_owned(), Some(9)));
        // The qdisc's number is not ours then.
        let words = |text: &str| (text.to_owned(), None);
        assert_eq!(told(Guard::Ignore), words("IGNORED"));
        let slow = told(resolve(Some("this kernel has no cls_bpf")));
        assert_eq!(slow, words("resolve (slow: this kernel has no cls_bpf)"));
        let asked = told(resolve(None));
        assert_eq!(asked, words("resolve (slow, as the conflist says)"));
    }
}
