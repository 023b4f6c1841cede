//! What stands at a rule's end: `log`, `log=10/s`, `priority=100`, `name=LABEL`, `until=TIMESTAMP`.

use jiff::Timestamp;

use super::label;
use super::number::{NumberError, number};
use crate::fault::{Complaint, quoted};
use crate::nearest::nearest;
use crate::rule::Log;

/// The options' names.
const NAMES: [&str; 4] = ["log", "priority", "name", "until"];

/// Log lines a second and rule that may be asked for: more would only be lost on the way (NFLOG's buffer).
const FASTEST_LOG: u32 = 10_000;

/// The options of one rule, each at most once.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub log: Option<Log>,
    pub priority: Option<u16>,
    pub name: Option<String>,
    pub until: Option<Timestamp>,
}

/// Whether a word, right or wrong, is meant as an option.
pub(super) fn looks_like_one(word: &str) -> bool {
    word.contains('=') || NAMES.iter().any(|name| word.eq_ignore_ascii_case(name))
}

impl Options {
    /// Reads one option.
    pub fn read(&mut self, word: &str) -> Result<(), Complaint> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        match key.to_ascii_lowercase().as_str() {
            "log" => once(&mut self.log, "log", log(value)?),
            "priority" => once(&mut self.priority, "priority", priority(value)?),
            "name" => once(&mut self.name, "name", name(value)?),
            "until" => once(&mut self.until, "until", until(value)?),
            _ => {
                let complaint = Complaint::new(format!(
                    "expected an option (`log`, `priority`, `name` or `until`), found {}",
                    quoted(key)
                ));
                if matches!(
                    key.to_ascii_lowercase().as_str(),
                    "port" | "ports" | "dport"
                ) {
                    return Err(complaint.help(super::ports::NO_WORD));
                }
                let equals = if value.is_some() { "=" } else { "" };
                Err(complaint
                    .maybe_meant(nearest(key, &NAMES).map(|name| format!("{name}{equals}"))))
            }
        }
    }
}

fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Complaint> {
    if slot.is_some() {
        return Err(Complaint::new(format!("`{key}` is given twice")));
    }
    *slot = Some(value);
    Ok(())
}

fn needed<'a>(value: Option<&'a str>, key: &str, example: &str) -> Result<&'a str, Complaint> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        Complaint::new(format!("`{key}` needs a value"))
            .help(format!("write `{key}={example}`, without spaces"))
    })
}

fn log(value: Option<&str>) -> Result<Log, Complaint> {
    let Some(value) = value else {
        return Ok(Log::Default);
    };
    let wrong = || {
        Complaint::new(format!(
            "expected `log` or `log=N/s` with N from 1 to {FASTEST_LOG}, found {}",
            quoted(&format!("log={value}"))
        ))
    };
    let Some((count, unit)) = value.split_once('/') else {
        return Err(match number::<u32>(value) {
            Ok(count) if (1..=FASTEST_LOG).contains(&count) => {
                wrong().meant(format!("log={count}/s"))
            }
            _ => wrong(),
        });
    };
    match number::<u32>(count) {
        Ok(count) if (1..=FASTEST_LOG).contains(&count) && unit.eq_ignore_ascii_case("s") => {
            Ok(Log::PerSecond(count))
        }
        Ok(0) => Err(wrong().help("leave `log` out to log nothing")),
        _ => Err(wrong()),
    }
}

fn priority(value: Option<&str>) -> Result<u16, Complaint> {
    let value = needed(value, "priority", "100")?;
    number::<u16>(value).map_err(|error| match error {
        NumberError::LeadingZero => error.complaint("a priority", value),
        _ => Complaint::new(format!(
            "expected a priority from 0 to 65535, found {}",
            quoted(value)
        )),
    })
}

fn name(value: Option<&str>) -> Result<String, Complaint> {
    let value = needed(value, "name", "no-internet")?;
    if label::is_label(value) {
        return Ok(value.to_owned());
    }
    let complaint = Complaint::new(format!(
        "expected a name of at most {} lower case letters, digits and inner hyphens, found {}",
        label::LONGEST,
        quoted(value)
    ));
    let better = value.to_ascii_lowercase().replace(['_', '.'], "-");
    Err(complaint.maybe_meant(label::is_label(&better).then(|| format!("name={better}"))))
}

fn until(value: Option<&str>) -> Result<Timestamp, Complaint> {
    const EXAMPLE: &str = "2027-01-31T00:00:00Z";
    let value = needed(value, "until", EXAMPLE)?;
    let complaint = Complaint::new(format!(
        "expected an RFC 3339 time as `{EXAMPLE}`, found {}",
        quoted(value)
    ));
    if is_date(value) {
        return Err(complaint.meant(format!("until={value}T00:00:00Z")));
    }
    if !is_rfc3339(value) {
        let zoned = format!("{value}Z");
        return Err(complaint.maybe_meant(is_rfc3339(&zoned).then(|| format!("until={zoned}"))));
    }
    match value.parse::<Timestamp>() {
        // jiff's own last moment is a day before the last one that can be written.
        Err(_) if is_last_day(value) => Ok(whole_seconds(Timestamp::MAX)),
        Ok(until) if until >= Timestamp::UNIX_EPOCH => Ok(whole_seconds(until)),
        Ok(_) => Err(Complaint::new(format!("{} is before 1970", quoted(value)))),
        Err(_) => Err(complaint.help("there is no such day or hour")),
    }
}

/// 30 or 31 December 9999, at an hour that there is.
fn is_last_day(value: &str) -> bool {
    let Some((day, time)) = value.split_at_checked("9999-12-3".len() + 1) else {
        return false;
    };
    matches!(day, "9999-12-30" | "9999-12-31")
        && format!("9999-12-29{time}").parse::<Timestamp>().is_ok()
}

/// Without its fraction: nf_tables text knows whole seconds only, and a rule has to mean the same there.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `2027-01-31`.
fn is_date(text: &str) -> bool {
    shape(text) == "dddd-dd-dd"
}

/// The form of RFC 3339 section 5.6. jiff alone takes more: no seconds, no colons, zone names in brackets.
fn is_rfc3339(text: &str) -> bool {
    if text.len() > 40 {
        return false;
    }
    let shape = shape(text);
    let Some(rest) = shape.strip_prefix("dddd-dd-ddTdd:dd:dd") else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches('d');
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    matches!(zone, "Z" | "+dd:dd" | "-dd:dd")
}

/// The text with `d` for each digit, `T` and `Z` in upper case.
fn shape(text: &str) -> String {
    text.chars()
        .take(41)
        .map(|c| match c {
            '0'..='9' => 'd',
            // A letter `d` must not look like a digit.
            'd' => 'D',
            _ => c.to_ascii_uppercase(),
        })
        .collect()
}
