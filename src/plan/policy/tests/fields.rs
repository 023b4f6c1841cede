//! What some kernels find in sets of several fields though it is not there: see [`super::super::fields`].

use super::*;

/// Always in sets of several fields, in one piece.
const TOGETHER: Shape = Shape {
    services: 0,
    many: usize::MAX,
    ..Shape::USUAL
};

fn denying(text: &str) -> Effective {
    let tier = TierRules::parse(Tier::Pod, "pod", text, false).expect("valid rules");
    let facts = Facts::default();
    Effective::new(vec![tier], DefaultAction::Deny, false, facts).expect("all keywords are known")
}

fn sent(to: IpAddr, protocol: u8, port: u16) -> Sent {
    let mut body = match protocol {
        58 => vec![128],
        _ => [&7000u16.to_be_bytes()[..], &port.to_be_bytes()].concat(),
    };
    body.resize(40, 0);
    Sent { to, protocol, body }
}

/// How many sets of several fields of intervals a form has.
fn sets_of_fields(compiled: &Compiled) -> usize {
    let sets = compiled.sets.iter();
    sets.filter(|(set, _)| matches!(set.key, KeyType::Concat(_)))
        .count()
}

#[test]
fn every_octet_of_an_address_is_looked_at() {
    const BASE: u128 = 0x2001_0db8_0000_0000_0000_0000_0000_0001;
    let other = |octet: u32| IpAddr::from((BASE ^ 0x55 << (8 * octet)).to_be_bytes());
    let mut text = String::new();
    for octet in 0..16 {
        let to = other(octet);
        let _ = writeln!(
            text,
            "allow 443/tcp to {to}\nallow icmpv6/128 to {to}\nallow proto/{} to {to}",
            200 + octet % 5
        );
    }
    let policy = denying(&text);
    let forms = forms(&policy, TOGETHER);
    assert_eq!(sets_of_fields(&forms[0].0), 3);
    let places = (0..16).map(other).chain([IpAddr::from(BASE.to_be_bytes())]);
    let kinds = [6, 58, 200, 201, 202, 203, 204];
    let packets = places.flat_map(|to| kinds.map(|protocol| sent(to, protocol, 443)));
    compare(&policy, &forms, &packets.collect::<Vec<_>>(), "octets");
}

#[test]
fn nothing_is_left_of_earlier_packets() {
    const RULES: u16 = 150;
    // Each range is some ten prefixes.
    let ports = |n: u16| (n * 300 + 1, n * 300 + 299);
    let addresses = |n: u16| {
        let v4 = IpAddr::from([10, 9, n as u8, 1]);
        [v4, IpAddr::from([0x2001, 0xdb8, n, 0, 0, 0, 0, 1])]
    };
    let mut text = String::new();
    for n in 0..RULES {
        let ((from, to), [v4, v6]) = (ports(n), addresses(n));
        let _ = writeln!(text, "allow {from}-{to}/udp to {v4}, {v6}");
    }
    let policy = denying(&text);
    let forms = forms(&policy, TOGETHER);
    assert_eq!(sets_of_fields(&forms[0].0), 2);
    let mut rng = Rng::with_seed(1);
    let mut packets = Vec::new();
    for _ in 0..200 {
        let [one, two, three] = std::array::from_fn(|_| rng.u16(..RULES));
        let port = |rng: &mut Rng, n| rng.u16(ports(n).0..=ports(n).1);
        let (first, second) = (port(&mut rng, one), port(&mut rng, two));
        for family in 0..2 {
            packets.push(sent(addresses(one)[family], 17, first));
            // The tables change places with each packet, or not, as the number of fields is.
            packets.push(sent(addresses(three)[family], 17, first));
            packets.push(sent(addresses(two)[family], 17, second));
            packets.push(sent(addresses(three)[family], 17, first));
        }
    }
    compare(&policy, &forms, &packets, "earlier packets");
}
