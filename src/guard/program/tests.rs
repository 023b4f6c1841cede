use super::*;
use crate::guard::btf::tests::Builder;
use netlink::bpf::Program as Loaded;

fn of_this_kernel() -> Layout {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
    Layout::read(&Btf::new(&bytes).unwrap()).unwrap()
}

#[test]
fn the_verifier_takes_every_reading() {
    let layout = of_this_kernel();
    let readings: Vec<Reading> = layout.readings().collect();
    assert!(readings.contains(&Reading::Probe));
    for reading in readings {
        let code = assemble(&layout, reading);
        assert!(code.len() <= 160, "{reading:?}: {}", code.len());
        let loaded = Loaded::load(NAME, LICENSE, &code);
        loaded.unwrap_or_else(|e| panic!("{reading:?}: {e}"));
    }
}

#[test]
fn the_verifier_refuses_what_is_no_member() {
    let mut layout = of_this_kernel();
    layout.network_header = 4096;
    for reading in layout.readings() {
        let error = Loaded::load(NAME, LICENSE, &assemble(&layout, reading)).unwrap_err();
        assert!(error.errno().is_some(), "{error}");
    }
}

#[test]
fn a_layout_survives_its_document() {
    let layout = of_this_kernel();
    let text = serde_json::to_string(&layout).unwrap();
    assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), layout);
}

/// A struct sk_buff with these members: name, length in bits (0: by its type), place.
fn read(
    change: impl FnOnce(&mut Vec<(&'static str, u32, u32, u32)>),
    cast: bool,
) -> Result<Layout, btf::Error> {
    let mut builder = Builder::new();
    let (byte, short) = (builder.int("u8", 1), builder.int("u16", 2));
    let mut members = vec![
        ("ip_summed", byte, 1029, 2),
        ("csum_not_inet", byte, 1038, 1),
        ("encapsulation", byte, 1037, 1),
        ("csum_start", short, 1152, 0),
        ("csum_offset", short, 1168, 0),
        ("network_header", short, 1440, 0),
    ];
    change(&mut members);
    builder.structure("sk_buff", 4, &members);
    if cast {
        builder.function(CAST);
    }
    let bytes = builder.bytes();
    Layout::read(&Btf::new(&bytes)?)
}

#[test]
fn members_are_where_the_kernel_says() {
    let layout = read(|_| (), true).unwrap();
    let bits = |byte, shift, mask| Bits8 { byte, shift, mask };
    assert_eq!(layout.ip_summed, bits(128, 5, 0b0110_0000));
    assert_eq!(layout.csum_not_inet, Some(bits(129, 6, 0b0100_0000)));
    assert_eq!(layout.encapsulation, bits(129, 5, 0b0010_0000));
    assert_eq!(
        (layout.csum_start, layout.csum_offset, layout.network_header),
        (144, 146, 180)
    );
    assert_eq!(layout.span(), (128, 182));
    let readings: Vec<Reading> = layout.readings().collect();
    assert_eq!(readings, [Reading::Cast(4), Reading::Probe]);
    let without_sctp = read(|m| m.retain(|m| m.0 != "csum_not_inet"), true).unwrap();
    assert_eq!(without_sctp.csum_not_inet, None);
    // Before Linux 6.2 there is but one way.
    let older: Vec<Reading> = read(|_| (), false).unwrap().readings().collect();
    assert_eq!(older, [Reading::Probe]);
}

#[test]
fn a_kernel_that_is_different_is_not_guessed_at() {
    type Change = fn(&mut Vec<(&'static str, u32, u32, u32)>);
    let changes: [(&str, Change); 6] = [
        ("gone", |m| {
            m.remove(0);
        }),
        ("of another length", |m| m[0].3 = 3),
        ("over a byte's end", |m| m[0].2 = 1031),
        ("no bit field", |m| m[1].3 = 0),
        ("a byte, not two", |m| m[3].1 = 1),
        ("far away", |m| m[5].2 = 8000),
    ];
    for (what, change) in changes {
        assert!(read(change, true).is_err(), "{what}");
    }
}
