//! Sets, and elements that can be in them.

use super::{COMMENT, lasting, name, quoted};
use crate::element::{Data, Element};
use crate::set::{DataType, Set};
use crate::step::{Elements, Object, Step, Verb};

pub(super) fn kind(set: &Set) -> Result<(), String> {
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

pub(super) fn members(elements: &Elements) -> Result<(), String> {
    name("set", &elements.set)?;
    let Some(first) = elements.elements.first() else {
        return Err("no elements".to_owned());
    };
    let several = first.key().len() > 1;
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
            if several && !searchable(&low, &high) {
                return Err(format!(
                    "`{element}` has a range of IPv6 beside other fields that is no network"
                ));
            }
        }
        if let Some(comment) = element.comment_text() {
            quoted("comment", comment, COMMENT)?;
        }
        element.time_to_live().map_or(Ok(()), lasting)?;
        element
            .chain()
            .map_or(Ok(()), |chain| name("chain", chain))?;
    }
    Ok(())
}

/// Whether the kernel finds the same by four bytes at a time: `KeyType::searched`.
fn searchable(low: &[u8], high: &[u8]) -> bool {
    let number = |bytes: &[u8]| bytes.try_into().map(u128::from_be_bytes);
    let (Ok(low), Ok(high)) = (number(low), number(high)) else {
        return true; // of another length
    };
    // Networks begin with zeros where they end with ones.
    let differs = low ^ high;
    low & differs == 0 && differs & differs.wrapping_add(1) == 0
}

/// Elements of a set that the same transaction makes: whether they are what it holds.
pub(super) fn fits(step: &Step, before: &[Step]) -> Result<(), String> {
    let Object::Elements(elements) = &step.object else {
        return Ok(());
    };
    let made = before
        .iter()
        .rev()
        .find_map(|earlier| match &earlier.object {
            Object::Set(set)
                if set.name == elements.set
                    && matches!(earlier.verb, Verb::Add | Verb::Create)
                    && earlier.table == step.table =>
            {
                Some(set)
            }
            _ => None,
        });
    let Some(set) = made else {
        return Ok(());
    };
    let lengths: Vec<usize> = set.key.lengths().collect();
    let adds = matches!(step.verb, Verb::Add | Verb::Create);
    let faults = elements.elements.iter();
    let mut faults = faults.filter_map(|one| Some((one, misfit(set, &lengths, adds, one)?)));
    match faults.next() {
        Some((one, why)) => Err(format!("`{one}` cannot be in `{}`: {why}", set.name)),
        None => Ok(()),
    }
}

fn misfit(set: &Set, lengths: &[usize], adds: bool, element: &Element) -> Option<String> {
    let fields = element.key().iter().map(|(low, _)| low.bytes().len());
    if !fields.eq(lengths.iter().copied()) {
        return Some(format!("its keys are of type `{}`", set.key));
    }
    if set.interval != element.is_interval() {
        let needed = if set.interval {
            "ranges"
        } else {
            "single keys"
        };
        return Some(format!("it holds {needed}"));
    }
    if !adds {
        return None;
    }
    if set.timeout.is_none() && element.time_to_live().is_some() {
        return Some("the set has no timeout".to_owned());
    }
    match (&set.data, element.data()) {
        (None, None) | (Some(DataType::Verdict), Some(Data::Verdict(_))) => None,
        (Some(DataType::Value(_)), Some(Data::Value(_))) => None,
        (None, Some(_)) => Some("it is no map".to_owned()),
        (Some(DataType::Verdict), _) => Some("it maps to verdicts".to_owned()),
        (Some(DataType::Value(of)), _) => Some(format!("it maps to values of type `{of}`")),
    }
}
