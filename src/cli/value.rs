//! Values on the command line, with errors that say what is expected.

use std::time::Duration;

pub(super) use rules::length::duration;

/// A [`duration`], but not so short that a program would be busy with nothing else.
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
