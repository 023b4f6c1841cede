//! DNS labels.

/// Bytes that a label may have (RFC 1123 section 2.1, RFC 1035 section 2.3.4).
pub(super) const LONGEST: usize = 63;

/// Whether this is a DNS label as Kubernetes takes it: lower case letters, digits and inner hyphens.
pub fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= LONGEST
        && bytes
            .iter()
            .all(|byte| alphanumeric(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| alphanumeric(*byte))
        && bytes.last().is_some_and(|byte| alphanumeric(*byte))
}
