use super::*;
use proptest::prelude::*;

const HOUR: Time = 3_600_000;

fn group(name: &str) -> GroupName {
    GroupName::of([name])
}

fn ip(n: u32) -> IpAddr {
    (0xcb00_0000 + n).to_be_bytes().into()
}

fn web() -> Arc<str> {
    "shop/web".into()
}

#[test]
fn an_address_stays_until_the_latest_time_that_was_said() {
    let mut known = KnownSets::default();
    let a = group("a.example");
    known.put(&a, ip(1), ("a.example", &web()), (0, 100));
    known.put(&a, ip(1), ("b.example", &web()), (10, 50));
    known.put(&a, ip(1), ("a.example", &web()), (20, 90));
    assert_eq!(known.until(&a, ip(1), 99), Some(100));
    assert_eq!(known.until(&a, ip(1), 100), None);
    assert_eq!(known.until(&group("b.example"), ip(1), 0), None);
    let names: Vec<&str> = known.of_group(&a, 0)[&ip(1)]
        .names
        .iter()
        .map(|n| &**n)
        .collect();
    assert_eq!(names, ["b.example", "a.example"], "the latest last");
    assert_eq!(
        known
            .name_of(&[group("x.example"), a.clone()], ip(1), 0)
            .map(|n| &**n),
        Some("a.example")
    );
    assert_eq!(known.name_of(&[group("x.example")], ip(1), 0), None);
    assert_eq!(known.name_of(std::slice::from_ref(&a), ip(1), 100), None);
    assert_eq!(known.counts(), (2, 1));
    known.tidy(99, |_| true);
    assert_eq!(known.counts(), (2, 1));
    known.tidy(100, |_| true);
    assert_eq!(known.counts(), (0, 0));
}

#[test]
fn a_group_that_is_gone_is_forgotten() {
    let mut known = KnownSets::default();
    for name in ["a.example", "b.example"] {
        known.put(&group(name), ip(1), (name, &web()), (0, 100));
    }
    known.tidy(1, |name| *name == group("a.example"));
    assert_eq!(known.counts(), (1, 1));
    assert_eq!(known.until(&group("b.example"), ip(1), 1), None);
}

#[test]
fn a_set_has_room_for_so_many_of_each_family() {
    let mut known = KnownSets::default();
    let a = group("a.example");
    let most = u32::try_from(MOST_ADDRESSES).expect("few");
    for n in 0..most {
        assert!(known.has_room(&a, ip(n), 0));
        let until = if n == 0 { 50 } else { 100 };
        known.put(&a, ip(n), ("a.example", &web()), (0, until));
    }
    assert!(!known.has_room(&a, ip(most), 0));
    assert!(known.has_room(&a, ip(7), 0), "it is there");
    assert!(known.has_room(&group("b.example"), ip(most), 0));
    let v6 = |n: u32| {
        IpAddr::from(std::net::Ipv6Addr::from(
            0x2001_0db8_u128 << 96 | u128::from(n),
        ))
    };
    for n in 0..most {
        assert!(known.has_room(&a, v6(n), 0), "{n}");
        known.put(&a, v6(n), ("a.example", &web()), (0, 100));
    }
    assert!(!known.has_room(&a, v6(most), 0));
    assert!(known.has_room(&a, ip(most), 50), "one has gone by now");
}

#[test]
fn the_oldest_names_are_forgotten_first() {
    let mut known = KnownSets::default();
    let a = group("*.example");
    let most = u64::try_from(MOST_OF_ALL).expect("few");
    for n in 0..=most {
        let address = ip(u32::try_from(n % 4000).expect("small"));
        known.put(&a, address, (&format!("{n}.example"), &web()), (n, HOUR));
    }
    let (names, addresses) = known.counts();
    assert_eq!(
        (names, addresses),
        (MOST_OF_ALL + 1 - MOST_OF_ALL / 8, 4000)
    );
    let last = format!("{most}.example");
    let addresses = known.of_group(&a, most);
    let of_all: Vec<&str> = addresses
        .values()
        .flat_map(|known| &known.names)
        .map(|n| &**n)
        .collect();
    assert!(of_all.contains(&last.as_str()) && !of_all.contains(&"0.example"));
    for known in addresses.values() {
        assert!(known.names.len() <= MOST_NAMES);
    }
}

