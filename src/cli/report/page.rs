//! The page: everything in one file, nothing that runs.

use super::chart;
use super::html::{ColumnKind, HtmlTable, escape, time_text};
use super::rules::{RuleUse, Rules};
use super::summary::{Fate, Summary};
use crate::cli::output::how_many;

/// Rows beyond this help nobody, and browsers get slow.
const MOST_ROWS: usize = 1000;
const MOST_STOPPED: usize = 25;
/// Names in one cell.
const MOST_NAMES: usize = 5;

/// The browser may load and run nothing, should a text of the log ever get out of its place.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page. `rules`: of the state directory, if it was asked.
pub(super) fn page(summary: &Summary, rules: Option<&Rules>) -> String {
    let sections = [
        section("Over time", &time(summary)),
        section("Most denied destinations", &stopped(summary)),
        section("Rules that were never logged", &unmatched(rules)),
        section("Who talks to what", &talks(summary)),
        section("What this page does not know", &limits(summary, rules)),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Egress report</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <h1>Egress report</h1>\n{}{}{}</body>\n</html>\n",
        include_str!("page.css"),
        span(summary),
        totals(summary),
        sections.concat(),
    )
}

fn section(title: &str, content: &str) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n{content}</section>\n",
        escape(title)
    )
}

fn paragraph(text: &str) -> String {
    format!("<p class=\"faint\">{}</p>\n", escape(text))
}

/// From when to when.
fn span(summary: &Summary) -> String {
    match (summary.first, summary.last) {
        (Some(first), Some(last)) => {
            paragraph(&format!("{} to {} UTC", time_text(first), time_text(last)))
        }
        _ => String::new(),
    }
}

fn totals(summary: &Summary) -> String {
    let mut html = String::from("<dl>\n");
    for fate in Fate::ALL {
        let (name, class) = fate.names();
        let count = summary.counts.of(fate);
        html.push_str(&format!(
            "<div><dt class=\"{class}\">{name}</dt><dd>{count}</dd></div>\n"
        ));
    }
    for (name, count) in [("pods", summary.pods()), ("addresses", summary.addresses())] {
        html.push_str(&format!("<div><dt>{name}</dt><dd>{count}</dd></div>\n"));
    }
    html + "</dl>\n"
}

fn time(summary: &Summary) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for fate in Fate::ALL {
        let (name, class) = fate.names();
        html.push_str(&format!("<span class=\"{class}\">{name}</span>"));
    }
    html + "</p>\n" + &chart::chart(&summary.times)
}

fn stopped(summary: &Summary) -> String {
    if summary.stopped.is_empty() {
        return paragraph("Nothing was logged as denied.");
    }
    let mut all: Vec<_> = summary.stopped.iter().collect();
    all.sort_by_key(|(_, stopped)| std::cmp::Reverse(stopped.counts.stopped()));
    let mut table = HtmlTable::new(&[
        ("Destination", ColumnKind::Short),
        ("Service", ColumnKind::Short),
        ("Denied", ColumnKind::Number),
        ("Would be denied", ColumnKind::Number),
        ("Pods", ColumnKind::Code),
        ("Rules", ColumnKind::Code),
    ]);
    for (to, stopped) in all.iter().take(MOST_STOPPED) {
        let denied = stopped.counts.of(Fate::Denied);
        let class = if denied > 0 { "denied" } else { "audited" };
        table.row(
            class,
            &[
                to.address.to_string(),
                to.service.clone(),
                denied.to_string(),
                stopped.counts.of(Fate::Audited).to_string(),
                some(stopped.pods.iter()),
                some(stopped.rules.iter()),
            ],
        );
    }
    table.html() + &left_out(all.len(), MOST_STOPPED)
}

/// The first few names, and how many more there are.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown: Vec<&str> = names.take(MOST_NAMES).map(String::as_str).collect();
    let mut text = shown.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Says that a table was cut.
fn left_out(rows: usize, shown: usize) -> String {
    match rows.saturating_sub(shown) {
        0 => String::new(),
        more => paragraph(&format!("{more} more are not shown.")),
    }
}

