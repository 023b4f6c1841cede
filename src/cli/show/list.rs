//! All attachments, a line each.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::guards::{self, ForgedChecksums};
use super::kernel::Kernel;
use crate::cli::output::{Table, Tone, toned};
use crate::store::{Record, StateDir};
use crate::verdicts::node::{Deny, Node, Uncovered};
use nft::Counter;

/// What a deny does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ShownMode {
    Enforce,
    /// All or some of the rules only log and count.
    Audit,
    /// The namespace is exempt: there are no rules.
    Exempt,
}

impl ShownMode {
    fn of(record: &Record) -> ShownMode {
        match (record.exempt, record.policy.is_audited()) {
            (true, _) => ShownMode::Exempt,
            (false, true) => ShownMode::Audit,
            (false, false) => ShownMode::Enforce,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            ShownMode::Enforce => "enforce",
            ShownMode::Audit => "audit",
            ShownMode::Exempt => "exempt",
        }
    }
}

/// Whether the kernel holds what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Damaged,
}

/// One attachment. The fields' JSON names are a promise to scripts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub id: String,
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub uid: Option<String>,
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub interface: String,
    pub addresses: Vec<IpAddr>,
    pub veth: String,
    pub bridge: Option<String>,
    pub mode: ShownMode,
    /// The namespace is exempt, so that the pod's own rules are ignored.
    pub rules_ignored: bool,
    /// None: another version's, which this one can't read.
    pub rules: Option<usize>,
    #[serde(rename = "egressIPs")]
    pub egress_ips: Vec<IpAddr>,
    pub judged: Counter,
    pub denied: Counter,
    pub forged_checksums: ForgedChecksums,
    /// None: nothing was denied in the last 30 days.
    pub last_deny: Option<Timestamp>,
    pub state: State,
    pub problems: Vec<String>,
    /// Since when it has its policy. None: not known.
    pub policy_since: Option<Timestamp>,
    /// What is written for it and not in force, and why. None: no agent answers.
    pub invalid: Option<Vec<String>>,
    /// The last of its packets that a rule denied and logged. None: none, or no agent answers.
    pub last_logged_deny: Option<Deny>,
    #[serde(skip)]
    pub title: String,
}

impl Row {
    /// `users`: how many attachments have the same policy.
    pub(super) fn new(record: &Record, kernel: &Kernel, users: usize) -> Row {
        let mut problems = kernel.problems(record, users);
        let rules = record.policy.rebuild().ok();
        if rules.is_none() {
            problems.push("its rules are another version's".to_owned());
        }
        let mut row = Row {
            id: record.id.as_str().to_owned(),
            namespace: record.namespace.clone(),
            pod: record.pod.clone(),
            uid: record.uid.clone(),
            container_id: record.container_id.clone(),
            interface: record.ifname.clone(),
            addresses: record.addresses.clone(),
            veth: record.veth.clone(),
            bridge: record.bridge.as_ref().map(|bridge| bridge.name.clone()),
            mode: ShownMode::of(record),
            rules_ignored: record.rules_ignored,
            rules: rules.map(|policy| policy.tiers.iter().map(|tier| tier.rules.len()).sum()),
            egress_ips: record.egress.clone(),
            judged: kernel.judged(record),
            denied: kernel.denied(record),
            forged_checksums: kernel.forged_checksums(record),
            last_deny: kernel.last_denied(record),
            state: State::Ok,
            problems: Vec::new(),
            policy_since: None,
            invalid: None,
            last_logged_deny: None,
            title: record.title(),
        };
        row.add_problems(problems);
        row
    }

    pub(super) fn add_problems(&mut self, problems: impl IntoIterator<Item = String>) {
        self.problems.extend(problems);
        if !self.problems.is_empty() {
            self.state = State::Damaged;
        }
    }

    /// What the state directory and the agent know beside the record and the kernel.
    pub(super) fn add_known(&mut self, state: &StateDir, agent: Option<&Node>) {
        let id = self.id.parse();
        self.policy_since = id.ok().and_then(|id| state.attachment_time(&id));
        let Some(agent) = agent else { return };
        let pod = agent.pods.iter().find(|pod| pod.id == self.id);
        self.invalid = Some(pod.map_or_else(Vec::new, |pod| pod.invalid.clone()));
        self.last_logged_deny = pod.and_then(|pod| pod.last_deny.clone());
    }

