//! What is meant by words that other tools know, and what must not hide.

use crate::grammar::parse;

/// The help that a text gets.
fn help(text: &str) -> String {
    let faults = parse("pod", text).expect_err(text);
    let help = faults.described()[0].help.clone();
    help.unwrap_or_else(|| format!("none: {faults}"))
}

#[test]
fn what_other_tools_write_is_understood() {
    for (text, wanted) in [
        ("allow 1.2.3.4:443", "did you mean `443/tcp to 1.2.3.4`?"),
        (
            "allow 1.2.3.4:443/tcp",
            "did you mean `443/tcp to 1.2.3.4`?",
        ),
        (
            "allow [2001:db8::1]:443",
            "did you mean `443/tcp to 2001:db8::1`?",
        ),
        ("allow internet:443", "did you mean `443/tcp to internet`?"),
        (
            "allow to 1.2.3.4:443",
            "ports stand before `to`: `443/tcp to 1.2.3.4`",
        ),
        ("allow https/tcp", "did you mean `443/tcp`?"),
        ("allow HTTPS/tcp", "did you mean `443/tcp`?"),
        ("allow domain/udp to any", "did you mean `53/udp`?"),
        ("allow https to internet", "did you mean `443/tcp`?"),
        (
            "allow 443/tcp to not private",
            "what is not meant stands behind `except`: `to any except private`",
        ),
        (
            "allow 443/tcp to !private",
            "what is not meant stands behind `except`: `to any except private`",
        ),
        (
            "allow to !10.0.0.0/8",
            "what is not meant stands behind `except`: `to any except 10.0.0.0/8`",
        ),
        (
            "allow 443/tcp to 10.0.0.0/8:80",
            "ports stand before `to`: `80/tcp to 10.0.0.0/8`",
        ),
        (
            "allow to [2001:db8::1]:443",
            "ports stand before `to`: `443/tcp to 2001:db8::1`",
        ),
        (
            "allow to internet:443",
            "ports stand before `to`: `443/tcp to internet`",
        ),
        (
            "allow to api.example.com:443",
            "ports stand before `to`: `443/tcp to api.example.com`",
        ),
        (
            "allow to https://api.example.com:8443/v1",
            "ports stand before `to`: `8443/tcp to api.example.com`",
        ),
        (
            "allow to https://203.0.113.7:8443/v1",
            "write the address alone, and the port before `to`: `443/tcp to 203.0.113.7`",
        ),
        ("allow to \"1.2.3.4\"", "did you mean `1.2.3.4`?"),
        ("allow to 10.*", "did you mean `10.0.0.0/8`?"),
        ("allow to 192.168.1.*", "did you mean `192.168.1.0/24`?"),
        (
            "allow to pod/shop/web",
            "rules name addresses and Services: `cluster` is all pods and Services, `svc/NAMESPACE/NAME` one Service",
        ),
        ("allow 443/https", "did you mean `443/tcp`?"),
        (
            "deny !53/udp",
            "ports have no `not`: write a rule for these ports before the one for all others",
        ),
        ("allow port 443 to any", super::super::ports::NO_WORD),
        ("allow to any port=443", super::super::ports::NO_WORD),
        ("allow tcp 443 to any", super::super::ports::NO_WORD),
        (
            "allow 443/tcp from 10.0.0.0/8",
            super::super::ports::NO_FROM,
        ),
        ("deny from 10.0.0.0/8", super::super::ports::NO_FROM),
        (
            "allow not private",
            "what is not meant stands behind `except`: `to any except private`",
        ),
    ] {
        assert_eq!(help(text), wanted, "{text}");
    }
}

#[test]
fn every_help_is_a_rule() {
    for text in ["allow 1.2.3.4:443", "allow https/tcp", "allow internet:443"] {
        let help = help(text);
        let meant = help.split('`').nth(1).expect("a word in backticks");
        assert!(parse("pod", &format!("allow {meant}")).is_ok(), "{meant}");
    }
}

#[test]
fn a_comment_hides_nothing() {
    for (text, line, column, message) in [
        (
            "allow # all\rdeny # nothing",
            1,
            12,
            "a comment has U+000D, after which a terminal writes over what stands before it",
        ),
        (
            "deny\nallow # \u{202e}yned",
            2,
            9,
            "a comment has U+202E, which turns the direction of what stands behind it",
        ),
        (
            "# \u{2028}deny",
            1,
            3,
            "a comment has U+2028, which some programs take for the end of the line",
        ),
        (
            "# \u{1b}[2K",
            1,
            3,
            "a comment has U+001B, a control character",
        ),
    ] {
        let faults = parse("pod", text).expect_err(text);
        let fault = &faults.described()[0];
        assert_eq!(
            (fault.line, fault.column, fault.message.as_str()),
            (line, column, message),
            "{text:?}"
        );
        assert!(
            !faults
                .to_string()
                .contains(['\r', '\u{1b}', '\u{202e}', '\u{2028}'])
        );
    }
    for text in ["deny # a\tb\r\nallow # ö, 漢, العربية\r\n", "#"] {
        assert!(parse("pod", text).is_ok(), "{text:?}");
    }
}
