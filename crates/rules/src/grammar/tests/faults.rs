//! What people see when a text is wrong: `faults.txt` has each text behind `> ` (with `\n`, `\t` and `\0` for what
//! they stand for), and below it the whole answer.

use crate::grammar::parse;

#[test]
fn each_fault_is_shown_as_written_down() {
    let mut seen = 0;
    for block in include_str!("faults.txt").trim_end().split("\n\n") {
        let (text, expected) = block.split_once('\n').expect("a text and its answer");
        let text = text
            .strip_prefix("> ")
            .expect("a text")
            .replace("\\n", "\n")
            .replace("\\t", "\t")
            .replace("\\0", "\0");
        let faults = parse("pod", &text).expect_err(&text);
        assert_eq!(faults.to_string(), expected, "for {text:?}");
        seen += 1;
    }
    assert!(seen > 80, "only {seen} texts");
}

#[test]
fn a_long_line_is_cut_around_the_fault() {
    let text = format!(
        "allow to {}oops,{}",
        "10.0.0.1,".repeat(1000),
        "10.0.0.2,".repeat(1000)
    );
    let faults = parse("pod", &text).expect_err("oops is no target");
    let shown = faults.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[1..],
        [
            "  …0.0.1,10.0.0.1,10.0.0.1,10.0.0.1,10.0.0.1,10.0.0.1,10.0.0.1,oops,10.0.0.2,10.0.0.2,\
             10.0.0.2,10.0.0.2,10.0.0.2,10.0.0.2,10.0.…",
            &format!("  {}^^^^", " ".repeat(61)),
        ]
    );
    let fault = &faults.described()[0];
    assert_eq!((fault.line, fault.column, fault.width), (1, 9010, 4));
}

#[test]
fn a_long_word_is_cut_too() {
    let faults = parse("pod", &"y".repeat(5000)).expect_err("is no verb");
    assert_eq!(
        faults.to_string(),
        format!(
            "pod:1:1: expected `allow`, `deny`, `reject` or `pass`, found `{0}…`\n  {0}…\n  {1}",
            "y".repeat(60),
            "^".repeat(61)
        )
    );
}

#[test]
fn what_could_fool_a_terminal_is_escaped() {
    let faults = parse("pod", "allow \u{1b}[2J\u{202e}x\u{a0}\r y").expect_err("is no port");
    let shown = faults.to_string();
    assert!(
        shown.contains("found `\\u{1b}[2J\\u{202e}x\\u{a0}\\r`"),
        "{shown}"
    );
    assert!(
        shown.contains("\n  allow \\u{1b}[2J\\u{202e}x\\u{a0}\\r y\n"),
        "{shown}"
    );
}

#[test]
fn all_faults_are_found_in_the_order_of_the_text() {
    let faults = parse("pod", "x1\nallow\nx2; deny; x3\n").expect_err("three are wrong");
    let places: Vec<_> = faults
        .described()
        .iter()
        .map(|f| (f.line, f.column))
        .collect();
    assert_eq!(places, [(1, 1), (3, 1), (3, 11)]);
    assert_eq!(faults.count(), 3);
}

#[test]
fn very_many_faults_are_counted() {
    let faults = parse("pod", &"xx\n".repeat(1234)).expect_err("all are wrong");
    assert_eq!(faults.described().len(), 100);
    assert_eq!(faults.count(), 1234);
    assert!(faults.to_string().ends_with("\nand 1229 more"));
}
