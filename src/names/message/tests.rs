use super::*;
use crate::names::test_support::{ID, answer, header, name, query, record};
use proptest::prelude::*;

fn question(text: &str) -> Question {
    Question::parse(&query(text, A)).expect("a question")
}

fn found(message: &[u8]) -> Result<Vec<String>, Malformed> {
    let addresses = question("api.example.com").addresses(message, 64)?;
    let found = addresses.found.iter();
    Ok(found.map(|(ip, ttl)| format!("{ip} {ttl}")).collect())
}

#[test]
fn names_are_read_as_patterns_have_them() {
    for (asked, read) in [
        ("api.example.com", "api.example.com"),
        ("aPi.ExAmPle.COM", "api.example.com"),
        ("_http._tcp.x", "_http._tcp.x"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("", ""),
        ("a b", "a\\032b"),
        ("a\\b", "a\\092b"),
        ("*.x", "\\042.x"),
        ("ü", "\\195\\188"),
    ] {
        assert_eq!(question(asked).name, read);
    }
    // One label that looks like two.
    let mut message = header(0x0100, [1, 0, 0, 0]);
    message.extend(b"\x09x.example\x03com\0\0\x01\0\x01");
    let parsed = Question::parse(&message).expect("a question");
    assert_eq!(parsed.name, "x\\046example.com");
}

#[test]
fn what_is_no_question_is_none() {
    let good = query("api.example.com", A);
    for end in 0..good.len() - 11 {
        assert_eq!(Question::parse(&good[..end]), Err(Malformed), "{end}");
    }
    let changed = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        Question::parse(&message)
    };
    assert!(changed(2, 0x81).is_err(), "an answer");
    assert!(changed(5, 0).is_err(), "no question");
    assert!(changed(5, 2).is_err(), "two questions");
    assert!(changed(12, 0xc0).is_err(), "a pointer");
    assert!(
        changed(12, 0x40).is_err(),
        "a kind of label that nobody uses"
    );
    assert!(changed(12, 63).is_err(), "a label beyond the end");
    assert!(changed(2, 0x29).is_ok(), "an update is relayed, too");
    let long = |labels: usize| query(&vec!["x".repeat(61); labels].join("."), A);
    assert!(Question::parse(&long(4)).is_ok());
    assert!(Question::parse(&long(5)).is_err(), "more than 255 bytes");
    assert_eq!(
        Question::parse(&query("x", 0xfffe)).map(|q| q.kind),
        Ok(0xfffe)
    );
}

#[test]
fn only_an_answer_to_the_question_is_one() {
    let asked = question("Api.example.com");
    let good = answer("Api.example.com", A, 0, &[]);
    let is = |message: &[u8], id: u16| asked.is_answered_by(message, id);
    assert!(is(&good, ID));
    assert!(
        is(&answer("aPI.EXAMPLE.com", A, 0, &[]), ID),
        "only the case differs"
    );
    assert!(!is(&good, ID + 1));
    assert!(!is(&answer("api.example.org", A, 0, &[]), ID));
    assert!(!is(&answer("api.example.com", AAAA, 0, &[]), ID));
    assert!(!is(&answer("x.api.example.com", A, 0, &[]), ID));
    let of_a_service = Question::parse(&query("x", u16::from(b'A'))).expect("a question");
    assert!(!of_a_service.is_answered_by(&answer("x", u16::from(b'a'), 0, &[]), ID));
    assert!(!is(&query("api.example.com", A), ID), "a question");
    let mut bare = header(0x8181, [0; 4]);
    assert!(is(&bare, ID), "FORMERR without a question");
    assert!(!is(&bare[..11], ID));
    bare[3] = 0x80;
    assert!(!is(&bare, ID), "no error, and no question");
    for end in 0..good.len() {
        assert!(!is(&good[..end], ID), "{end}");
    }
}

#[test]
fn addresses_are_those_of_the_answer() {
    let cname = record(5, 30, &name("cdn.example.net"));
    let a = record(A, 60, &[203, 0, 113, 7]);
    let far = record(A, u32::MAX, &[203, 0, 113, 8]);
    let aaaa = record(
        AAAA,
        0,
        &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets(),
    );
    let txt = record(16, 60, b"\x03abc");
    let unknown = record(65280, 60, b"\xff\xff");
    let mut chaos = record(A, 60, &[203, 0, 113, 9]);
    chaos[5] = 3;
    let all = answer(
        "api.example.com",
        A,
        0,
        &[cname, a.clone(), far, aaaa, txt, unknown, chaos, a.clone()],
    );
    assert_eq!(
        found(&all).unwrap(),
        ["203.0.113.7 60", "203.0.113.8 0", "2001:db8::7 0"]
    );
    // An error's records are nobody's, whatever they are.
    assert_eq!(
        found(&answer("api.example.com", A, 3, std::slice::from_ref(&a))),
        Ok(vec![])
    );
    // Those of other sections aren't, either: here it is an authority's.
    let mut other = answer("api.example.com", A, 0, std::slice::from_ref(&a));
    other[7] = 0;
    other[9] = 1;
    assert_eq!(found(&other), Ok(vec![]));
    // An update's are not learned.
    let mut update = query("api.example.com", A);
    update[2] = 0x29;
    let update = Question::parse(&update).expect("a question");
    let one = answer("api.example.com", A, 0, &[a]);
    assert_eq!(update.addresses(&one, 64), Ok(Addresses::default()));
}

