//! Elements of sets and maps.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::attrs;
use crate::element::Element;
use crate::error::Error;
use crate::message;
use crate::socket::Nft;
use crate::table::Table;
use crate::uapi::*;
use crate::value::Value;
use crate::wire::{Attrs, NFGENMSG, Writer};

impl Nft {
    /// Whether this address is an element.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn has_element(&mut self, table: &Table, set: &str, key: IpAddr) -> Result<bool, Error> {
        Ok(element(self, table, set, key)?.is_some())
    }

    /// The chain that a verdict map's element leads to, if it is there.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn vmap_target(
        &mut self,
        table: &Table,
        map: &str,
        key: IpAddr,
    ) -> Result<Option<String>, Error> {
        let element = element(self, table, map, key)?;
        Ok(element.as_deref().and_then(|e| verdict_chain(Attrs(e))))
    }

    /// The address that a map's element holds, if it is there.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn mapped(
        &mut self,
        table: &Table,
        map: &str,
        key: IpAddr,
    ) -> Result<Option<IpAddr>, Error> {
        let element = element(self, table, map, key)?;
        Ok(element
            .as_deref()
            .and_then(|e| address(Attrs(e).nest(NFTA_SET_ELEM_DATA)?.get(NFTA_DATA_VALUE)?)))
    }

    /// All elements of a verdict map: address and chain.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn vmap_elements(
        &mut self,
        table: &Table,
        map: &str,
    ) -> Result<Vec<(IpAddr, String)>, Error> {
        self.elements(table, map, |element| {
            let key = element.nest(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?;
            Some((address(key)?, verdict_chain(element)?))
        })
    }

    /// The addresses in a set or map of addresses; none if there is no such set.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn addresses(&mut self, table: &Table, set: &str) -> Result<Vec<IpAddr>, Error> {
        self.elements(table, set, |element| address(&element_state(element)?.0))
    }

    /// Whether a set's elements are these.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn elements_are(
        &mut self,
        table: &Table,
        set: &str,
        elements: &[Element],
    ) -> Result<bool, Error> {
        let held: BTreeSet<_> = self
            .elements(table, set, element_state)?
            .into_iter()
            .collect();
        let mut w = Writer::default();
        message::encode_elements(&mut w, elements, true);
        let expected: BTreeSet<_> = Attrs(&w.bytes)
            .iter()
            .filter_map(|(_, _, element)| element_state(Attrs(element)))
            .collect();
        Ok(held == expected)
    }

    /// What `read` makes of a set's elements, without those of which it makes nothing; none if there is
    /// no such set.
    pub(super) fn elements<T>(
        &mut self,
        table: &Table,
        set: &str,
        read: impl Fn(Attrs<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let family = table.family.number();
        let object = format_args!("the elements of {table} {set}");
        let answer = self.query(object, NFT_MSG_GETSETELEM, family, true, |w| {
            w.str(NFTA_SET_ELEM_LIST_TABLE, &table.name);
            w.str(NFTA_SET_ELEM_LIST_SET, set);
        })?;
        let lists = answer
            .iter()
            .filter_map(|body| attrs(body).nest(NFTA_SET_ELEM_LIST_ELEMENTS));
        Ok(lists
            .flat_map(|list| list.iter())
            .filter_map(|(_, _, element)| read(Attrs(element)))
            .collect())
    }
}

/// What an element is: its key and the key's end, whether it is the end of a range, its comment, and
/// the chain that it leads to.
type ElementState = (Vec<u8>, Vec<u8>, u32, Vec<u8>, Option<String>);

fn element_state(element: Attrs<'_>) -> Option<ElementState> {
    let key = |kind| Some(element.nest(kind)?.get(NFTA_DATA_VALUE)?.to_vec());
    Some((
        key(NFTA_SET_ELEM_KEY)?,
        key(NFTA_SET_ELEM_KEY_END).unwrap_or_default(),
        element.be32(NFTA_SET_ELEM_FLAGS).unwrap_or(0),
        element
            .get(NFTA_SET_ELEM_USERDATA)
            .unwrap_or_default()
            .to_vec(),
        verdict_chain(element),
    ))
}

/// The attributes of one element, looked up by its key.
fn element(nft: &mut Nft, table: &Table, set: &str, key: IpAddr) -> Result<Option<Vec<u8>>, Error> {
    let family = table.family.number();
    let object = format_args!("element {key} of {table} {set}");
    let answer = nft.query(object, NFT_MSG_GETSETELEM, family, false, |w| {
        w.str(NFTA_SET_ELEM_LIST_TABLE, &table.name);
        w.str(NFTA_SET_ELEM_LIST_SET, set);
        w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
            w.nested(NFTA_LIST_ELEM, |w| {
                w.nested(NFTA_SET_ELEM_KEY, |w| {
                    w.attr(NFTA_DATA_VALUE, &Value::from(key).bytes())
                });
            });
        });
    })?;
    Ok(answer.iter().find_map(|body| {
        let list = attrs(body.get(..).filter(|b| b.len() >= NFGENMSG)?)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS)?;
        list.iter().next().map(|(_, _, element)| element.to_vec())
    }))
}

pub(super) fn verdict_chain(element: Attrs<'_>) -> Option<String> {
    element
        .nest(NFTA_SET_ELEM_DATA)?
        .nest(NFTA_DATA_VERDICT)?
        .text(NFTA_VERDICT_CHAIN)
        .map(str::to_owned)
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}
