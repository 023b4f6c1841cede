//! What no kernel would take, or what would not read back as it was said.

mod rule;
mod set;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::chain::{Chain, ChainKind, Hook};
use super::step::{Object, SetName, Step, Verb};

/// Why a step cannot be right, whatever the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{step}`: {why}")]
pub struct Invalid {
    /// The step as nft text, the first 300 characters.
    pub step: String,
    /// What is wrong with it.
    pub why: String,
}

/// `NFT_NAME_MAXLEN` with its NUL.
const NAME: usize = 255;
/// `NFTNL_UDATA_COMMENT_MAXLEN` with its NUL.
const COMMENT: usize = 127;
/// `IFNAMSIZ` with its NUL.
const DEVICE: usize = 15;

/// `before`: the steps of the same transaction that come first.
pub(super) fn step(step: &Step, before: &[Step]) -> Result<(), Invalid> {
    let wrong = why(step).and_then(|()| set::fits(step, before));
    wrong.map_err(|why| Invalid {
        step: brief(step),
        why,
    })
}

/// A step in an error message: a set of 8000 elements is not read by anybody.
pub(super) fn brief(step: &Step) -> String {
    let text = step.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

fn why(step: &Step) -> Result<(), String> {
    let verb = step.verb;
    name("table", &step.table.name)?;
    use Verb::{Add, Create, Delete, Destroy, Flush, Insert, Replace};
    let known = match &step.object {
        Object::Table => matches!(verb, Add | Create | Delete | Destroy | Flush),
        Object::Chain(_) | Object::Set(_) => {
            matches!(verb, Add | Create | Delete | Destroy | Flush)
        }
        Object::SetName(_) => matches!(verb, Delete | Destroy | Flush),
        Object::Rule(_) => matches!(verb, Add | Insert | Replace | Delete | Destroy),
        Object::Elements(_) => matches!(verb, Add | Create | Delete | Destroy),
    };
    if !known {
        return Err(format!(
            "there is no `{}` for such an object",
            verb.as_str()
        ));
    }
    match &step.object {
        Object::Table => Ok(()),
        Object::Chain(Chain { name: own, hook }) => {
            name("chain", own)?;
            hook.as_ref().map_or(Ok(()), |hook| hooked(step, hook))
        }
        Object::Rule(placed) => rule::rule(verb, step.table.family, placed),
        Object::Set(set) => {
            name("set", &set.name)?;
            set::kind(set)
        }
        Object::SetName(SetName(set)) => name("set", set),
        Object::Elements(elements) => set::members(elements),
    }
}

/// A name that nft reads as one, too.
fn name(of: &str, name: &str) -> Result<(), String> {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '.';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "_-./\\".contains(c);
    let mut chars = name.chars();
    if name.len() > NAME {
        Err(format!("the {of}'s name has more than {NAME} bytes"))
    } else if !chars.next().is_some_and(begins) || !chars.all(goes_on) {
        Err(format!(
            "`{name}` cannot be a {of}'s name: nft takes letters, then digits and `_-./\\`, too"
        ))
    } else {
        Ok(())
    }
}

/// Text that nft reads between quotes.
fn quoted(of: &str, text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        Err(format!("the {of} has more than {most} bytes"))
    } else if text.contains(['"', '\n', '\0']) {
        Err(format!("the {of} has a quotation mark, newline or NUL"))
    } else {
        Ok(())
    }
}

fn hooked(step: &Step, hook: &Hook) -> Result<(), String> {
    if let Some(device) = hook.point.device()
        && (device.is_empty() || device.len() > DEVICE || device.contains(['"', '/', '\0']))
    {
        return Err(format!("`{device}` cannot be a device's name"));
    }
    if !hook.point.suits(step.table.family, hook.kind) {
        return Err(format!(
            "family {} has no such hook for type {}",
            step.table.family,
            hook.kind.as_str()
        ));
    }
    // `NF_IP_PRI_CONNTRACK`: before it there are no flows to translate
    if hook.kind == ChainKind::Nat && hook.priority <= -200 {
        return Err("type nat needs a priority above -200".to_owned());
    }
    Ok(())
}

/// A time to live that the kernel does not take for none.
fn lasting(timeout: Duration) -> Result<(), String> {
    if timeout.as_millis() == 0 {
        return Err("a timeout below a millisecond".to_owned());
    }
    Ok(())
}
