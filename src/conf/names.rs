//! What may be a name in CNI.

/// Container IDs and network names have no limit in the spec. Real ones have 64 bytes.
pub(crate) const MAX_IDENTIFIER: usize = 1024;

/// The spec's rule for container IDs and network names: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`.
pub fn is_identifier(text: &str) -> bool {
    text.len() <= MAX_IDENTIFIER
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// What is wrong with `name` as the name of a network interface; none if nothing is.
///
/// The kernel's rule (`dev_valid_name`), and no control characters.
pub fn ifname_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("interface name is empty")
    } else if name.len() > 15 {
        Some("interface name is too long: at most 15 bytes")
    } else if name == "." || name == ".." {
        Some("interface name is . or ..")
    } else if name
        .chars()
        .any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
    {
        Some("interface name contains / or : or whitespace characters")
    } else {
        None
    }
}
