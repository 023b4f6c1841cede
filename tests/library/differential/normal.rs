//! What `nft` prints, less what may differ without a difference in meaning.

use serde_json::Value;

/// The JSON listing without handles (numbers given by the kernel) and counts.
pub fn json(text: &str) -> Value {
    let mut value = serde_json::from_str(text).expect("nft prints JSON");
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("handle");
            if let Some(Value::Object(counter)) = fields.get_mut("counter") {
                counter.remove("packets");
                counter.remove("bytes");
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The expressions of each rule and the elements of each set, as `--debug=netlink` prints them.
///
/// `nft` joins comparisons of neighbouring header fields into one, where we make two. Both read the
/// same when each is cut into comparisons of single bytes.
pub fn expressions(debug: &str) -> Vec<String> {
    let mut lines = Vec::new();
    // a hash's order is its own: elements wait here to be sorted
    let mut elements = Vec::new();
    let mut load: Option<Load> = None;
    for line in debug.lines().map(str::trim) {
        // where the text listing begins, all has been told
        if line.starts_with("table ") && line.ends_with('{') {
            break;
        }
        let words: Vec<&str> = line
            .trim_matches(['[', ']', ' '])
            .split_whitespace()
            .collect();
        if let Some(pending) = load.take() {
            match &words[..] {
                ["cmp", "eq", "reg", "1", bytes @ ..] => {
                    lines.extend(pending.compared(bytes));
                    continue;
                }
                _ => lines.push(pending.line),
            }
        }
        if words.first() == Some(&"element") {
            // nft remembers in user data how a range was written
            elements.extend(line.split("userdata").next().map(|l| l.trim().to_owned()));
            continue;
        }
        elements.sort();
        lines.append(&mut elements);
        // nft 1.0.6 turns round the two bytes of a protocol's number in a concatenation, of which
        // the kernel is told that there is one (`nft_byteorder_eval`): nothing happens.
        if line.contains("byteorder") && line.contains(", 2, 1)") {
            continue;
        }
        match &words[..] {
            [
                "payload",
                "load",
                length,
                "@",
                base,
                "header",
                "+",
                offset,
                "=>",
                "reg",
                "1",
            ] => {
                load = Some(Load {
                    line: line.to_owned(),
                    base: (*base).to_owned(),
                    offset: offset.parse().expect("an offset"),
                    length: length.trim_end_matches('b').parse().expect("a length"),
                });
            }
            [
                family @ ("ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev"),
                table,
                chain,
                ..,
            ] => {
                lines.push(format!("{family} {table} {chain}")); // without handles
            }
            _ => lines.push(line.to_owned()),
        }
    }
    elements.sort();
    lines.append(&mut elements);
    lines
}

/// A payload expression that waits for its comparison.
struct Load {
    line: String,
    base: String,
    offset: usize,
    length: usize,
}

impl Load {
    /// One line a byte. libnftnl prints registers as numbers of the machine's byte order.
    fn compared(self, words: &[&str]) -> Vec<String> {
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| {
                let digits = word.strip_prefix("0x").expect("hex");
                u32::from_str_radix(digits, 16).expect("hex").to_ne_bytes()
            })
            .collect();
        (0..self.length)
            .map(|n| {
                format!(
                    "{} byte {} is {:#04x}",
                    self.base,
                    self.offset + n,
                    bytes[n]
                )
            })
            .collect()
    }
}
