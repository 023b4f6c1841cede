//! One attachment in full.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::Ipv6Addr;

use serde::Serialize;

use super::kernel::{self, Kernel};
use super::list::{Row, addresses, ago, amount};
use crate::cli::output::{Table, Tone, toned};
use crate::enforce::{self, Compared};
use crate::plan::names::{many_chain, nd_chain, veth_chain};
use crate::plan::{self, AttachmentPlan, Base, Compiled, INET, LAYOUT, NETDEV};
use crate::store::{Record, StateDir};
use crate::verdicts::node::Node;
use netlink::Mac;
use nft::{self, Counter, Nft};
use rules::effective::{DefaultAction, Effective, Tier};
use rules::rule::{Rule, Verb};

/// One attachment. The fields' JSON names are a promise to scripts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[serde(flatten)]
    pub row: Row,
    pub network: String,
    pub mac: String,
    pub link_local: Vec<Ipv6Addr>,
    pub veth_index: u32,
    pub log_group: u16,
    pub policy_chain: String,
    /// What audit mode would have denied or rejected, of all attachments that have the same policy.
    pub would_deny: Counter,
    /// How many attachments have the same policy, and so the same rule counters.
    pub policy_users: usize,
    /// What did not get as far as the rules.
    pub dropped_at_veth: Counter,
    /// The same by the rows of [`crate::plan::veth::table`].
    pub dropped_by_kind: Dropped,
    /// What denied last. None: nothing did, or one of several: rules know how often they denied, not
    /// when.
    pub last_deny_rule: Option<String>,
    /// Empty if the rules are another version's.
    pub tiers: Vec<TierView>,
    pub default: Option<DefaultView>,
    /// Why it may have older rules than what is written. None: it has not, or no agent answers.
    pub pending: Option<String>,
}

/// One source of rules.
#[derive(Debug, Serialize)]
pub(super) struct TierView {
    pub tier: Tier,
    pub source: String,
    pub audit: bool,
    pub rules: Vec<RuleView>,
}

#[derive(Debug, Serialize)]
pub(super) struct RuleView {
    /// As in log lines: `pod:3`.
    pub rule: String,
    pub line: usize,
    pub text: String,
    /// None: there is nothing that the rule could match.
    pub counted: Option<Counter>,
}

/// What is left when no rule decided.
#[derive(Debug, Serialize)]
pub(super) struct DefaultView {
    pub rule: String,
    pub action: DefaultAction,
    pub audit: bool,
    pub counted: Option<Counter>,
}

/// What the veth's chains dropped, by the rows of their table.
pub(super) type Dropped = BTreeMap<String, Counter>;

/// What rules counted, by their labels.
pub(super) type Counted = HashMap<String, Counter>;

impl Detail {
    pub(super) fn read(
        record: &Record,
        nft: &mut Nft,
        state: &StateDir,
        users: usize,
    ) -> Result<Detail, kernel::Error> {
        let kernel = Kernel::read(nft, state, [record])?;
        let mut row = Row::new(record, &kernel, users);
        let mut dropped = Dropped::new();
        for chain in [veth_chain, nd_chain, many_chain] {
            for rule in nft.rule_counters(&NETDEV, &chain(record.id.as_str()))? {
                // Another version's rules have no names.
                let kind = rule.comment.unwrap_or_else(|| "other".to_owned());
                *dropped.entry(kind).or_default() += rule.counter;
            }
        }
        let policy = record.policy.rebuild().ok();
        let mut counted = Counted::new();
        if let Some(policy) = &policy {
            let compiled = plan::compile(policy, record.log_group);
            counted = enforce::Counting::of(&compiled).count(nft)?;
            if row.problems.is_empty() && record.layout == LAYOUT {
                row.add_problems(difference(record, nft, state, &compiled)?);
            }
        }
        Ok(Detail::new(
            record,
            row,
            users,
            dropped,
            policy.as_ref(),
            &counted,
        ))
    }

    pub(super) fn new(
        record: &Record,
        row: Row,
        users: usize,
        dropped_by_kind: Dropped,
        policy: Option<&Effective>,
        counted: &Counted,
    ) -> Detail {
        Detail {
            row,
            network: record.network.clone(),
            mac: Mac(record.mac).to_string(),
            link_local: record.link_local.clone(),
            veth_index: record.veth_index,
            log_group: record.log_group,
            policy_chain: record.policy_chain.clone(),
            would_deny: policy.map(|p| would_deny(p, counted)).unwrap_or_default(),
            policy_users: users,
            dropped_at_veth: dropped_by_kind.values().copied().sum(),
            dropped_by_kind,
            last_deny_rule: policy.and_then(|p| only_denier(p, counted)),
            tiers: policy.map(|p| tiers(p, counted)).unwrap_or_default(),
            default: policy.map(|p| default(p, counted)),
            pending: None,
        }
    }

