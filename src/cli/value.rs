//! Values on the command line, with errors that say what is expected.

use std::time::Duration;

use jiff::SignedDuration;

/// `90s`, `1m`, `1h30m`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration, such as 90s, 1m or 1h30m".to_owned();
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    // As kubectl has it: jiff alone takes `1 minute ago` and ISO 8601, too.
    let known = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's' | 'u' | 'n');
    if !text.chars().all(known) {
        return Err(wrong());
    }
    let length: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

/// The same, but not so short that a program would be busy with nothing else.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length < Duration::from_secs(1) {
        return Err("expected a second or more".to_owned());
    }
    Ok(length)
}

/// A whole number of one or more: how many of something.
pub(super) fn count(text: &str) -> Result<u64, String> {
    at_least(1, text)
}

/// Two or more: how many make a network.
pub(super) fn several(text: &str) -> Result<u64, String> {
    at_least(2, text)
}

fn at_least(least: u64, text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("expected a number, {least} or more"))
}

/// An NFLOG group that has a next one.
pub(super) fn group(text: &str) -> Result<u16, String> {
    let group = text.parse().ok().filter(|group| *group < u16::MAX);
    group.ok_or_else(|| "expected the number of an NFLOG group, 0 to 65534".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_kubectl() {
        for (text, seconds) in [
            ("60", 60),
            ("0", 0),
            ("90s", 90),
            ("1m", 60),
            ("1h30m", 5400),
            ("2h", 7200),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "m", "1 minute", "-1s", "PT1M", "1x", "1m ago", "ten"] {
            let error = duration(wrong).expect_err(wrong);
            assert_eq!(error, "expected a duration, such as 90s, 1m or 1h30m");
        }
    }

    #[test]
    fn what_is_no_number_gets_the_right_word() {
        assert_eq!(
            (count("1"), several("2"), group("0")),
            (Ok(1), Ok(2), Ok(0))
        );
        assert_eq!(count("0"), Err("expected a number, 1 or more".to_owned()));
        assert_eq!(several("x"), Err("expected a number, 2 or more".to_owned()));
        assert!(group("65535").is_err() && interval("999ms").is_err());
        assert_eq!(interval("1m"), Ok(Duration::from_secs(60)));
    }
}
