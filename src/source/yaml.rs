//! The policy file's YAML, each value with its place.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Error, Location, Spanned};

use rules::fault::{Complaint, Faults, quoted};
use rules::lexer::{self, Place};
use rules::nearest::nearest;

/// The file's keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawFile {
    #[serde(default, deserialize_with = "given")]
    pub api_version: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "given")]
    pub kind: Option<Spanned<String>>,
    pub enforced: Option<String>,
    pub defaults: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub default_action: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "given")]
    pub mode: Option<Spanned<String>>,
    #[serde(default, rename = "clusterCIDRs")]
    pub cluster_cidrs: Vec<Spanned<String>>,
    #[serde(default, rename = "clusterDNS")]
    pub cluster_dns: Vec<Spanned<String>>,
    #[serde(default, rename = "nodeCIDRs")]
    pub node_cidrs: Vec<Spanned<String>>,
    /// `None`: the well-known one.
    #[serde(rename = "nat64Prefixes")]
    pub nat64_prefixes: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub tunnel_ports: Vec<Spanned<u64>>,
    #[serde(default)]
    pub exempt_namespaces: Vec<Spanned<String>>,
    #[serde(default, rename = "egressIPs")]
    pub egress_ips: Vec<Spanned<String>>,
    #[serde(default)]
    pub limits: RawLimits,
    #[serde(default)]
    pub names: RawNames,
    #[serde(default)]
    pub namespaces: Entries<RawNamespace>,
}

/// What stands below `limits`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawLimits {
    pub rules: Option<Spanned<u64>>,
    pub plain_rules: Option<Spanned<u64>>,
    pub pairs: Option<Spanned<u64>>,
    pub log_per_second: Option<Spanned<u64>>,
}

/// What stands below `names`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawNames {
    #[serde(default, rename = "minTTL", deserialize_with = "given")]
    pub min_ttl: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "given")]
    pub without_agent: Option<Spanned<String>>,
}

/// A value that may be left out with its key, but not without it: `defaultAction:` alone says nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Spanned<String>>, D::Error> {
    Spanned::deserialize(deserializer).map(Some)
}

/// What stands below a namespace's name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNamespace {
    #[serde(default)]
    pub annotations: Entries<String>,
}

/// A mapping with free keys, in the file's order. (The library refuses a key that is there twice.)
#[derive(Debug)]
pub(super) struct Entries<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// Reads YAML; what is wrong with it becomes a fault at its place in the text called `source`.
pub(super) fn read(source: &str, text: &str) -> Result<RawFile, Faults> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // The library holds back only so many lines of comment between a key and its value.
        emit_comments: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error: Error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        Faults::one(source, place(text, &location), complaint(&error))
    })
}

/// What may stand behind a value of one word.
const BEHIND_A_VALUE: [char; 6] = [' ', '\t', ',', ']', '}', '#'];

/// Where a value of the file stands.
pub(super) fn place<'a>(text: &'a str, location: &Location) -> Place<'a> {
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let (line, source_line) = lexer::lines(text).nth(line - 1).unwrap_or((1, ""));
    let whole = lexer::whole_line(line, source_line);
    let Some((start, _)) = source_line.char_indices().nth(column - 1) else {
        return whole.behind();
    };
    // The library says where a value starts. It goes on to the next blank at least, which is enough to point at.
    let value = &source_line[start..];
    let value = &value[..value.find(BEHIND_A_VALUE).unwrap_or(value.len())];
    let value = value.strip_suffix(':').unwrap_or(value);
    Place {
        column,
        width: value.chars().count(),
        start,
        end: start + value.len(),
        ..whole
    }
}

fn complaint(error: &Error) -> Complaint {
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let complaint = Complaint::new(format!("unknown key {}", quoted(field)));
            match nearest(field, expected) {
                Some(key) => complaint.meant(key),
                None => complaint.help(format!("known here: {}", expected.join(", "))),
            }
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Complaint::new(format!("the key {} is there twice", quoted(key)))
        }
        Error::MultipleDocuments { .. } => Complaint::new("a policy file is one YAML document"),
        Error::NullIntoString { .. } => Complaint::new("expected a value, found none"),
        Error::Unexpected { expected, .. } => Complaint::new(match *expected {
            "mapping start" => "expected keys with values".to_owned(),
            "sequence start" => "expected a list: `[ENTRY, ENTRY]`".to_owned(),
            "string scalar" => "expected a text".to_owned(),
            other => format!("expected {other}"),
        }),
        other => Complaint::new(without_place(other)),
    }
}

/// The library's words. It ends them with the place, which the fault shows anyway.
fn without_place(error: &Error) -> String {
    let message = error.to_string();
    let Some(location) = error.location() else {
        return message;
    };
    let place = format!(" at line {}, column {}", location.line(), location.column());
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}
