//! Domain names in rules: `api.example.com` and `*.example.com`.

use std::fmt;
use std::str::FromStr;

use crate::fault::{Complaint, quoted};

/// Bytes that a name may have, as text without the dot at its end (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;
/// Bytes of one label (the same).
const LONGEST_LABEL: usize = 63;

/// Which domain names a rule means: one, or all that end so.
///
/// ```
/// use egressway_rules::pattern::Pattern;
///
/// let all: Pattern = "*.Example.com.".parse()?;
/// assert_eq!(all.to_string(), "*.example.com");
/// assert!(all.matches("a.b.EXAMPLE.com.") && !all.matches("example.com"));
/// # Ok::<(), egressway_rules::fault::Complaint>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// In lower case, without a dot at either end.
    name: String,
    /// One or more labels stand before it.
    wildcard: bool,
}

impl Pattern {
    /// Whether a name is meant, in whatever case, with or without the dot at its end.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        if !self.wildcard {
            return name.eq_ignore_ascii_case(&self.name);
        }
        let Some(split) = name.len().checked_sub(self.name.len()) else {
            return false;
        };
        let (Some(before), Some(rest)) = (name.get(..split), name.get(split..)) else {
            return false;
        };
        let labels = before.strip_suffix('.');
        labels.is_some_and(|labels| !labels.is_empty()) && rest.eq_ignore_ascii_case(&self.name)
    }

    /// Whether every name that the other one means is meant.
    pub fn covers(&self, other: &Pattern) -> bool {
        self == other || self.wildcard && self.matches(&other.name)
    }

    /// Whether all names of a public suffix of one label are meant: `*.com`.
    pub fn is_very_wide(&self) -> bool {
        self.wildcard && !self.name.contains('.')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.wildcard { "*." } else { "" };
        write!(f, "{before}{}", self.name)
    }
}

impl FromStr for Pattern {
    type Err = Complaint;

    fn from_str(word: &str) -> Result<Pattern, Complaint> {
        read(word).ok_or_else(|| {
            Complaint::new(format!("expected a domain name, found {}", quoted(word)))
                .help("`api.example.com`, or `*.example.com` for all names that end so")
        })
    }
}

/// A word that is a domain name: at least two labels, or one behind `*.`; the last not a number (RFC 3696 section 2).
pub(crate) fn read(word: &str) -> Option<Pattern> {
    let lower = word.to_ascii_lowercase();
    let name = ["*.", "**."]
        .into_iter()
        .find_map(|stars| lower.strip_prefix(stars));
    let wildcard = name.is_some();
    let name = name.unwrap_or(&lower);
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels: Vec<&str> = name.split('.').collect();
    let is_name = (labels.len() > 1 || wildcard)
        && name.len() <= LONGEST
        && labels.iter().all(|part| is_label(part))
        && labels
            .last()
            .is_some_and(|last| last.bytes().any(|byte| !byte.is_ascii_digit()));
    is_name.then(|| Pattern {
        name: name.to_owned(),
        wildcard,
    })
}

/// A label as names have it: letters, digits, underscores as in names of services, inner hyphens.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    (1..=LONGEST_LABEL).contains(&bytes.len())
        && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect(text)
    }

    #[test]
    fn what_is_a_name() {
        for (text, canonical) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM.", "api.example.com"),
            ("*.example.com", "*.example.com"),
            ("**.example.com.", "*.example.com"),
            ("*.com", "*.com"),
            ("_srv._tcp.example.com", "_srv._tcp.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.example", "1.2.3.example"),
        ] {
            assert_eq!(pattern(text).to_string(), canonical, "{text}");
        }
        let long = format!("{}.example", vec!["a"; 130].join("."));
        for text in [
            "example",
            "",
            ".",
            "*",
            "*.",
            "**",
            "a..b",
            ".a.b",
            "a.b..",
            "a.*.b",
            "*a.b",
            "*.*.b",
            "***.b.c",
            "a.b*",
            "1.2.3.4",
            "1.2",
            "-a.b",
            "a-.b",
            "bücher.example",
            "a b.c",
            &long,
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_pattern_means() {
        for (text, name, means) in [
            ("a.example", "a.example", true),
            ("a.example", "A.EXAMPLE.", true),
            ("a.example", "b.a.example", false),
            ("a.example", "a.example.org", false),
            ("a.example", "xa.example", false),
            ("*.example", "a.example", true),
            ("*.example", "b.A.Example.", true),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*.example", "aexample", false),
            ("*.a.example", "xa.example", false),
            ("*.a.example", "b.xa.example", false),
            ("*.a.example", "x.a.example", true),
            ("*.a.example", "é.a.example", true),
            ("*.a.example", "", false),
        ] {
            assert_eq!(pattern(text).matches(name), means, "{text} {name}");
        }
    }

    #[test]
    fn what_covers_what() {
        for (one, other, covers) in [
            ("a.b.c", "a.b.c", true),
            ("*.b.c", "a.b.c", true),
            ("*.b.c", "*.b.c", true),
            ("*.b.c", "*.a.b.c", true),
            ("*.b.c", "b.c", false),
            ("*.a.b.c", "*.b.c", false),
            ("a.b.c", "*.b.c", false),
            ("a.b.c", "*.a.b.c", false),
        ] {
            assert_eq!(
                pattern(one).covers(&pattern(other)),
                covers,
                "{one} {other}"
            );
        }
    }

    fn names() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]{1,2}", 2..5).prop_map(|labels| labels.join("."))
    }

    proptest! {
        /// What covers another means whatever that one means.
        #[test]
        fn covering_is_about_names(
            one in names(), other in names(), name in names(), stars in any::<(bool, bool)>(),
        ) {
            let of = |name: &str, star| pattern(&format!("{}{name}", if star { "*." } else { "" }));
            let (one, other) = (of(&one, stars.0), of(&other, stars.1));
            if one.covers(&other) && other.matches(&name) {
                prop_assert!(one.matches(&name));
            }
            prop_assert_eq!(pattern(&one.to_string()), one);
        }
    }
}