    /// What the state directory and the agent know beside the record and the kernel.
    pub(super) fn add_known(&mut self, state: &StateDir, agent: Option<&Node>) {
        self.row.add_known(state, agent);
        self.pending = agent.and_then(|agent| agent.pending.clone());
    }

    fn dropped_text(&self) -> String {
        let some = self.dropped_by_kind.iter().filter(|(_, c)| c.packets > 0);
        let kinds: Vec<String> = some
            .map(|(kind, c)| format!("{kind} {}", c.packets))
            .collect();
        let all = amount(self.dropped_at_veth);
        match &kinds[..] {
            [] => format!("{all}, at the veth"),
            kinds => format!("{all}, at the veth: {}", kinds.join(", ")),
        }
    }

    pub(super) fn text(&self, colour: bool) -> String {
        let mut text = toned(&self.row.title, Tone::Strong, colour) + "\n";
        let row = &self.row;
        let link_local: Vec<_> = self.link_local.iter().map(|a| (*a).into()).collect();
        let egress = match &row.egress_ips[..] {
            [] => "none: the primary CNI's choice".to_owned(),
            list => addresses(list),
        };
        let would_deny_text = match self.would_deny.packets {
            0 => String::new(),
            _ => format!(
                "{}, of all attachments that have this policy",
                amount(self.would_deny)
            ),
        };
        let lines = [
            ("attachment", row.id.clone()),
            (
                "interface",
                format!("{} of network {}", row.interface, self.network),
            ),
            ("container", row.container_id.clone()),
            ("uid", row.uid.clone().unwrap_or_else(|| "-".to_owned())),
            ("addresses", addresses(&row.addresses)),
            ("link-local", addresses(&link_local)),
            ("MAC", self.mac.clone()),
            ("veth", format!("{}, index {}", row.veth, self.veth_index)),
            (
                "bridge",
                row.bridge.clone().unwrap_or_else(|| "-".to_owned()),
            ),
            ("egress IP", egress),
            ("mode", row.mode.as_str().to_owned()),
            ("log group", self.log_group.to_string()),
            ("policy", self.policy_text()),
            ("judged", amount(row.judged)),
            ("denied", amount(row.denied)),
            ("would deny", would_deny_text),
            ("last deny", self.last_deny_text()),
            ("last logged deny", self.last_logged_text()),
            ("dropped", self.dropped_text()),
            ("forged checksums", row.forged_checksums.to_string()),
            ("state", row.state_text(colour)),
        ];
        // Writing to a String can't fail.
        for (name, value) in lines {
            if !value.is_empty() {
                let _ = writeln!(text, "  {name:17} {value}");
            }
        }
        if let Some(pending) = &self.pending {
            let _ = writeln!(
                text,
                "\n{}: {pending}",
                toned("pending", Tone::Warning, colour)
            );
        }
        for why in self.row.invalid.iter().flatten() {
            let title = toned("not in force", Tone::Warning, colour);
            let _ = writeln!(text, "\n{title}: what is written now cannot be enforced");
            for line in why.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        for tier in &self.tiers {
            let source = toned(&format!("({})", tier.source), Tone::Faint, colour);
            let title = toned(tier.tier.as_str(), Tone::Strong, colour);
            let audit = audit(tier.audit, colour);
            let _ = writeln!(text, "\n{title} {source}{audit}");
            text.push_str(&rules_table(&tier.rules));
        }
        if let Some(default) = &self.default {
            let audit = audit(default.audit, colour);
            let title = toned("default", Tone::Strong, colour);
            let _ = writeln!(text, "\n{title}{audit}");
            text.push_str(&rules_table(&[RuleView {
                rule: default.rule.clone(),
                line: 0,
                text: default.action.as_str().to_owned(),
                counted: default.counted,
            }]));
        }
        if self.policy_users > 1 {
            let _ = writeln!(
                text,
                "\nThe rules' counters are those of all {} attachments that have this policy.",
                self.policy_users
            );
        }
        text
    }
}

impl Detail {
    /// `pol-0123456789abcdef, since 2026-01-31T09:30:00Z, 2d ago`
    fn policy_text(&self) -> String {
        match self.row.policy_since {
            Some(since) => format!("{}, since {since:.0}, {}", self.policy_chain, ago(since)),
            None => self.policy_chain.clone(),
        }
    }

