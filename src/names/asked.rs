//! What pods have asked for that no rule of theirs names, and what they were told: so that a denied packet can be
//! called by a name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::known::Time;

/// Names of one pod, addresses of one name, pods.
const MOST_NAMES: usize = 64;
const MOST_ADDRESSES: usize = 16;
const MOST_PODS: usize = 1024;

/// How long an answer counts, in milliseconds: applications keep some for longer than they live.
const LONGEST: Time = 3600 * 1000;

/// A name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedName {
    /// When it was last asked for.
    pub last: Time,
    /// How often.
    pub count: u64,
    /// What the answers had, the latest first.
    pub addresses: Vec<IpAddr>,
}

/// Of all pods, by what people call them.
#[derive(Debug, Default)]
pub struct AllAsked(HashMap<Arc<str>, HashMap<Box<str>, AskedName>>);

impl AllAsked {
    /// A pod was answered.
    pub fn answered(&mut self, pod: &Arc<str>, name: &str, addresses: &[(IpAddr, u32)], now: Time) {
        if self.0.len() >= MOST_PODS && !self.0.contains_key(pod) {
            return;
        }
        let names = self.0.entry(Arc::clone(pod)).or_default();
        if names.len() >= MOST_NAMES && !names.contains_key(name) {
            let oldest = names.iter().min_by_key(|(_, asked)| asked.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                names.remove(&oldest);
            }
        }
        let asked = names.entry(name.into()).or_insert_with(|| AskedName {
            last: now,
            count: 0,
            addresses: Vec::new(),
        });
        asked.last = now;
        asked.count += 1;
        for (address, _) in addresses.iter().take(MOST_ADDRESSES) {
            asked.addresses.retain(|known| known != address);
            asked.addresses.insert(0, *address);
        }
        asked.addresses.truncate(MOST_ADDRESSES);
    }

    /// For which name a pod was told this address last.
    pub fn name_of(&self, pod: &str, address: IpAddr, now: Time) -> Option<&str> {
        let names = self.0.get(pod)?.iter();
        let told = names.filter(|(_, asked)| {
            now.saturating_sub(asked.last) < LONGEST && asked.addresses.contains(&address)
        });
        told.max_by_key(|(_, asked)| asked.last)
            .map(|(name, _)| &**name)
    }

    /// What a pod has asked for, in order.
    pub fn of_pod(&self, pod: &str) -> Vec<(&str, &AskedName)> {
        let names = self.0.get(pod).into_iter().flatten();
        let mut names: Vec<_> = names.map(|(name, asked)| (&**name, asked)).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        names
    }

    /// Forgets what is old.
    pub fn tidy(&mut self, now: Time) {
        self.0.retain(|_, names| {
            names.retain(|_, asked| now.saturating_sub(asked.last) < LONGEST);
            !names.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    #[test]
    fn an_address_is_called_by_the_last_name_that_it_was_told_for() {
        let mut all = AllAsked::default();
        let (web, other): (Arc<str>, Arc<str>) = ("shop/web".into(), "shop/other".into());
        all.answered(&web, "a.example", &[(ip(1), 60), (ip(2), 60)], 1000);
        all.answered(&web, "b.example", &[(ip(1), 60)], 2000);
        assert_eq!(all.name_of(&web, ip(1), 3000), Some("b.example"));
        assert_eq!(all.name_of(&web, ip(2), 3000), Some("a.example"));
        assert_eq!(all.name_of(&web, ip(3), 3000), None);
        assert_eq!(all.name_of(&other, ip(1), 3000), None);
        all.answered(&web, "a.example", &[(ip(1), 60)], 4000);
        assert_eq!(all.name_of(&web, ip(1), 5000), Some("a.example"));
        assert_eq!(all.of_pod(&web)[0].1.count, 2);
        assert_eq!(all.of_pod(&web)[0].1.addresses, [ip(1), ip(2)]);
        assert_eq!(all.name_of(&web, ip(2), 4000 + LONGEST), None);
        all.tidy(4000 + LONGEST);
        assert!(all.0.is_empty());
    }

    #[test]
    fn nobody_can_fill_the_memory() {
        let mut all = AllAsked::default();
        let web: Arc<str> = "shop/web".into();
        let addresses: Vec<_> = (0..=255).map(|last| (ip(last), 60)).collect();
        for n in 0..1000 {
            all.answered(&web, &format!("{n}.example"), &addresses, n);
        }
        assert_eq!(all.of_pod(&web).len(), MOST_NAMES);
        assert!(
            all.of_pod(&web)
                .iter()
                .all(|(_, asked)| asked.addresses.len() == MOST_ADDRESSES)
        );
        assert_eq!(all.name_of(&web, ip(0), 1000), Some("999.example"));
        for n in 0..2 * MOST_PODS {
            all.answered(&format!("shop/{n}").into(), "x.example", &[], 1000);
        }
        assert_eq!(all.0.len(), MOST_PODS);
    }
}
