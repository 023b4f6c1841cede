//! Our entry in a conflist: put in and taken out in the text itself, so that every other byte stays
//! as its author wrote it: order of keys, unknown keys, number formats, white space.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use rules::fault::printable;

use crate::conf;
use crate::refusal::version::CniVersion;

#[cfg(test)]
mod tests;

/// Our entry of a list, as a value and as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginEntry {
    value: Value,
    lines: String,
    line: String,
}

impl PluginEntry {
    /// Keys stand in the order in which `entry` writes them.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn new(entry: &impl Serialize) -> Result<PluginEntry, serde_json::Error> {
        Ok(PluginEntry {
            value: serde_json::to_value(entry)?,
            lines: serde_json::to_string_pretty(entry)?,
            line: serde_json::to_string(entry)?,
        })
    }

    /// In one line.
    pub fn as_line(&self) -> &str {
        &self.line
    }

    /// What a runtime makes of it for a call of the plugin.
    pub fn as_stdin(&self, network: &str, version: CniVersion) -> String {
        let mut value = self.value.clone();
        value["name"] = network.into();
        value["cniVersion"] = version.as_str().into();
        value.to_string()
    }
}

/// What is wrong with our entry in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryFault {
    /// It is not there.
    Missing,
    /// It is there more than once.
    Twice,
    /// A plugin stands behind it.
    NotLast,
    /// It says something else.
    Different,
}

/// Why a file can't be used; the runtime could not use it either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum ListFault {
    #[error("is empty")]
    Empty,
    #[error("is not a JSON object: {0}")]
    NotJson(String),
    #[error("has no `name`")]
    NoName,
    #[error("has no `plugins`")]
    NoPlugins,
    #[error("its plugin number {0} has no `type`")]
    NoType(usize),
    #[error("has cniVersion {0:?}, which egressway does not speak")]
    Version(String),
    #[error("has no other plugin than egressway")]
    OnlyOurs,
    #[error(
        "has a plugin of type \"egressway\" that is another program's, as its keys show ({0}): two programs cannot have one name in one directory, so remove or rename that one first"
    )]
    Stranger(String),
}

type RawObject<'a> = BTreeMap<String, &'a RawValue>;

/// One plugin of a list, and where in the text it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plugin {
    kind: String,
    at: Range<usize>,
    /// Its type is ours, and nothing in it says that it is somebody else's.
    ours: bool,
}

/// A conflist that a runtime could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflist<'a> {
    text: &'a str,
    plugins: Vec<Plugin>,
}

impl<'a> Conflist<'a> {
    /// Reads a `.conflist`.
    ///
    /// # Errors
    /// What a runtime would refuse it for.
    pub fn parse(text: &'a str) -> Result<Conflist<'a>, ListFault> {
        let object = object(text)?;
        check_head(&object)?;
        let raw = object.get("plugins").ok_or(ListFault::NoPlugins)?;
        let raw: Vec<&'a RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| ListFault::NoPlugins)?;
        if raw.is_empty() {
            return Err(ListFault::NoPlugins);
        }
        let mut plugins = Vec::with_capacity(raw.len());
        for (n, raw) in raw.into_iter().enumerate() {
            let fields: RawObject<'_> =
                serde_json::from_str(raw.get()).map_err(|_| ListFault::NoType(n + 1))?;
            let kind = string(&fields, "type").ok_or(ListFault::NoType(n + 1))?;
            // A raw value is a piece of the very text that it was read from.
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            let at = start..start + raw.get().len();
            let ours = kind == conf::TYPE && conf::may_be_ours(fields.keys().map(String::as_str));
            plugins.push(Plugin { kind, at, ours });
        }
        Ok(Conflist { text, plugins })
    }

    /// The `type` of every plugin but ours.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        let others = self.plugins.iter().filter(|p| !p.ours);
        others.map(|p| p.kind.as_str())
    }

    /// The keys of another program's plugin that has our name.
    fn stranger(&self) -> Option<ListFault> {
        let named = |p: &&Plugin| p.kind == conf::TYPE && !p.ours;
        let plugin = self.plugins.iter().find(named)?;
        let fields: RawObject<'_> = serde_json::from_str(&self.text[plugin.at.clone()]).ok()?;
        let keys = fields.keys().filter(|key| *key != "type");
        let keys: Vec<String> = keys.map(|key| printable(key)).collect();
        Some(ListFault::Stranger(keys.join(", ")))
    }

    /// Whether a runtime could use it with us in it.
    ///
    /// # Errors
    /// [`ListFault::OnlyOurs`], [`ListFault::Stranger`].
    pub fn check(&self) -> Result<(), ListFault> {
        if self.others().next().is_none() {
            return Err(ListFault::OnlyOurs);
        }
        self.stranger().map_or(Ok(()), Err)
    }

    /// The text with `entry` as its last plugin, instead of any that we have there; none if it is
    /// there already. Last, because what comes behind us could change what we have looked at.
    ///
    /// # Errors
    /// [`ListFault::OnlyOurs`]: nobody would give pods an interface; [`ListFault::Stranger`]: a program of our name.
    pub fn with(&self, entry: &PluginEntry) -> Result<Option<String>, ListFault> {
        if let Some(stranger) = self.stranger() {
            return Err(stranger);
        }
        if self.lack(entry)?.is_none() {
            return Ok(None);
        }
        match self.without()? {
            Some(text) => Conflist::parse(&text)?.append(entry).map(Some),
            None => self.append(entry).map(Some),
        }
    }

