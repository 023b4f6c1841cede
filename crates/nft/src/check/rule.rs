//! Rules: fields that packets have, compared with what they can be, one after the other.

use super::{COMMENT, lasting, name, quoted};
use crate::field::{Field, Load, Needs, TRANSPORT};
use crate::kind::Kind;
use crate::matching::{Concat, Match, Test};
use crate::settled::{Condition, Settled};
use crate::statement::{Nat, Reject, Statement};
use crate::step::{PlacedRule, Verb};
use crate::table::TableFamily;
use crate::value::{Family, Value};

/// `NF_LOG_PREFIXLEN` with its NUL.
const PREFIX: usize = 127;
/// `NF_CT_LABELS_MAX_SIZE` in bits.
const LABELS: u8 = 128;
/// Else it is not known what the number means.
const A_PROTOCOL_FIRST: &str =
    "a port needs a match of its protocol before it, such as `meta l4proto tcp`";

pub(super) fn rule(verb: Verb, family: TableFamily, placed: &PlacedRule) -> Result<(), String> {
    name("chain", &placed.chain)?;
    let needs_handle = matches!(verb, Verb::Replace | Verb::Delete | Verb::Destroy);
    if needs_handle && placed.handle.is_none() {
        return Err(format!("`{}` needs the rule's handle", verb.as_str()));
    }
    if let Some(comment) = &placed.rule.comment {
        quoted("comment", comment, COMMENT)?;
    }
    let mut settled = Settled::new(family);
    let mut statements = placed.rule.statements.iter();
    statements.try_for_each(|one| statement(family, &mut settled, one))
}

fn statement(
    family: TableFamily,
    settled: &mut Settled,
    statement: &Statement,
) -> Result<(), String> {
    match statement {
        Statement::Match(m) => {
            field(family, settled, m.field)?;
            matching(m)?;
            if m.field == Field::CtOriginalDport
                && settled.protocol().is_none()
                && !matches!(m.test, Test::In(_) | Test::NotIn(_))
            {
                return Err(format!("`{m}`: {A_PROTOCOL_FIRST}"));
            }
            settled.learn(m);
            Ok(())
        }
        Statement::Among(key, set) | Statement::Vmap(key, set) => {
            name("set", set)?;
            fields(family, settled, key)
        }
        Statement::Update(key, set, timeout) => {
            name("set", set)?;
            timeout.map_or(Ok(()), lasting)?;
            fields(family, settled, key)
        }
        Statement::SetCtLabel(label) if *label >= LABELS => {
            Err(format!("no flow has label {label}"))
        }
        Statement::Limit(limit) | Statement::LimitOver(limit) if limit.rate == 0 => {
            Err("a limit of nothing".to_owned())
        }
        Statement::Log { prefix, .. } => quoted("log prefix", prefix, PREFIX),
        Statement::Verdict(verdict) => verdict.chain().map_or(Ok(()), |chain| name("chain", chain)),
        Statement::Reject(reject) => refusal(family, settled, *reject),
        Statement::Snat(nat) | Statement::Dnat(nat) => translation(family, settled, nat),
        Statement::Tproxy(address, port) => {
            translation(family, settled, &Nat::To(*address, Some(*port)))
        }
        _ => Ok(()),
    }
}

/// Fields that are looked up together.
fn fields(table: TableFamily, settled: &mut Settled, key: &Concat) -> Result<(), String> {
    let mut fields = key.fields().iter();
    fields.try_for_each(|one| field(table, settled, *one))?;
    match key.fields().iter().find(|one| one.spec().key.is_none()) {
        Some(one) => Err(format!("no set can hold `{}`", one.as_str())),
        None => Ok(()),
    }
}

fn refusal(table: TableFamily, settled: &mut Settled, reject: Reject) -> Result<(), String> {
    use TableFamily::{Arp, Bridge, Inet, Ip, Ip6, Netdev};
    match (table, reject) {
        (Arp | Bridge, _) => Err(format!("nothing is rejected in tables of family {table}")),
        (_, Reject::TcpReset) => condition(settled, "tcp reset", Condition::Protocol(6)),
        (Ip | Ip6, _) => Err(format!(
            "`{}` needs a table of family inet or netdev, not {table}",
            Statement::Reject(reject)
        )),
        (Inet | Netdev, _) => Ok(()),
    }
}