fn talks(summary: &Summary) -> String {
    let mut all: Vec<_> = summary.talks.iter().collect();
    all.sort_by_key(|(_, talk)| std::cmp::Reverse(talk.counts.total()));
    let shown = all.len().min(MOST_ROWS);
    // The most frequent are shown; a pod's stand together.
    all[..shown].sort_by_key(|(key, _)| *key);
    let mut table = HtmlTable::new(&[
        ("Pod", ColumnKind::Code),
        ("Destination", ColumnKind::Short),
        ("Service", ColumnKind::Short),
        ("Allowed", ColumnKind::Number),
        ("Would be denied", ColumnKind::Number),
        ("Denied", ColumnKind::Number),
        ("Last (UTC)", ColumnKind::Text),
    ]);
    for ((pod, to), talk) in &all[..shown] {
        let class = match (talk.counts.of(Fate::Denied), talk.counts.of(Fate::Audited)) {
            (0, 0) => "",
            (0, _) => "audited",
            _ => "denied",
        };
        let mut cells = vec![pod.clone(), to.address.to_string(), to.service.clone()];
        cells.extend(Fate::ALL.map(|fate| talk.counts.of(fate).to_string()));
        cells.push(time_text(talk.last));
        table.row(class, &cells);
    }
    table.html() + &left_out(all.len(), shown)
}

fn unmatched(rules: Option<&Rules>) -> String {
    let Some(rules) = rules else {
        return paragraph("Not known: the report was made without --state-dir.");
    };
    if rules.attachments == 0 && rules.unreadable == 0 {
        return paragraph("The state directory has no attached pod.");
    }
    let never: Vec<(&(String, String), &RuleUse)> = rules
        .logging
        .iter()
        .filter(|(_, of_rule)| !of_rule.matched)
        .collect();
    let mut html = paragraph(&format!(
        "{} attached now, with {} that log; {}. Rules without log leave no trace, except for denies in \
         audit mode: nothing is known about {}.",
        how_many(rules.attachments, "pod"),
        how_many(rules.logging.len() as u64, "rule"),
        match never.len() {
            0 => "each of them is in these logs".to_owned(),
            1 => "1 of them is not in these logs".to_owned(),
            many => format!("{many} of them are not in these logs"),
        },
        how_many(rules.silent, "other rule"),
    ));
    if rules.unreadable > 0 {
        html += &paragraph(&format!(
            "{} of the state directory can't be read, so that its pods' rules are missing here.",
            how_many(rules.unreadable, "record")
        ));
    }
    if never.is_empty() {
        return html;
    }
    let mut table = HtmlTable::new(&[
        ("Rule", ColumnKind::Code),
        ("Text", ColumnKind::Code),
        ("Source", ColumnKind::Code),
        ("Pods", ColumnKind::Number),
    ]);
    for ((label, text), of_rule) in never.iter().take(MOST_ROWS) {
        let pods = of_rule.pods.to_string();
        table.row(
            "",
            &[label.clone(), text.clone(), of_rule.source.clone(), pods],
        );
    }
    html + &table.html() + &left_out(never.len(), MOST_ROWS)
}

fn limits(summary: &Summary, rules: Option<&Rules>) -> String {
    let mut texts = vec![
        "Only what was logged is here: rules without log leave no trace; an allow logs the first packet \
         of each flow, a deny or reject 10 packets a second, if it does not say otherwise. Numbers are \
         log lines, not packets."
            .to_owned(),
        match &summary.lost {
            Some(lost) => format!(
                "{lost} were lost when the log was made, since they came faster than they were written."
            ),
            None => "No message was lost, as far as the log says.".to_owned(),
        },
        format!(
            "{} read; left out because they were no log lines: {}.",
            how_many(summary.lines, "log line"),
            summary.skipped,
        ),
    ];
    if rules.is_some() {
        texts.push(
            "Rules are those of the pods that are attached now; the log may be older than some of them."
                .to_owned(),
        );
    }
    texts.iter().map(|text| paragraph(text)).collect()
}