    /// `2026-01-31T09:30:00Z, 12s ago, 203.0.113.9:443/tcp by pod:erp`; nothing if none is known.
    fn last_logged_text(&self) -> String {
        let Some(deny) = &self.row.last_logged_deny else {
            return String::new();
        };
        let (time, verdict) = (deny.time, deny.verdict.as_str());
        let (to, rule) = (deny.to(), &deny.rule);
        format!("{time:.0}, {}, {verdict} {to} by {rule}", ago(time))
    }

    /// `2026-01-31T09:30:00Z, 12s ago, by pod:erp`
    fn last_deny_text(&self) -> String {
        let Some(time) = self.row.last_deny else {
            let none = self.row.denied.packets == 0;
            return if none { "-" } else { "more than 30 days ago" }.to_owned();
        };
        let by = match &self.last_deny_rule {
            Some(rule) => format!(", by {rule}"),
            None => String::new(),
        };
        format!("{time:.0}, {}{by}", ago(time))
    }
}

fn audit(audit: bool, colour: bool) -> String {
    if !audit {
        return String::new();
    }
    let text = toned("audit: nothing is denied", Tone::Warning, colour);
    format!(" {text}")
}

fn rules_table(rules: &[RuleView]) -> String {
    let mut table = Table::new(&["  PACKETS", "BYTES", "NAME", "RULE"]);
    for rule in rules {
        let number = |of: fn(Counter) -> u64| {
            rule.counted
                .map_or_else(|| "-".to_owned(), |c| of(c).to_string())
        };
        table.row(vec![
            format!("  {}", number(|c| c.packets)),
            number(|c| c.bytes),
            rule.rule.clone(),
            rule.text.clone(),
        ]);
    }
    table.to_string()
}

fn tiers(policy: &Effective, counted: &Counted) -> Vec<TierView> {
    let view = |tier: &rules::effective::TierRules| TierView {
        tier: tier.tier,
        source: tier.source.clone(),
        audit: tier.audit,
        rules: tier
            .rules
            .iter()
            .map(|rule| {
                let name = tier.label(rule);
                RuleView {
                    counted: counted.get(&name).copied(),
                    rule: name,
                    line: rule.line,
                    text: rule.text.clone(),
                }
            })
            .collect(),
    };
    policy.tiers.iter().map(view).collect()
}

fn default(policy: &Effective, counted: &Counted) -> DefaultView {
    let rule = policy.default_action.label();
    DefaultView {
        counted: counted.get(rule).copied(),
        rule: rule.to_owned(),
        action: policy.default_action,
        audit: policy.default_audit,
    }
}

fn would_deny(policy: &Effective, counted: &Counted) -> Counter {
    let rules = policy
        .tiers
        .iter()
        .filter(|tier| tier.audit)
        .flat_map(|tier| {
            let denies = |rule: &&Rule| matches!(rule.verb, Verb::Deny | Verb::Reject);
            let rules = tier.rules.iter().filter(denies);
            rules.map(|rule| tier.label(rule))
        });
    let default = (policy.default_audit && policy.default_action == DefaultAction::Deny)
        .then(|| policy.default_action.label().to_owned());
    let labels = rules.chain(default);
    labels
        .filter_map(|label| counted.get(&label).copied())
        .sum()
}

/// The rule that has denied, if only one has.
fn only_denier(policy: &Effective, counted: &Counted) -> Option<String> {
    let rules = policy.tiers.iter().flat_map(|tier| {
        let denies = |rule: &&Rule| matches!(rule.verb, Verb::Deny | Verb::Reject);
        let label = |rule: &Rule| format!("{}:{}", tier.tier, rule.label());
        tier.rules.iter().filter(denies).map(label)
    });
    let default = (policy.default_action == DefaultAction::Deny)
        .then(|| format!("default:{}", policy.default_action.as_str()));
    let mut deniers = rules
        .chain(default)
        .filter(|label| counted.get(label).is_some_and(|c| c.packets > 0));
    let first = deniers.next();
    first.filter(|_| deniers.next().is_none())
}

/// The first thing in the kernel that differs from the plan. Not compared if a later ADD has
/// brought a base for other cluster networks.
fn difference(
    record: &Record,
    nft: &mut Nft,
    state: &StateDir,
    compiled: &Compiled,
) -> Result<Option<String>, nft::Error> {
    let base = Base::new(&record.policy.facts.cluster);
    if !nft.has_set(&INET, base.marker())? {
        return Ok(None);
    }
    let plan = AttachmentPlan::from(record);
    enforce::verify(nft, state, &base, compiled, &plan, &mut Compared::default())
}
