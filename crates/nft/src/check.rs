//! What no kernel would take, or what would not read back as it was said.

use super::chain::{Chain, Hook};
use super::field::{Field, Needs};
use super::matching::{Match, Test};
use super::set::{DataType, Set};
use super::statement::{Nat, Statement};
use super::table::TableFamily;
use super::transaction::{Elements, Object, PlacedRule, SetName, Step, Verb};
use super::value::{Family, Value};

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
        Object::Rule(placed) => rule(verb, step.table.family, placed),
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
    let data = match &set.data {
        Some(DataType::Value(data)) => data.strange(),
        _ => None,
    };
    if let Some(field) = set.key.strange().or(data) {
        return Err(format!("no set can hold `{}`", field.as_str()));
    }
    if set.dynamic && set.size.is_none() {
        return Err("a set that rules fill needs a size".to_owned());
    }
    if set.interval && set.dynamic {
        return Err("rules cannot fill a set of intervals".to_owned());
    }
    Ok(())
}

fn members(elements: &Elements) -> Result<(), String> {
    name("set", &elements.set)?;
    let Some(first) = elements.elements.first() else {
        return Err("no elements".to_owned());
    };
    for element in &elements.elements {
        if element.is_interval() != first.is_interval()
            || element.key().len() != first.key().len()
            || element.data().is_some() != first.data().is_some()
        {
            return Err(format!("`{element}` and `{first}` cannot be in one set"));
        }
        for (low, high) in element.key() {
            let (low, high) = (low.bytes(), high.bytes());
            if low.len() != high.len() || *low > *high {
                return Err(format!("`{element}` ends before it begins"));
            }
        }
        if let Some(comment) = element.comment_text() {
            quoted("comment", comment, COMMENT)?;
        }
        element
            .chain()
            .map_or(Ok(()), |chain| name("chain", chain))?;
    }
    Ok(())
}

fn rule(verb: Verb, family: TableFamily, placed: &PlacedRule) -> Result<(), String> {
    name("chain", &placed.chain)?;
    let needs_handle = matches!(verb, Verb::Replace | Verb::Delete | Verb::Destroy);
    if needs_handle && placed.handle.is_none() {
        return Err(format!("`{}` needs the rule's handle", verb.as_str()));
    }
    if let Some(comment) = &placed.rule.comment {
        quoted("comment", comment, COMMENT)?;
    }
    let mut statements = placed.rule.statements.iter();
    statements.try_for_each(|one| statement(family, one))
}

fn statement(family: TableFamily, statement: &Statement) -> Result<(), String> {
    match statement {
        Statement::Match(m) => {
            field(family, m.field)?;
            matching(m)
        }
        Statement::Among(key, set) | Statement::Vmap(key, set) | Statement::Update(key, set, _) => {
            name("set", set)?;
            let mut fields = key.fields().iter();
            fields.try_for_each(|one| field(family, *one))
        }
        Statement::Limit(limit) if limit.rate == 0 => Err("a limit of nothing".to_owned()),
        Statement::Log { prefix, .. } => quoted("log prefix", prefix, PREFIX),
        Statement::Verdict(verdict) => verdict.chain().map_or(Ok(()), |chain| name("chain", chain)),
        Statement::Snat(nat) | Statement::Dnat(nat) => translation(family, nat),
        _ => Ok(()),
    }
}

/// Whether packets of this field come by in a table of this family.
fn field(table: TableFamily, field: Field) -> Result<(), String> {
    let family = match field.spec().needs {
        Needs::Family(family) | Needs::Icmp(family) => Some(family),
        _ => None,
    };
    let comes_by = match (table, field.spec().needs, family) {
        (TableFamily::Ip, Needs::Arp, _) | (TableFamily::Ip6, Needs::Arp, _) => false,
        (TableFamily::Inet, Needs::Arp, _) => false,
        (TableFamily::Ip, _, Some(family)) => family == Family::V4,
        (TableFamily::Ip6, _, Some(family)) => family == Family::V6,
        (TableFamily::Arp, _, Some(_)) => false,
        _ => true,
    };
    if !comes_by {
        return Err(format!(
            "packets in tables of family {table} have no `{}`",
            field.as_str()
        ));
    }
    Ok(())
}

fn matching(m: &Match) -> Result<(), String> {
    let length = m.field.spec().length as usize;
    let right = |value: &Value| value.bytes().len() == length;
    let fits = match &m.test {
        Test::Is(v) | Test::Not(v) | Test::Below(v) | Test::Above(v) => right(v),
        Test::Between(a, b) | Test::NotBetween(a, b) => {
            right(a) && right(b) && *a.bytes() <= *b.bytes()
        }
        Test::Masked(mask, v) | Test::NotMasked(mask, v) => right(mask) && right(v),
        Test::Within(net) | Test::Outside(net) => usize::from(net.max_prefix_len()) == length * 8,
        Test::In(set) | Test::NotIn(set) => return name("set", set),
        Test::State(states) => m.field == Field::CtState && !states.is_empty(),
        Test::Dnat => m.field == Field::CtStatus,
    };
    let ordered = matches!(
        m.test,
        Test::Below(_) | Test::Above(_) | Test::Between(..) | Test::NotBetween(..)
    );
    if !fits {
        return Err(format!("`{m}` compares unlike things"));
    }
    if ordered && m.field.is_in_host_order() {
        return Err(format!("`{m}`: such a field has no order"));
    }
    Ok(())
}

fn translation(table: TableFamily, nat: &Nat) -> Result<(), String> {
    let Some(family) = nat.family() else {
        return Err(format!("`{nat}`: the key is no packet's address"));
    };
    if let Nat::Map(_, map) = nat {
        name("map", map)?;
    }
    match (table, family) {
        (TableFamily::Inet, _) | (TableFamily::Ip, Family::V4) | (TableFamily::Ip6, Family::V6) => {
            Ok(())
        }
        _ => Err(format!("tables of family {table} do not translate `{nat}`")),
    }
}
