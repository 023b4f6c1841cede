//! Reads what the kernel says of its own types (`/sys/kernel/btf/vmlinux`,
//! Documentation/bpf/btf.rst): where a struct has its members, and which number a function has.
//!
//! Only as much as the guard needs. Each length and each number is checked before it is used, and
//! whatever is wrong is an error: a wrong place would be a wrong verdict.

/// `struct btf_header`: magic, version 1, in the machine's byte order.
const MAGIC: u16 = 0xeb9f;
/// Length of the header's part that is read here.
const HEADER_LENGTH: usize = 24;
/// Length of struct btf_type, and of struct btf_member.
const TYPE_LENGTH: usize = 12;
/// Members without a name are looked into so deep, and names for other types followed so far.
const DEPTH: u32 = 16;

const INT: u32 = 1;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC: u32 = 12;

/// Why the kernel's types can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no BTF, or one that is cut off or contradicts itself.
    #[error("the kernel's type information (BTF) is malformed: {0}")]
    Malformed(&'static str),
    /// A kind of type that came after this program: how long it is can't be known.
    #[error(
        "the kernel's type information (BTF) has types of kind {0}, which are newer than this program"
    )]
    NewerKind(u32),
    /// No such type.
    #[error("the kernel's type information (BTF) has no {0}")]
    Missing(String),
    /// It is there, but is not what it was in all kernels so far.
    #[error("{0} is not as this program knows it")]
    Unknown(String),
}

use Error::Malformed;

/// A member of a struct, counted from the struct's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Where it begins, in bits.
    pub at: u32,
    /// How long it is, in bits.
    pub bits: u32,
}

