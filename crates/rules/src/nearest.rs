//! The word that was probably meant: for the help lines of faults.

/// A longer word is no misspelt keyword, and comparing it would cost time.
const LONGEST: usize = 64;

/// The candidate that `word` is most likely a misspelling of, whatever the case; `None` if none is near.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if word.len() < 2 || word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), *candidate))
        .filter(|(distance, candidate)| *distance <= tolerance(&word, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words; an abbreviation (`prio` for `priority`) counts as one.
fn distance(word: &str, candidate: &str) -> usize {
    if word.len() >= 3 && word != candidate && candidate.starts_with(word) {
        return 1;
    }
    strsim::osa_distance(word, candidate)
}

/// One edit in three letters, and at least one.
fn tolerance(word: &str, candidate: &str) -> usize {
    (word.len().min(candidate.len()) / 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let words = ["any", "internet", "metadata", "cluster", "priority"];
        for (word, meant) in [
            ("interent", "internet"),
            ("Internt", "internet"),
            ("metdata", "metadata"),
            ("clutser", "cluster"),
            ("prio", "priority"),
        ] {
            assert_eq!(nearest(word, &words), Some(meant), "{word}");
        }
    }

    #[test]
    fn offers_nothing_for_a_word_unlike_all() {
        let words = ["any", "internet", "to"];
        for word in ["", "x", "world", "banana", &"internet".repeat(1000)] {
            assert_eq!(nearest(word, &words), None, "{word}");
        }
    }
}
