//! Flowtables of others. A connection in one is forwarded at the ingress of its devices, ahead of every
//! prerouting chain, which sees its packets no more.

use super::attrs;
use crate::error::Error;
use crate::socket::Nft;
use crate::uapi::*;

impl Nft {
    /// A flowtable that takes what comes in by one of these devices: its table and its name, and
    /// which device.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn flowtable_at<'a>(
        &mut self,
        devices: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<(String, String)>, Error> {
        let family = 0; // of all
        let answer = self.query(
            format_args!("flowtables"),
            NFT_MSG_GETFLOWTABLE,
            family,
            true,
            |_| {},
        )?;
        Ok(devices.into_iter().find_map(|device| {
            let flowtable = answer.iter().find_map(|body| taking(body, device))?;
            Some((flowtable, device.to_owned()))
        }))
    }
}

fn taking(body: &[u8], device: &str) -> Option<String> {
    let flowtable = attrs(body);
    let hook = flowtable.nest(NFTA_FLOWTABLE_HOOK)?;
    let listed = hook.nest(NFTA_FLOWTABLE_HOOK_DEVS)?;
    let takes = listed.iter().any(|(kind, _, name)| {
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        match kind {
            NFTA_DEVICE_PREFIX => device.as_bytes().starts_with(name),
            _ => device.as_bytes() == name,
        }
    });
    let (table, name) = (
        flowtable.text(NFTA_FLOWTABLE_TABLE)?,
        flowtable.text(NFTA_FLOWTABLE_NAME)?,
    );
    takes.then(|| format!("{table} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Writer, messages};

    /// A message as the kernel dumps it.
    fn flowtable(devices: &[(u16, &str)]) -> Vec<u8> {
        let mut w = Writer::default();
        w.message(NFT_MSG_GETFLOWTABLE, 0, 1, 0, 0, |w| {
            w.str(NFTA_FLOWTABLE_TABLE, "fast");
            w.str(NFTA_FLOWTABLE_NAME, "f");
            w.nested(NFTA_FLOWTABLE_HOOK, |w| {
                w.nested(NFTA_FLOWTABLE_HOOK_DEVS, |w| {
                    for (kind, name) in devices {
                        w.str(*kind, name);
                    }
                });
            });
        });
        let message = messages(&w.bytes).next().expect("a message");
        message.body.to_vec()
    }

    #[test]
    fn a_flowtable_takes_its_devices_and_no_others() {
        let body = flowtable(&[(1, "eth0"), (1, "cni0"), (NFTA_DEVICE_PREFIX, "veth")]);
        for device in ["eth0", "cni0", "veth12"] {
            assert_eq!(taking(&body, device).as_deref(), Some("fast f"), "{device}");
        }
        for device in ["cali1", "cni01", "eth"] {
            assert_eq!(taking(&body, device), None, "{device}");
        }
        assert_eq!(taking(&flowtable(&[]), "eth0"), None);
    }
}
