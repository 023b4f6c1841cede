//! Makes a failing case small: fewer packets, then fewer rules, as long as it fails.

use super::case::Case;
use super::sightings::Disagreement;
use super::world::World;

/// How many tries that may take.
const TRIES: usize = 80;

type Lines = fn(&mut Case) -> &mut Vec<String>;
const TIERS: [Lines; 5] = [
    |case| &mut case.cluster_enforced,
    |case| &mut case.namespace_enforced,
    |case| &mut case.pod,
    |case| &mut case.namespace_defaults,
    |case| &mut case.cluster_defaults,
];

/// The smallest case that still fails, and how it does.
pub fn smallest(world: &mut World, case: &Case) -> (Case, Disagreement) {
    let mut small = case.clone();
    let Err(mut wrong) = world.try_case(&small) else {
        let text = "it failed once, and not when it was tried again\n".to_owned();
        let packets = Vec::new();
        return (small, Disagreement { packets, text });
    };
    let mut tries = TRIES;
    let mut fails = |world: &mut World, case: &Case, wrong: &mut Disagreement| {
        if tries == 0 {
            return false;
        }
        tries -= 1;
        match world.try_case(case) {
            Ok(()) => false,
            Err(found) => {
                *wrong = found;
                true
            }
        }
    };
    if !wrong.packets.is_empty() {
        let mut fewer = small.clone();
        let mut place = 0..;
        fewer
            .packets
            .retain(|_| place.next().is_some_and(|n| wrong.packets.contains(&n)));
        if fails(world, &fewer, &mut wrong) {
            small = fewer.clone();
            fewer.packets.truncate(1);
            if fails(world, &fewer, &mut wrong) {
                small = fewer;
            }
        }
    }
    for lines in TIERS {
        let mut chunk = lines(&mut small).len();
        while chunk > 0 {
            let mut at = 0;
            while at < lines(&mut small).len() {
                let mut fewer = small.clone();
                let end = (at + chunk).min(lines(&mut fewer).len());
                lines(&mut fewer).drain(at..end);
                if fails(world, &fewer, &mut wrong) {
                    small = fewer;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
    }
    (small, wrong)
}
