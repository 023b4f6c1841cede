//! Findings as text, JSON and SARIF.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::output::{Table, Tone, printable, toned};
use crate::lint::{self, Finding, Kind, STDIN, Severity};

/// How many of which there are.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Counts {
    pub files: usize,
    pub errors: usize,
    pub warnings: usize,
}

impl Counts {
    pub fn of(files: usize, findings: &[Finding]) -> Self {
        let count = |severity| findings.iter().filter(|f| f.severity() == severity).count();
        Self {
            files,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
        }
    }

    /// `2 errors, 1 warning in 3 files`.
    pub fn sentence(self) -> String {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        format!(
            "{}, {} in {}",
            counted(self.errors, "error"),
            counted(self.warnings, "warning"),
            counted(self.files, "file")
        )
    }
}

/// As compilers do it: place, severity, message; the line; carets; help. Nothing if nothing was found.
pub(super) fn text(
    out: &mut dyn Write,
    findings: &[Finding],
    summary: Counts,
    colour: bool,
) -> io::Result<()> {
    for finding in findings {
        let fault = &finding.fault;
        let tone = match finding.severity() {
            Severity::Error => Tone::Bad,
            Severity::Warning => Tone::Warning,
        };
        let source = printable(&fault.source);
        let place = format!("{source}:{}:{}:", fault.line, fault.column);
        writeln!(
            out,
            "{} {} {} {}",
            toned(&place, Tone::Strong, colour),
            toned(&format!("{}:", finding.severity().as_str()), tone, colour),
            printable(&fault.message),
            toned(&format!("[{}]", finding.kind.id), Tone::Faint, colour)
        )?;
        writeln!(out, "  {}", fault.source_line)?;
        let (indent, carets) = (fault.caret.0, "^".repeat(fault.caret.1));
        writeln!(out, "  {:indent$}{}", "", toned(&carets, tone, colour))?;
        if let Some(help) = fault.help.as_deref().map(printable) {
            writeln!(out, "  {} {help}", toned("help:", Tone::Good, colour))?;
        }
    }
    if !findings.is_empty() {
        writeln!(out, "{}", summary.sentence())?;
    }
    Ok(())
}

/// One object: `findings` and `summary`.
pub(super) fn json(out: &mut dyn Write, findings: &[Finding], summary: Counts) -> io::Result<()> {
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let fault = &finding.fault;
            json!({
                "file": fault.source,
                "line": fault.line,
                "column": fault.column,
                "endColumn": fault.column + fault.width,
                "severity": finding.severity(),
                "rule": finding.kind.id,
                "message": fault.message,
                "help": fault.help,
                "object": finding.object,
                "sourceLine": fault.source_line,
            })
        })
        .collect();
    write_json(out, &json!({"findings": findings, "summary": summary}))
}

/// SARIF 2.1.0 (OASIS), which code hosts show in pull requests.
pub(super) fn sarif(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    let rules: Vec<Value> = lint::ALL
        .iter()
        .map(|kind| {
            json!({
                "id": kind.id,
                "shortDescription": {"text": format!("{}.", kind.meaning)},
                "defaultConfiguration": {"level": kind.severity.as_str()},
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "egressway lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    write_json(out, &document)
}

fn result(finding: &Finding) -> Value {
    let fault = &finding.fault;
    let message = match &fault.help {
        Some(help) => format!("{}\nhelp: {help}", fault.message),
        None => fault.message.clone(),
    };
    let index = lint::ALL.iter().position(|kind| *kind == finding.kind);
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": {"uri": uri(&fault.source)},
            "region": {
                "startLine": fault.line,
                "startColumn": fault.column,
                "endColumn": fault.column + fault.width,
            },
        },
    });
    if let Some(object) = &finding.object {
        location["logicalLocations"] = json!([{"fullyQualifiedName": object, "kind": "object"}]);
    }
    json!({
        "ruleId": finding.kind.id,
        "ruleIndex": index,
        "level": finding.severity(),
        "message": {"text": message},
        "locations": [location],
    })
}

/// A file's name as a URI (RFC 3986): relative to the working directory where that is possible.
fn uri(name: &str) -> String {
    if name == STDIN {
        return "stdin".to_owned();
    }
    let path = Path::new(name);
    let working = std::env::current_dir().ok();
    let relative = working.and_then(|dir| path.strip_prefix(dir).ok().map(Path::to_owned));
    let path = relative.as_deref().unwrap_or(path);
    let scheme = if path.is_absolute() { "file://" } else { "" };
    let mut uri = scheme.to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// All kinds of findings.
pub(super) fn kinds(out: &mut dyn Write, as_json: bool) -> io::Result<()> {
    if as_json {
        return write_json(out, &json!(lint::ALL));
    }
    let mut table = Table::new(&["CHECK", "SEVERITY", "MEANING"]);
    let row = |kind: &&Kind| {
        [kind.id, kind.severity.as_str(), kind.meaning]
            .map(str::to_owned)
            .into()
    };
    lint::ALL.iter().map(row).for_each(|cells| table.row(cells));
    write!(out, "{table}")
}

fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}