    /// Something newer is written for it, and can't be enforced.
    fn is_invalid(&self) -> bool {
        self.invalid.as_ref().is_some_and(|all| !all.is_empty())
    }

    fn rules_text(&self) -> String {
        self.rules.map_or_else(|| "-".to_owned(), |n| n.to_string())
    }

    /// `ok`, or what is missing.
    pub(super) fn state_text(&self, colour: bool) -> String {
        match self.state {
            State::Ok if self.rules_ignored => {
                toned("its rules are ignored", Tone::Warning, colour)
            }
            State::Ok if self.is_invalid() => toned("invalid rules", Tone::Warning, colour),
            State::Ok => toned("ok", Tone::Good, colour),
            State::Damaged => toned(&self.problems.join("; "), Tone::Bad, colour),
        }
    }
}

/// What `show` tells of a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    pub attachments: Vec<Row>,
    /// Packets of this node that would have left with another source than the egress address.
    pub leak_stop: Counter,
    /// Connections that the node could not take on: no free port for NAT, or a full table.
    pub connections_failed: u64,
    /// Why running pods may have older rules than what is written. None: they have not, or no agent answers.
    pub pending: Option<String>,
    /// Pods of this node that no rule holds. None: nobody here knows.
    pub uncovered: Option<Vec<Uncovered>>,
}

impl List {
    pub(super) fn new<'a>(
        wanted: impl Iterator<Item = &'a Record>,
        kernel: &Kernel,
        users: &HashMap<&str, usize>,
    ) -> List {
        let row = |record: &Record| Row::new(record, kernel, users_of(users, record));
        List {
            attachments: wanted.map(row).collect(),
            leak_stop: kernel.leak_stop,
            connections_failed: kernel.connections_failed,
            pending: None,
            uncovered: None,
        }
    }

    /// What the state directory and the agent know beside the records and the kernel.
    pub(super) fn add_known(&mut self, state: &StateDir, agent: Option<&Node>) {
        for row in &mut self.attachments {
            row.add_known(state, agent);
        }
        if let Some(agent) = agent {
            self.pending.clone_from(&agent.pending);
            self.uncovered.clone_from(&agent.uncovered);
        }
    }

    /// What fits into 80 columns, for most pods; cut where it does not fit into `width`.
    pub(super) fn text(&self, colour: bool, width: Option<usize>) -> String {
        let mut table = Table::close(&[
            "POD",
            "MODE",
            "RULES",
            "DENIED",
            "LAST",
            "EGRESS IP",
            "STATE",
        ]);
        for row in &self.attachments {
            table.row(vec![
                row.title.clone(),
                row.mode.as_str().to_owned(),
                row.rules_text(),
                row.denied.packets.to_string(),
                row.last_deny.map_or_else(|| "-".to_owned(), age),
                addresses(&row.egress_ips),
                row.state_text(false),
            ]);
        }
        let mut shortened = false;
        if let Some(width) = width.filter(|width| !table.fits(*width)) {
            for (row, cell) in self.attachments.iter().zip(table.last_cells()) {
                if row.state == State::Damaged {
                    *cell = "damaged".to_owned();
                    shortened = true;
                }
            }
            table.fit(width);
        }
        let mut text = self.finish(table, colour);
        if shortened {
            text.push_str("\ndamaged: `egressway show POD` says what is missing\n");
        }
        text
    }

    /// Everything, as wide as it is.
    pub(super) fn wide(&self, colour: bool) -> String {
        let mut table = Table::new(&[
            "POD",
            "ADDRESSES",
            "VETH",
            "RULES",
            "MODE",
            "EGRESS IP",
            "PACKETS",
            "DENIED",
            "LAST",
            "STATE",
        ]);
        for row in &self.attachments {
            table.row(vec![
                row.title.clone(),
                addresses(&row.addresses),
                row.veth.clone(),
                row.rules_text(),
                row.mode.as_str().to_owned(),
                addresses(&row.egress_ips),
                row.judged.packets.to_string(),
                row.denied.packets.to_string(),
                row.last_deny.map_or_else(|| "-".to_owned(), age),
                row.state_text(false),
            ]);
        }
        self.finish(table, colour)
    }

    /// Colours the states, and says below what is wrong with the node.
    fn finish(&self, mut table: Table, colour: bool) -> String {
        for (row, cell) in self.attachments.iter().zip(table.last_cells()) {
            let tone = match row.state {
                State::Ok if row.rules_ignored || row.is_invalid() => Tone::Warning,
                State::Ok => Tone::Good,
                State::Damaged => Tone::Bad,
            };
            *cell = toned(cell, tone, colour);
        }
        let mut text = table.to_string();
        text.push_str(&guards::told_below(
            self.attachments.iter().map(|row| &row.forged_checksums),
        ));
        if self.attachments.iter().any(Row::is_invalid) {
            text.push_str(
                "\ninvalid rules: the last valid ones are in force; `egressway show POD` says why\n",
            );
        }
        if let Some(pending) = &self.pending {
            text.push_str(&format!("\npending: {pending}\n"));
        }
        text.push_str(&uncovered_text(
            self.uncovered.as_deref().unwrap_or_default(),
        ));
        if self.leak_stop.packets > 0 {
            text.push_str(&format!(
                "\ndropped on this node, about to leave with another source than the egress IP: {}\n",
                amount(self.leak_stop)
));
        }
        if self.connections_failed > 0 {
            text.push_str(&format!(
                "\nconnections that this node could not take on: {} (no free port on an egress IP, or conntrack's table is full)\n",
                self.connections_failed
            ));
        }
        text
    }
}