/// The kernel's types, by their numbers.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`. The first one's number is 1; 0 is void.
    places: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Type<'a> {
    name: usize,
    kind: u32,
    /// For a struct or union: some members are bit fields, and all are told so.
    flag: bool,
    /// Its size in bytes, or the number of the type that it stands for.
    size_or_type: u32,
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Finds where each type begins.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::NewerKind`]
    pub fn new(bytes: &'a [u8]) -> Result<Btf<'a>, Error> {
        let header = bytes
            .get(..HEADER_LENGTH)
            .ok_or(Malformed("it has no header"))?;
        if header[..2] != MAGIC.to_ne_bytes() || header[2] != 1 {
            return Err(Malformed("it is none, or of another byte order or version"));
        }
        let field = |index: usize| word(header, 4 + 4 * index).map(|value| value as usize);
        let body = bytes
            .get(field(0)?..)
            .ok_or(Malformed("its header is too long"))?;
        let section = |at: usize| -> Result<&'a [u8], Error> {
            let (from, length) = (field(at)?, field(at + 1)?);
            body.get(from..)
                .and_then(|rest| rest.get(..length))
                .ok_or(Malformed("it is cut off"))
        };
        let mut btf = Btf {
            types: section(1)?,
            strings: section(3)?,
            places: Vec::new(),
        };
        let mut at = 0;
        while at < btf.types.len() {
            btf.places.push(at);
            at += length_of(btf.types, at)?;
        }
        if at != btf.types.len() {
            return Err(Malformed("its last type is cut off"));
        }
        Ok(btf)
    }

    /// The members of the struct of that name, in the order of `names`; None for those that it has not.
    /// Where several structs have the name, all have to agree.
    ///
    /// # Errors
    /// [`Error::Missing`]: no such struct; [`Error::Unknown`]: they do not agree.
    pub fn members<const N: usize>(
        &self,
        name: &str,
        names: [&str; N],
    ) -> Result<[Option<Member>; N], Error> {
        let mut found = None;
        for number in self.numbers_of(STRUCT, name) {
            let own = self.type_of(number)?;
            let mut members = [None; N];
            for (member, wanted) in members.iter_mut().zip(names) {
                *member = self.member(own, wanted, 0)?;
            }
            match found {
                Some(before) if before != members => {
                    return Err(Error::Unknown(format!(
                        "struct {name}, of which there are several,"
                    )));
                }
                _ => found = Some(members),
            }
        }
        found.ok_or_else(|| Error::Missing(format!("struct {name}")))
    }

    /// The number of the function of that name; None if the kernel has none.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.numbers_of(FUNC, name).next()
    }

    fn numbers_of(&self, kind: u32, name: &str) -> impl Iterator<Item = u32> {
        (1..).zip(&self.places).filter_map(move |(number, place)| {
            // The cheap comparison first: there are more than a hundred thousand types.
            let info = word(self.types, place + 4).ok()?;
            let is_kind = kind_of(info) == kind;
            let at = word(self.types, *place).ok().filter(|_| is_kind)?;
            (self.string(at as usize) == Some(name.as_bytes())).then_some(number)
        })
    }

    fn type_of(&self, number: u32) -> Result<Type<'a>, Error> {
        let place = (number as usize)
            .checked_sub(1)
            .and_then(|index| self.places.get(index))
            .ok_or(Malformed("a type that is not there is named"))?;
        let info = word(self.types, place + 4)?;
        let length = length_of(self.types, *place)?;
        let whole = self
            .types
            .get(*place..*place + length)
            .ok_or(Malformed("a type is cut off"))?;
        Ok(Type {
            name: word(whole, 0)? as usize,
            kind: kind_of(info),
            flag: info >> 31 == 1,
            size_or_type: word(whole, 8)?,
            rest: &whole[TYPE_LENGTH..],
        })
    }

    /// A member of that name, be it of a struct or union without a name inside.
    fn member(&self, own: Type<'_>, wanted: &str, depth: u32) -> Result<Option<Member>, Error> {
        if depth > DEPTH {
            return Err(Malformed("structs inside structs without an end"));
        }
        for member in own.rest.chunks_exact(TYPE_LENGTH) {
            let (name, number, offset) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
            let (at, bits) = match own.flag {
                true => (offset & 0xff_ffff, offset >> 24),
                false => (offset, 0),
            };
            let name = self
                .string(name as usize)
                .ok_or(Malformed("a name is not there"))?;
            if name == wanted.as_bytes() {
                let bits = match bits {
                    0 => self.size_of(number)?.checked_mul(8),
                    bits => Some(bits),
                };
                let bits = bits.ok_or(Malformed("a type is too large"))?;
                return Ok(Some(Member { at, bits }));
            }
            if !name.is_empty() {
                continue;
            }
            let inner = self.type_of(number)?;
            if !matches!(inner.kind, STRUCT | UNION) {
                continue;
            }
            if let Some(found) = self.member(inner, wanted, depth + 1)? {
                let at = at
                    .checked_add(found.at)
                    .ok_or(Malformed("a member is too far away"))?;
                return Ok(Some(Member { at, ..found }));
            }
        }
        Ok(None)
    }

    /// In bytes. Of a number only: nothing else is asked for.
    fn size_of(&self, mut number: u32) -> Result<u32, Error> {
        for _ in 0..DEPTH {
            let found = self.type_of(number)?;
            match found.kind {
                INT | ENUM => return Ok(found.size_or_type),
                TYPEDEF | VOLATILE | CONST => number = found.size_or_type,
                _ => {
                    let name = self.string(found.name).unwrap_or_default();
                    let name = String::from_utf8_lossy(name).into_owned();
                    return Err(Error::Unknown(format!("a member of type {name:?}")));
                }
            }
        }
        Err(Malformed("names for types without an end"))
    }

    fn string(&self, at: usize) -> Option<&'a [u8]> {
        self.strings.get(at..)?.split(|byte| *byte == 0).next()
    }
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// The length of the type at this place, with what follows of it.
fn length_of(types: &[u8], at: usize) -> Result<usize, Error> {
    let info = word(types, at + 4)?;
    let many = (info & 0xffff) as usize;
    let more = match kind_of(info) {
        // int; variable; declaration tag
        INT | 14 | 17 => 4,
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7 | TYPEDEF | VOLATILE | CONST | 11 | FUNC | 16 | 18 => 0,
        // array
        3 => 12,
        // struct, union; section; enumeration of 64 bits
        STRUCT | UNION | 15 | 19 => many * 12,
        // enumeration; a function's prototype
        ENUM | 13 => many * 8,
        kind => return Err(Error::NewerKind(kind)),
    };
    Ok(TYPE_LENGTH + more)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes
        .map(|bytes| u32::from_ne_bytes(*bytes))
        .ok_or(Malformed("a number is cut off"))
}

#[cfg(test)]
pub(in crate::guard) mod tests;
