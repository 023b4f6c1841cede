//! What strangers can write, and the code that reads it. No input may make it panic, and what it
//! accepts must hold what is said here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use egressway::attachment::result::PodResult;
use egressway::cni::env::Invocation;
use egressway::conf::{Command, Conf, RawConf};
use egressway::guard::btf::Btf;
use egressway::guard::program::{Layout, assemble};
use egressway::names::message::{self, Question, Rcode};
use egressway::source::PolicyFile;
use egressway::store::document::{self, Document};
use egressway::store::{
    EgressLists, LinkEntry, NamespaceAnswer, Owner, PolicyHead, PolicyKey, Record, ServiceAnswer,
    Snapshot, Verified,
};
use nft::wire::{self, Attrs};
use rules::grammar;
use rules::stored::StoredPolicy;

/// A pod's annotation: read to the same rules again from what the rules print, and each fault has a place.
pub fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match grammar::parse("fuzz", text) {
        Ok(rules) => {
            let printed: Vec<String> = rules.iter().map(ToString::to_string).collect();
            let again = grammar::parse("fuzz", &printed.join("\n"));
            let again =
                again.unwrap_or_else(|e| panic!("what was printed is refused: {e}\n{printed:?}"));
            let reprinted: Vec<String> = again.iter().map(ToString::to_string).collect();
            assert_eq!(printed, reprinted);
        }
        Err(faults) => assert!(faults.to_string().contains("fuzz:")),
    }
}

/// The plugin's configuration on stdin, for every verb.
pub fn conflist(data: &[u8]) {
    let Ok(entry) = RawConf::decode(data) else {
        return;
    };
    for command in [
        Command::Add,
        Command::Check,
        Command::Del,
        Command::Gc,
        Command::Status,
        Command::Version,
    ] {
        if let Ok(conf) = Conf::new(&entry, command)
            && let Some(result) = &conf.prev_result
        {
            // It has to come back byte for byte, whatever is in it.
            assert!(String::from_utf8_lossy(data).contains(result.get()));
            let _ = PodResult::parse(result, "eth0", Path::new("/run/netns/a"));
        }
    }
}

/// The CNI variables: NUL between them, `KEY=VALUE` each.
pub fn environment(data: &[u8]) {
    let variables: BTreeMap<String, OsString> = data
        .split(|byte| *byte == 0)
        .filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let key = String::from_utf8(pair[..at].to_vec()).ok()?;
            Some((key, OsString::from_vec(pair[at + 1..].to_vec())))
        })
        .collect();
    if let Err(e) = Invocation::from_env(|key| variables.get(key).cloned()) {
        // It becomes an event of the pod: short, and of one line.
        let text = e.to_string();
        assert!(text.len() < 2000 && !text.contains('\n'), "{text}");
    }
}

/// The policy file.
pub fn policy(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = PolicyFile::parse("fuzz", text).map_err(|e| e.to_string());
    }
}

/// A document of the state directory, of whichever kind: what is read is written again as the same, with
/// what a newer program has added; an attachment's policy is one or is refused.
pub fn state(data: &[u8]) {
    rewritten::<Record<PolicyKey>>(data, true);
    rewritten::<Owner>(data, true);
    rewritten::<LinkEntry>(data, true);
    rewritten::<Verified>(data, true);
    rewritten::<PolicyHead>(data, false);
    rewritten::<Snapshot<NamespaceAnswer>>(data, false);
    rewritten::<Snapshot<ServiceAnswer>>(data, false);
    rewritten::<Snapshot<EgressLists>>(data, false);
    if let Ok(policy) = serde_json::from_slice::<StoredPolicy>(data) {
        let _ = policy.rebuild().map_err(|e| e.to_string());
    }
}

/// `unknown`: the fields that it does not know survive, too.
fn rewritten<D: Document>(data: &[u8], unknown: bool) {
    let Ok(document) = document::decode::<D>(data) else {
        return;
    };
    let written = document::encode(&document).expect("JSON");
    let again = document::decode::<D>(&written).expect("what was written");
    assert_eq!(document::encode(&again).expect("JSON"), written);
    let fields = |bytes: &[u8]| {
        let fields: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(bytes).expect("an object");
        fields.into_keys().collect::<Vec<_>>()
    };
    let written = fields(&written);
    for field in fields(data) {
        let is_left_out = field == "lease"; // null says as much as nothing
        assert!(
            !unknown || is_left_out || written.contains(&field),
            "{field} was lost"
        );
    }
}

/// What the kernel answers: messages and their attributes, nested ones, too.
pub fn netlink(data: &[u8]) {
    fn walk(attributes: Attrs<'_>, depth: u32) {
        for (kind, _, payload) in attributes.iter() {
            let _ = (
                attributes.text(kind),
                attributes.be32(kind),
                attributes.be64(kind),
            );
            assert_eq!(
                attributes.get(kind).is_some(),
                attributes.nest(kind).is_some()
            );
            if depth < 8 {
                walk(Attrs(payload), depth + 1);
            }
        }
    }
    let mut length = 0;
    for message in wire::messages(data) {
        length += message.body.len();
        walk(message.attrs(), 0);
    }
    assert!(length <= data.len());
}

/// What the kernel says of its own types: whatever is made of it is a program of sensible length, which
/// the kernel's verifier would then look at.
pub fn btf(data: &[u8]) {
    let Ok(layout) = Btf::new(data).and_then(|btf| Layout::read(&btf)) else {
        return;
    };
    for reading in layout.readings() {
        let length = assemble(&layout, reading).len();
        assert!((50..200).contains(&length), "{length}");
    }
}

/// A question of a pod, behind its length, and what a server answers: no more addresses than wanted, and none of
/// what does not answer the question.
pub fn dns(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (query, answer) = rest.split_at(length);
    let Ok(question) = Question::parse(query) else {
        return;
    };
    assert!(question.name.len() <= 4 * 255 && question.name.is_ascii());
    assert!(!question.name.ends_with('.') && !question.name.contains(".."));
    let _ = question.is_answered_by(answer, question.id);
    if let Ok(addresses) = question.addresses(answer, 8) {
        assert!(addresses.found.len() <= 8);
    }
    let refusal = question.refuse(query, Rcode::NxDomain);
    assert!(question.is_answered_by(&refusal, question.id));
    let mut other = refusal;
    message::set_id(&mut other, !question.id);
    assert!(!question.is_answered_by(&other, question.id));
}