#[test]
fn a_name_has_many_addresses_and_an_address_not_too_many_names() {
    let mut known = KnownSets::default();
    let a = group("*.example");
    for n in 0..100 {
        known.put(&a, ip(1), (&format!("{n}.example"), &web()), (n, HOUR));
    }
    let names: Vec<String> = known.of_group(&a, 0)[&ip(1)]
        .names
        .iter()
        .map(|n| n.to_string())
        .collect();
    let wanted: Vec<String> = (84..100).map(|n| format!("{n}.example")).collect();
    assert_eq!(names, wanted);
}

#[test]
fn what_another_one_wrote_is_read_beside_what_is_known() {
    let (a, b) = (group("a.example"), group("b.example"));
    let mut old = KnownSets::default();
    old.put(&a, ip(1), ("a.example", &web()), (0, 100));
    old.put(&a, ip(2), ("a.example", &web()), (0, 300));
    old.put(&b, ip(3), ("b.example", &web()), (0, u64::MAX));
    let mut new = KnownSets::default();
    new.put(&a, ip(2), ("c.example", &web()), (150, 400));
    new.read(old.document(0), (150, HOUR));
    assert_eq!(new.until(&a, ip(1), 150), None, "that is over");
    assert_eq!(new.until(&a, ip(2), 150), Some(400));
    assert_eq!(
        new.until(&b, ip(3), 150),
        Some(150 + HOUR),
        "no clock says that"
    );
    assert_eq!(
        new.name_of(std::slice::from_ref(&a), ip(2), 150)
            .map(|n| &**n),
        Some("c.example")
    );
    assert_eq!(
        new.name_of(std::slice::from_ref(&b), ip(3), 150)
            .map(|n| &**n),
        Some("b.example")
    );
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        group: usize,
        address: u32,
        name: usize,
        lives: Time,
    },
    Wait(Time),
    Tidy,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 0..5_u32, 0..4_usize, 1..200_u64)
            .prop_map(|(group, address, name, lives)| Step::Put { group, address, name, lives }),
        2 => (0..100_u64).prop_map(Step::Wait),
        1 => Just(Step::Tidy),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Whatever happens, an address is known as long as the longest time that was said of it, and no longer.
    #[test]
    fn it_knows_what_a_list_of_all_that_was_said_knows(steps in prop::collection::vec(step(), 0..60)) {
        let groups = ["a.example", "b.example", "c.example"].map(group);
        let names = ["a.example", "b.example", "x.c.example", "y.c.example"];
        let (mut known, mut now) = (KnownSets::default(), 1);
        let mut said: Vec<(usize, u32, Time)> = Vec::new();
        for step in steps {
            match step {
                Step::Put { group, address, name, lives } => {
                    prop_assert!(known.has_room(&groups[group], ip(address), now));
                    known.put(&groups[group], ip(address), (names[name], &web()), (now, now + lives));
                    said.push((group, address, now + lives));
                    let last = known.name_of(&groups[group..=group], ip(address), now);
                    prop_assert_eq!(last.map(|n| &**n), Some(names[name]));
                }
                Step::Wait(time) => now += time,
                Step::Tidy => known.tidy(now, |_| true),
                Step::Restart => {
                    let document = known.document(now);
                    known = KnownSets::default();
                    known.read(document, (now, HOUR));
                }
            }
            for (group, name) in groups.iter().enumerate() {
                for address in 0..5 {
                    let until = said.iter().filter(|(g, a, _)| (*g, *a) == (group, address));
                    let until = until.map(|(_, _, until)| *until).max().filter(|until| *until > now);
                    prop_assert_eq!(known.until(name, ip(address), now), until);
                    prop_assert_eq!(known.of_group(name, now).contains_key(&ip(address)), until.is_some());
                }
            }
        }
        known.tidy(Time::MAX, |_| true);
        prop_assert_eq!(known.counts(), (0, 0));
    }
}
