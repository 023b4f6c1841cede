//! Files with damage at random.

use proptest::prelude::*;

use super::{POLICY, found};

proptest! {
    /// Whatever is written, lint ends, and points at places that exist.
    #[test]
    fn damaged_files_do_no_harm(
        file in 0..4usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..DAMAGE.len(), 0..9usize), 1..6),
    ) {
        let files = [
            POLICY,
            include_str!("../../../tests/fixtures/lint/bad/workloads.yaml"),
            include_str!("../../../tests/fixtures/lint/bad/policy.yaml"),
            include_str!("../../../tests/fixtures/lint/good/pod.json"),
        ];
        let mut text: Vec<char> = files[file].chars().collect();
        for (at, damage, gone) in edits {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + gone).min(text.len());
            text.splice(at..end, DAMAGE[damage].chars());
        }
        let text: String = text.into_iter().collect();
        for place in found(&text, true) {
            let line: usize = place.split(':').next().expect("a line").parse().expect("a number");
            prop_assert!((1..=text.split('\n').count()).contains(&line), "{place} in {text:?}");
        }
    }
}

const DAMAGE: &[&str] = &[
    "", "\n", "\"", "'", "\\", "|", ">", ": ", "- ", "{", "[", "]", "ö", "\u{feff}", "\t", "\r\n",
    "&a ", "*a", "<<: ", "---\n", "deny;", "\u{2028}", "\\ud83d", "\\n", "#",
];