/// Which pods no rule holds, a few by name.
fn uncovered_text(all: &[Uncovered]) -> String {
    const NAMED: usize = 5;
    let mut text = String::new();
    for (host_network, why) in [
        (
            false,
            "without rules, since the plugin was not called for them: recreate these",
        ),
        (true, "in the node's own network, to which no rules apply"),
    ] {
        let pods = all.iter().filter(|pod| pod.host_network == host_network);
        let names: Vec<String> = pods
            .map(|pod| format!("{}/{}", pod.namespace, pod.pod))
            .collect();
        if names.is_empty() {
            continue;
        }
        let plural = if names.len() == 1 { "" } else { "s" };
        text.push_str(&format!("\n{} pod{plural} {why}:\n", names.len()));
        for name in names.iter().take(NAMED) {
            text.push_str(&format!("  {name}\n"));
        }
        if names.len() > NAMED {
            text.push_str(&format!(
                "  and {} more (-o json has all)\n",
                names.len() - NAMED
            ));
        }
    }
    text
}

/// How many attachments have each policy.
pub(super) fn users(records: &[Record]) -> HashMap<&str, usize> {
    let mut users = HashMap::new();
    for record in records {
        *users.entry(record.policy_chain.as_str()).or_default() += 1;
    }
    users
}

pub(super) fn users_of(users: &HashMap<&str, usize>, record: &Record) -> usize {
    users
        .get(record.policy_chain.as_str())
        .copied()
        .unwrap_or(1)
}

/// Separated by commas; a dash for none.
pub(super) fn addresses(list: &[IpAddr]) -> String {
    if list.is_empty() {
        return "-".to_owned();
    }
    let texts: Vec<String> = list.iter().map(IpAddr::to_string).collect();
    texts.join(",")
}

/// `12s ago`
pub(super) fn ago(time: Timestamp) -> String {
    format!("{} ago", age(time))
}

/// `12s`: in the largest unit of which there is one, rounded down.
fn age(time: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, 's'),
        60..3600 => (seconds / 60, 'm'),
        3600..86400 => (seconds / 3600, 'h'),
        _ => (seconds / 86400, 'd'),
    };
    format!("{count}{unit}")
}

/// `1 packet, 60 bytes`
pub(super) fn amount(counter: Counter) -> String {
    let plural = if counter.packets == 1 { "" } else { "s" };
    format!(
        "{} packet{plural}, {} bytes",
        counter.packets, counter.bytes
    )
}