#[test]
fn hints_of_services_are_addresses() {
    let mut data = vec![0, 1];
    data.extend(name("svc.example.net"));
    data.extend([0, 1, 0, 3, 2, b'h', b'2']);
    data.extend([0, 4, 0, 8, 203, 0, 113, 1, 203, 0, 113, 2]);
    let v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
    data.extend([0, 6, 0, 16]);
    data.extend(v6);
    for kind in [SVCB, HTTPS] {
        let message = answer("api.example.com", kind, 0, &[record(kind, 300, &data)]);
        assert_eq!(
            found(&message).unwrap(),
            ["203.0.113.1 300", "203.0.113.2 300", "2001:db8::1 300"]
        );
        for end in [1, 2, 10, data.len() - 17, data.len() - 1] {
            let cut = answer(
                "api.example.com",
                kind,
                0,
                &[record(kind, 300, &data[..end])],
            );
            assert_eq!(found(&cut), Err(Malformed), "{end}");
        }
    }
    let alias = answer(
        "api.example.com",
        HTTPS,
        0,
        &[record(HTTPS, 300, &[0, 0, 0])],
    );
    assert_eq!(found(&alias), Ok(vec![]));
}

#[test]
fn records_that_are_none_spoil_an_answer_unless_it_says_that_it_is_cut() {
    let a = record(A, 60, &[203, 0, 113, 7]);
    let good = answer("api.example.com", A, 0, &[a.clone(), a.clone()]);
    let begin = good.len() - a.len();
    for end in begin..good.len() {
        assert_eq!(found(&good[..end]), Err(Malformed), "{end}");
        let mut cut = good[..end].to_vec();
        cut[2] |= IS_TRUNCATED;
        assert_eq!(found(&cut).unwrap(), ["203.0.113.7 60"]);
    }
    for (kind, data) in [
        (A, &[1; 3][..]),
        (A, &[1; 5]),
        (A, &[]),
        (AAAA, &[1; 4]),
        (AAAA, &[1; 17]),
    ] {
        let message = answer("api.example.com", kind, 0, &[record(kind, 60, data)]);
        assert_eq!(found(&message), Err(Malformed), "{data:?}");
    }
    // Pointers to themselves, to each other, forward and beyond: nobody follows them.
    for to in [12, 33, 34, 0x3ff] {
        let mut looping = answer("api.example.com", A, 0, std::slice::from_ref(&a));
        let at = looping.len() - a.len();
        looping[at..at + 2].copy_from_slice(&(0xc000 | to as u16).to_be_bytes());
        assert_eq!(found(&looping).unwrap(), ["203.0.113.7 60"]);
    }
    let mut strange = answer("api.example.com", A, 0, std::slice::from_ref(&a));
    let at = strange.len() - a.len();
    strange[at] = 0x80;
    assert_eq!(found(&strange), Err(Malformed));
}

#[test]
fn more_addresses_than_anybody_wants_are_cut() {
    let many: Vec<Vec<u8>> = (0..4096_u32)
        .map(|n| record(A, 60, &(0xcb00_0000 | n).to_be_bytes()))
        .collect();
    let message = answer("api.example.com", A, 0, &many);
    let question = question("api.example.com");
    let addresses = question.addresses(&message, 64).unwrap();
    assert!(addresses.cut && addresses.found.len() == 64);
    let few = answer("api.example.com", A, 0, &many[..64]);
    let addresses = question.addresses(&few, 64).unwrap();
    assert!(!addresses.cut && addresses.found.len() == 64);
}

#[test]
fn a_refusal_is_an_answer_without_records() {
    let mut asked = query("Api.Example.com", A);
    asked[3] |= CHECKING_DISABLED;
    let question = Question::parse(&asked).unwrap();
    for rcode in [Rcode::NxDomain, Rcode::ServFail] {
        let refusal = question.refuse(&asked, rcode);
        assert!(question.is_answered_by(&refusal, ID));
        assert_eq!(refusal[2..4], [0x81, 0x90 | rcode as u8]);
        assert_eq!(refusal[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refusal[12..], asked[12..asked.len() - 11]);
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(question) = Question::parse(&bytes) {
            prop_assert!(question.name.len() <= 4 * LONGEST_NAME);
            let _ = question.addresses(&bytes, 64);
        }
    }

    #[test]
    fn a_number_is_all_that_changes(id in any::<u16>(), text in "[a-zA-Z0-9-]{1,20}(\\.[a-z]{1,9}){0,4}") {
        let mut message = query(&text, A);
        set_id(&mut message, id);
        let question = Question::parse(&message).unwrap();
        prop_assert_eq!(question.id, id);
        prop_assert_eq!(question.name, text.to_ascii_lowercase());
        set_id(&mut message, ID);
        prop_assert_eq!(message, query(&text, A));
    }
}