    /// What our entry says, if there is one.
    pub fn ours(&self) -> Option<Value> {
        let plugin = self.plugins.iter().find(|p| p.ours)?;
        serde_json::from_str(&self.text[plugin.at.clone()]).ok()
    }

    /// What keeps [`Conflist::with`] from being the list as it is.
    ///
    /// # Errors
    /// [`ListFault::OnlyOurs`]: nobody would give pods an interface.
    pub fn lack(&self, entry: &PluginEntry) -> Result<Option<EntryFault>, ListFault> {
        let mut ours = self.plugins.iter().filter(|p| p.ours);
        let count = ours.clone().count();
        if count > 0 && count == self.plugins.len() {
            return Err(ListFault::OnlyOurs);
        }
        let last = self.plugins.last().is_some_and(|p| p.ours);
        let says = |plugin: &Plugin| serde_json::from_str(&self.text[plugin.at.clone()]).ok();
        Ok(match (ours.next(), count) {
            (None, _) => Some(EntryFault::Missing),
            (Some(_), 2..) => Some(EntryFault::Twice),
            (Some(_), _) if !last => Some(EntryFault::NotLast),
            (Some(plugin), _) if says(plugin) != Some(entry.value.clone()) => {
                Some(EntryFault::Different)
            }
            (Some(_), _) => None,
        })
    }

    /// The text without any entry of ours; none if there was none.
    ///
    /// # Errors
    /// [`ListFault::OnlyOurs`]: a list must have a plugin.
    pub fn without(&self) -> Result<Option<String>, ListFault> {
        let Some(n) = self.plugins.iter().position(|p| p.ours) else {
            return Ok(None);
        };
        // Together with the comma that kept it apart from its neighbour.
        let cut = match (n.checked_sub(1), self.plugins.get(n + 1)) {
            (Some(before), _) => self.plugins[before].at.end..self.plugins[n].at.end,
            (None, Some(next)) => self.plugins[n].at.start..next.at.start,
            (None, None) => return Err(ListFault::OnlyOurs),
        };
        let text = format!("{}{}", &self.text[..cut.start], &self.text[cut.end..]);
        let list = Conflist::parse(&text)?;
        Ok(Some(list.without()?.unwrap_or(text)))
    }

    fn append(&self, entry: &PluginEntry) -> Result<String, ListFault> {
        let last = self.plugins.last().ok_or(ListFault::NoPlugins)?;
        let (before, behind) = self.text.split_at(last.at.end);
        Ok(format!("{before},{}{behind}", self.formatted(entry, last)))
    }

    /// The entry laid out like its neighbour.
    fn formatted(&self, entry: &PluginEntry, neighbour: &Plugin) -> String {
        let before = &self.text[..neighbour.at.start];
        let line = before.rfind('\n').map(|end| &before[end + 1..]);
        match line.filter(|line| line.trim().is_empty()) {
            Some(indent) => {
                let lines = entry.lines.replace('\n', &format!("\n{indent}"));
                format!("\n{indent}{lines}")
            }
            None => format!(" {}", entry.line),
        }
    }
}

/// The conflist that says what a single plugin's `.conf` said.
///
/// # Errors
/// What a runtime would refuse the `.conf` for.
pub fn from_single(text: &str) -> Result<String, ListFault> {
    let object = object(text)?;
    check_head(&object)?;
    string(&object, "type").ok_or(ListFault::NoType(1))?;
    let mut head = String::new();
    for key in ["cniVersion", "name"] {
        if let Some(value) = object.get(key) {
            head.push_str(&format!("  \"{key}\": {},\n", value.get()));
        }
    }
    // No string of JSON contains a line's end, so that indenting changes nothing but white space.
    let plugin = text.trim().replace('\n', "\n    ");
    Ok(format!(
        "{{\n{head}  \"plugins\": [\n    {plugin}\n  ]\n}}\n"
    ))
}

fn object(text: &str) -> Result<RawObject<'_>, ListFault> {
    if text.trim().is_empty() {
        return Err(ListFault::Empty);
    }
    serde_json::from_str(text).map_err(|e| ListFault::NotJson(e.to_string()))
}

/// What every configuration has before its plugins.
fn check_head(object: &RawObject<'_>) -> Result<(), ListFault> {
    if string(object, "name").is_none_or(|name| name.is_empty()) {
        return Err(ListFault::NoName);
    }
    match object.get("cniVersion") {
        None => Ok(()),
        Some(raw) => match string(object, "cniVersion") {
            Some(text) if text.is_empty() || CniVersion::parse(&text).is_some() => Ok(()),
            Some(text) => Err(ListFault::Version(text)),
            None => Err(ListFault::Version(raw.get().to_owned())),
        },
    }
}

fn string(object: &RawObject<'_>, key: &str) -> Option<String> {
    serde_json::from_str(object.get(key)?.get()).ok()
}
