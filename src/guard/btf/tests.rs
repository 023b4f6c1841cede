use super::*;

/// Made by hand: types in order, names as they are met.
#[derive(Default)]
pub(in crate::guard) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    pub(in crate::guard) fn new() -> Self {
        Builder {
            strings: vec![0],
            ..Builder::default()
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    /// A type, and the words that follow it. Returns its number.
    fn add(
        &mut self,
        name: &str,
        kind: u32,
        vlen: u32,
        flag: bool,
        size: u32,
        more: &[u32],
    ) -> u32 {
        let name = self.name(name);
        let info = vlen | kind << 24 | u32::from(flag) << 31;
        for word in [name, info, size].iter().chain(more) {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(in crate::guard) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, INT, 0, false, bytes, &[bytes * 8])
    }

    pub(in crate::guard) fn function(&mut self, name: &str) -> u32 {
        self.add(name, FUNC, 0, false, 0, &[])
    }

    fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, TYPEDEF, 0, false, of, &[])
    }

    /// Members: name, type, place in bits, length in bits if it is a bit field.
    pub(in crate::guard) fn structure(
        &mut self,
        name: &str,
        kind: u32,
        members: &[(&str, u32, u32, u32)],
    ) -> u32 {
        let mut words = Vec::new();
        for (name, number, at, bits) in members {
            words.extend([self.name(name), *number, at | bits << 24]);
        }
        let flag = members.iter().any(|member| member.3 != 0);
        self.add(name, kind, members.len() as u32, flag, 64, &words)
    }

    pub(in crate::guard) fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}

/// struct buffer { u16 head; union { struct { u16 start; u8 x:5, sum:2; }; u32 word; }; };
fn sample() -> Builder {
    let mut builder = Builder::new();
    let (byte, short) = (
        builder.int("unsigned char", 1),
        builder.int("unsigned short", 2),
    );
    let (alias, int) = (
        builder.typedef("__u16", short),
        builder.int("unsigned int", 4),
    );
    let inner = builder.structure(
        "",
        STRUCT,
        &[
            ("start", alias, 0, 0),
            ("x", byte, 16, 5),
            ("sum", byte, 21, 2),
        ],
    );
    let either = builder.structure("", UNION, &[("", inner, 0, 0), ("word", int, 0, 0)]);
    builder.structure(
        "buffer",
        STRUCT,
        &[("head", alias, 0, 0), ("", either, 32, 0)],
    );
    builder.function("cast");
    builder
}

#[test]
fn finds_members_wherever_they_are() {
    let bytes = sample().bytes();
    let btf = Btf::new(&bytes).unwrap();
    let found = btf.members("buffer", ["sum", "start", "head", "word", "end"]);
    let member = |at, bits| Some(Member { at, bits });
    let wanted = [
        member(53, 2),
        member(32, 16),
        member(0, 16),
        member(32, 32),
        None,
    ];
    assert_eq!(found, Ok(wanted));
    assert_eq!(btf.function("cast"), Some(8));
    assert_eq!(btf.function("buffer"), None, "a struct, not a function");
    let missing = btf.members("cast", ["end"]).unwrap_err();
    assert!(missing.to_string().contains("no struct cast"));
}

#[test]
fn two_structs_of_one_name_have_to_agree() {
    let mut builder = sample();
    let short = builder.int("short", 2);
    builder.structure("buffer", STRUCT, &[("head", short, 0, 0)]);
    let bytes = builder.bytes();
    let btf = Btf::new(&bytes).unwrap();
    assert!(btf.members("buffer", ["head"]).is_ok());
    builder.structure("buffer", STRUCT, &[("head", short, 16, 0)]);
    let bytes = builder.bytes();
    let btf = Btf::new(&bytes).unwrap();
    let error = btf.members("buffer", ["head"]).unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
}

#[test]
fn what_names_itself_ends() {
    let mut builder = Builder::new();
    builder.structure("endless", STRUCT, &[("", 1, 0, 0)]);
    builder.typedef("itself", 2);
    builder.structure("odd", STRUCT, &[("member", 2, 0, 0), ("far", 9, 0, 0)]);
    let bytes = builder.bytes();
    let btf = Btf::new(&bytes).unwrap();
    for (name, member) in [("endless", "x"), ("odd", "member"), ("odd", "far")] {
        let error = btf.members(name, [member]).unwrap_err();
        assert!(matches!(error, Malformed(_)), "{name}: {error}");
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_an_error_or_harmless() {
    let whole = sample().bytes();
    for length in 0..whole.len() {
        assert!(Btf::new(&whole[..length]).is_err(), "{length}");
    }
    let mut changed = whole.clone();
    for at in 0..whole.len() {
        for bit in 0..8 {
            changed[at] ^= 1 << bit;
            if let Ok(btf) = Btf::new(&changed) {
                let _ = btf.members("buffer", ["sum", "start", "head", "word"]);
                btf.function("cast");
            }
            changed[at] = whole[at];
        }
    }
    let mut newer = sample();
    newer.add("", 20, 0, false, 0, &[]);
    assert_eq!(Btf::new(&newer.bytes()).unwrap_err(), Error::NewerKind(20));
}
