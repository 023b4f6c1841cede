//! The answer for people: first what happens, then by what, then the way to it.

use std::fmt::Write;

use super::super::output::{Table, Tone, toned};
use crate::explain::{Answer, DECIDES, Explanation, NOT_REACHED, PASSES_ON, StepLine, Why};

/// The whole explanation. `all`: also where nothing was reached.
pub(super) fn render(explanation: &Explanation, all: bool, colour: bool) -> String {
    let mut out = String::new();
    // Answers about one address follow one another.
    for answers in explanation
        .answers
        .chunk_by(|a, b| a.destination == b.destination)
    {
        if !out.is_empty() {
            out.push('\n');
        }
        match answers {
            [one] => single(&mut out, explanation, one, all, colour),
            several => table(&mut out, explanation, several, all, colour),
        }
    }
    let notes = explanation.notes.iter();
    for (index, note) in notes.enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        line(&mut out, &format!("{gap}note: {note}"));
    }
    out
}

/// One answer for all that was asked, and the way to it.
fn single(out: &mut String, explanation: &Explanation, answer: &Answer, all: bool, colour: bool) {
    let audit = match answer.verdict {
        "would-deny" | "would-reject" => " (audit mode: the packet is allowed)",
        _ => "",
    };
    line(
        out,
        &format!(
            "{}  {} -> {}{audit}",
            headline(answer, colour),
            explanation.source.title,
            asked(answer)
        ),
    );
    decided_by(out, explanation, answer);
    if let Some(prefix) = &answer.log_prefix {
        line(out, &format!("logged as \"{prefix}\""));
    }
    if answer.passes {
        line(out, &seen_as(answer));
    }
    way(out, explanation, answer, all, colour);
}

/// What the protocol, the port or the Service decides.
fn table(out: &mut String, explanation: &Explanation, answers: &[Answer], all: bool, colour: bool) {
    let Some(first) = answers.first() else {
        return;
    };
    let by_way = answers.iter().any(|answer| !answer.sent_to.is_empty());
    let by_traffic = answers.iter().any(|answer| answer.traffic != first.traffic);
    let same = answers.iter().all(|answer| answer.verdict == first.verdict);
    let (depends, whatever) = match (by_traffic, by_way) {
        (_, false) => (
            "on the protocol or the port",
            "whatever the protocol and port",
        ),
        (false, true) => ("on where the pod sent it", "wherever the pod sent it"),
        (true, true) => (
            "on the protocol or the port, and on where the pod sent it",
            "whatever the protocol and port, wherever the pod sent it",
        ),
    };
    let (verdict, why) = if same {
        (
            headline(first, colour),
            format!("{whatever}, by several rules"),
        )
    } else {
        (toned("DEPENDS", Tone::Warning, colour), depends.to_owned())
    };
    let (source, asked) = (&explanation.source.title, asked(first));
    line(out, &format!("{verdict}  {source} -> {asked}: {why}"));
    let mut titles = vec!["VERDICT", "RULE", "LOGGED", "TRAFFIC"];
    if by_way {
        titles.insert(3, "SENT TO");
    }
    let mut table = Table::new(&titles);
    for answer in answers {
        let mut cells = vec![
            answer.verdict.to_owned(),
            rules(answer),
            if answer.logged { "yes" } else { "no" }.to_owned(),
            answer.traffic.join(", "),
        ];
        if by_way {
            let sent_to = answer.sent_to.join(", ");
            cells.insert(
                3,
                if sent_to.is_empty() {
                    "anything".to_owned()
                } else {
                    sent_to
                },
            );
        }
        table.row(cells);
    }
    let _ = write!(out, "{table}");
    if answers.iter().any(|answer| answer.passes) {
        line(out, &seen_as(first));
    }
    if all {
        // Each answer has a way of its own: the policy alone is shown.
        let steps = first.steps.iter().cloned();
        let steps: Vec<StepLine> = steps.map(|step| StepLine { result: "", ..step }).collect();
        line(out, "");
        tiers(out, &steps, colour);
        default(out, explanation, "");
    } else if by_traffic {
        line(
            out,
            "Ask for one protocol and port, such as 443/tcp, to see the way to its answer.",
        );
    }
}

/// What decided, and behind which `pass`.
fn rules(answer: &Answer) -> String {
    let passes = answer.steps.iter().filter(|step| step.result == PASSES_ON);
    let passes = passes.map(|step| format!("{} passes, ", step.rule));
    passes.chain([answer.rule.clone()]).collect()
}

fn headline(answer: &Answer, colour: bool) -> String {
    let tone = match answer.verdict {
        "allow" => Tone::Good,
        "deny" | "reject" => Tone::Bad,
        _ => Tone::Warning,
    };
    toned(&answer.verdict.to_uppercase(), tone, colour)
}

fn asked(answer: &Answer) -> String {
    match &answer.via {
        Some(via) => format!("{}, sent to {via}", answer.asked),
        None => answer.asked.clone(),
    }
}

fn decided_by(out: &mut String, explanation: &Explanation, answer: &Answer) {
    let Why { by, rule } = explanation.why(answer);
    line(out, &format!("by {by}"));
    if let Some(rule) = rule {
        line(out, &format!("    {rule}"));
    }
}

fn seen_as(answer: &Answer) -> String {
    match answer.egress_ips.as_slice() {
        [] => "source address: the primary CNI's choice".to_owned(),
        [one] if !one.contains('/') => format!("source address: {one}, the egress IP"),
        some => format!("source address: an egress IP, one of {}", some.join(", ")),
    }
}

fn way(out: &mut String, explanation: &Explanation, answer: &Answer, all: bool, colour: bool) {
    let decided = answer.steps.iter().any(|step| step.result == DECIDES);
    if answer.steps.is_empty() && explanation.source.exempt {
        return;
    }
    line(out, "");
    tiers(out, &answer.steps, colour);
    if !decided {
        default(out, explanation, DECIDES);
    } else if all {
        default(out, explanation, NOT_REACHED);
    }
}

fn tiers(out: &mut String, steps: &[StepLine], colour: bool) {
    let width = steps.iter().map(|step| step.text.chars().count());
    let width = width.max().unwrap_or(0);
    for tier in steps.chunk_by(|a, b| a.tier == b.tier) {
        let Some(first) = tier.first() else {
            continue;
        };
        let audit = if first.audit { ", audit" } else { "" };
        let title = format!("{} ({}{audit})", first.tier, first.source);
        line(out, &toned(&title, Tone::Strong, colour));
        for step in tier {
            let mark = if step.result == DECIDES { '>' } else { ' ' };
            let text = format!(
                "{mark} {:>3}  {:width$}  {}",
                step.line, step.text, step.result
            );
            let tone = match step.result {
                DECIDES | PASSES_ON | "" => None,
                _ => Some(Tone::Faint),
            };
            let text = text.trim_end();
            line(
                out,
                &tone.map_or(text.to_owned(), |tone| toned(text, tone, colour)),
            );
        }
    }
}

fn default(out: &mut String, explanation: &Explanation, result: &str) {
    let audit = if explanation.default_audit {
        ", audit"
    } else {
        ""
    };
    let action = explanation.default_action;
    let mark = if result == DECIDES { "> " } else { "  " };
    line(
        out,
        &format!("{mark}defaultAction: {action}{audit}  {result}"),
    );
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}