/// The next statement needs a condition: whether it can hold still.
fn condition(settled: &mut Settled, what: &str, condition: Condition) -> Result<(), String> {
    if let Some(why) = settled.contradicts(condition) {
        return Err(format!("`{what}` cannot match any more: {why}"));
    }
    settled.settle(condition);
    Ok(())
}

/// Whether packets in tables of this family, or those that the rule still matches, have this field.
fn field(table: TableFamily, settled: &mut Settled, field: Field) -> Result<(), String> {
    use TableFamily::{Arp, Bridge, Inet, Ip, Ip6, Netdev};
    let spec = field.spec();
    let of_family = match (spec.needs, field.kind()) {
        (Needs::Arp, _) => matches!(table, Arp | Bridge | Netdev),
        (Needs::Family(Family::V4) | Needs::Icmp(Family::V4), _)
        | (_, Kind::Address(Family::V4)) => !matches!(table, Ip6 | Arp),
        (Needs::Family(Family::V6) | Needs::Icmp(Family::V6), _)
        | (_, Kind::Address(Family::V6)) => !matches!(table, Ip | Arp),
        (_, Kind::Family) => table == Inet,
        _ => true,
    };
    // Conntrack sees packets behind these families' hooks only.
    let comes_by = of_family
        && match spec.load {
            Load::Ct(_) | Load::CtOriginal(_) | Load::Socket(_) => {
                matches!(table, Ip | Ip6 | Inet)
            }
            Load::FibDaddrType => !matches!(table, Arp | Bridge),
            Load::Payload(TRANSPORT, _) => table != Arp,
            _ => true,
        };
    if !comes_by {
        return Err(format!(
            "packets in tables of family {table} have no `{}`",
            field.as_str()
        ));
    }
    let mut conditions = settled.conditions(field);
    conditions.try_for_each(|one| condition(settled, field.as_str(), one))
}

fn matching(m: &Match) -> Result<(), String> {
    let kind = m.field.kind();
    let right = |value: &Value| kind.takes(m.field, value);
    let fits = match &m.test {
        // a packet that comes at the very nanosecond is none to wait for
        Test::Is(v) | Test::Not(v) => !matches!(kind, Kind::Time | Kind::Status) && right(v),
        Test::Below(v) | Test::Above(v) => kind.has_order() && right(v),
        Test::Between(a, b) | Test::NotBetween(a, b) => kind.has_order() && right(a) && right(b),
        Test::Masked(mask, v) | Test::NotMasked(mask, v) => {
            kind.has_bits() && m.field.bits().is_none() && right(mask) && right(v)
        }
        Test::Within(net) | Test::Outside(net) => kind == Kind::Address(Family::of(&net.addr())),
        Test::In(set) | Test::NotIn(set) => {
            name("set", set)?;
            // `type fib_addrtype` is no key of several fields, but one by itself
            m.field.spec().key.is_some() || m.field == Field::FibDaddrType
        }
        Test::State(states) => kind == Kind::State && !states.is_empty(),
        Test::Dnat => kind == Kind::Status,
        Test::Labelled(label) => kind == Kind::Labels && *label < LABELS,
    };
    match &m.test {
        _ if !fits => Err(format!("`{}` is not compared so", m.field.as_str())),
        Test::Between(a, b) | Test::NotBetween(a, b) if *a.bytes() > *b.bytes() => {
            Err(format!("`{m}` ends before it begins"))
        }
        _ => Ok(()),
    }
}

fn translation(table: TableFamily, settled: &mut Settled, nat: &Nat) -> Result<(), String> {
    let Some(family) = nat.family() else {
        return Err(format!("`{nat}`: the key is no packet's address"));
    };
    match (table, family) {
        (TableFamily::Inet, _) | (TableFamily::Ip, Family::V4) | (TableFamily::Ip6, Family::V6) => {
        }
        _ => return Err(format!("tables of family {table} do not translate `{nat}`")),
    }
    match nat {
        Nat::To(_, Some(_)) if settled.protocol().is_none() => {
            Err(format!("`{nat}`: {A_PROTOCOL_FIRST}"))
        }
        Nat::To(..) => Ok(()),
        Nat::Map(key, map) => {
            name("map", map)?;
            field(table, settled, *key)
        }
    }
}
