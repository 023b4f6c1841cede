//! The CNI spec's versions, and which verbs each of them has.

use std::fmt;

/// A version of the CNI spec that this plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // a version number needs no more words
pub enum CniVersion {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl CniVersion {
    /// Every version, oldest first.
    pub const ALL: [CniVersion; 7] = [
        CniVersion::V0_1_0,
        CniVersion::V0_2_0,
        CniVersion::V0_3_0,
        CniVersion::V0_3_1,
        CniVersion::V0_4_0,
        CniVersion::V1_0_0,
        CniVersion::V1_1_0,
    ];

    /// What VERSION answers with, and errors that come before the configuration is known.
    pub const CURRENT: CniVersion = CniVersion::V1_1_0;

    /// As it stands in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            CniVersion::V0_1_0 => "0.1.0",
            CniVersion::V0_2_0 => "0.2.0",
            CniVersion::V0_3_0 => "0.3.0",
            CniVersion::V0_3_1 => "0.3.1",
            CniVersion::V0_4_0 => "0.4.0",
            CniVersion::V1_0_0 => "1.0.0",
            CniVersion::V1_1_0 => "1.1.0",
        }
    }

    /// The version written as `text`; none if this plugin doesn't speak it.
    ///
    /// Compared as text, as libcni does: `1.1` is not `1.1.0`.
    pub fn parse(text: &str) -> Option<CniVersion> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version's numbers, whether it is supported or not; none if it is no version at all.
///
/// Missing parts are zero, more than three are no version (libcni's `version.ParseVersion`).
pub fn numbers(text: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    for (i, part) in text.split('.').enumerate() {
        *numbers.get_mut(i)? = part.parse().ok()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back() {
        for version in CniVersion::ALL {
            assert_eq!(CniVersion::parse(version.as_str()), Some(version));
        }
        assert!(CniVersion::ALL.is_sorted());
        for text in ["", "1.1", "v1.1.0", "1.2.0", "01.1.0", "0.2.1"] {
            assert_eq!(CniVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_of_versions() {
        assert_eq!(numbers("0.4.0"), Some([0, 4, 0]));
        assert_eq!(numbers("2"), Some([2, 0, 0]));
        assert_eq!(numbers("9.8.7"), Some([9, 8, 7]));
        for text in ["", "adsfsadf", "1.x", "1.0.0.0", "1..0", "-1.0.0"] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
