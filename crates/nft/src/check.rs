//! What no kernel would take, or what would not read back as it was said.

use super::chain::{Chain, Hook};
use super::set::{Element, Set};
use super::statement::{Rule, Statement, Verdict};
use super::transaction::{Elements, Object, PlacedRule, SetName, Step, Verb};

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
/// `NF_LOG_PREFIXLEN` with its NUL.
const PREFIX: usize = 127;
/// `IFNAMSIZ` with its NUL.
const DEVICE: usize = 15;

pub(super) fn step(step: &Step) -> Result<(), Invalid> {
    why(step).map_err(|why| Invalid {
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
        Object::Rule(placed) => rule(verb, placed),
        Object::Set(set) => {
            name("set", &set.name)?;
            kind(set)
        }
        Object::SetName(SetName(set)) => name("set", set),
        Object::Elements(elements) => members(elements),
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
    Ok(())
}

fn kind(set: &Set) -> Result<(), String> {
    if set.dynamic && set.size.is_none() {
        return Err("a set that rules fill needs a size".to_owned());
    }
    if set.interval && set.dynamic {
        return Err("rules cannot fill a set of intervals".to_owned());
    }
    Ok(())
}

fn rule(verb: Verb, placed: &PlacedRule) -> Result<(), String> {
    name("chain", &placed.chain)?;
    let needs_handle = matches!(verb, Verb::Replace | Verb::Delete | Verb::Destroy);
    if needs_handle && placed.handle.is_none() {
        return Err(format!("`{}` needs the rule's handle", verb.as_str()));
    }
    let Rule {
        statements,
        comment,
    } = &placed.rule;
    if let Some(comment) = comment {
        quoted("comment", comment, COMMENT)?;
    }
    for statement in statements {
        match statement {
            Statement::Log { prefix, .. } => quoted("log prefix", prefix, PREFIX)?,
            Statement::Limit(0) => return Err("a limit of nothing".to_owned()),
            Statement::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                name("chain", chain)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn members(elements: &Elements) -> Result<(), String> {
    name("set", &elements.set)?;
    for element in &elements.elements {
        match element {
            Element::Goto(_, chain) => name("chain", chain)?,
            Element::Jump(_, _, chain) => name("chain", chain)?,
            Element::Cell(cell) => {
                quoted("comment", &cell.comment, COMMENT)?;
                cell.goto.as_deref().map_or(Ok(()), |c| name("chain", c))?;
            }
            _ => {}
        }
    }
    Ok(())
}
