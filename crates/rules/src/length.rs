//! Lengths of time on command lines, as kubectl has them.

use std::time::Duration;

use jiff::SignedDuration;

/// `90s`, `1m`, `1h30m`; a number alone is seconds.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
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
}
