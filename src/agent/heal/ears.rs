//! Everything by which the kernel tells that something has changed on this node.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::agent::dirs::{Dirs, TICK};
use crate::agent::worker;
use crate::lifecycle::heal::Happened;
use crate::plan::{INET, NETDEV};
use netlink::watch::Watch as Devices;
use nft::{Changed, Watch as Rules};

/// What was heard.
#[derive(Debug, Default)]
pub struct Noticed {
    /// What has happened.
    pub happened: Happened,
    /// Who has changed our tables.
    pub by: Vec<Changed>,
}

/// All that is listened to. What can't be is looked at from time to time.
pub struct Ears {
    rules: Option<AsyncFd<Rules>>,
    devices: Option<AsyncFd<Devices>>,
    files: Dirs,
}

impl Ears {
    /// Begins to listen, inside the runtime.
    pub fn open(dirs: impl IntoIterator<Item = PathBuf>) -> Ears {
        Ears {
            rules: listen("changes of the tables", Rules::open(&[&INET, &NETDEV])),
            devices: listen("changes of devices", Devices::open()),
            files: Dirs::new(dirs),
        }
    }

    /// What has been told by now.
    pub fn now(&mut self) -> Noticed {
        let mut heard = Noticed::default();
        self.read(&mut heard);
        heard
    }

    /// Waits until there is something new, not longer than this, and then for anything.
    pub async fn hear(&mut self, longest: Duration) -> Noticed {
        let is_deaf = self.rules.is_none() || self.devices.is_none();
        let longest = if is_deaf { longest.min(TICK) } else { longest };
        let end = tokio::time::sleep(longest);
        tokio::pin!(end);
        loop {
            let mut heard = Noticed::default();
            tokio::select! {
                () = ready(self.rules.as_ref()) => {}
                () = ready(self.devices.as_ref()) => {}
                () = self.files.changed(TICK) => heard.happened.files = true,
                () = &mut end => heard.happened.anything = true,
            }
            self.read(&mut heard);
            if !heard.happened.is_nothing() {
                return heard;
            }
        }
    }

    /// Takes what has been told by now.
    fn read(&mut self, heard: &mut Noticed) {
        if let Some(rules) = &mut self.rules {
            match rules.get_mut().read() {
                Ok(told) => {
                    let others = told
                        .changed
                        .into_iter()
                        .filter(|by| by.name != worker::NAME);
                    heard.by.extend(others);
                    heard.happened.rules |= !heard.by.is_empty();
                    heard.happened.anything |= told.lost;
                }
                Err(e) => self.rules = deaf("changes of the tables", e),
            }
        }
        if let Some(devices) = &mut self.devices {
            match devices.get_mut().read() {
                Ok(told) => {
                    heard.happened.devices |= told.devices;
                    heard.happened.filters.extend(told.filters);
                    heard.happened.anything |= told.lost;
                }
                Err(e) => self.devices = deaf("changes of devices", e),
            }
        }
    }
}

fn listen<W: AsRawFd, E: std::fmt::Display>(to: &str, opened: Result<W, E>) -> Option<AsyncFd<W>> {
    let opened = opened.map_err(|e| e.to_string());
    let listening = opened.and_then(|watch| {
        // SAFETY: the descriptor is the watch's own socket, which lives as long as what holds it here, and nobody
        // else closes it.
        let fd = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) };
        fd.map_err(|e| e.to_string())
    });
    match listening {
        Ok(fd) => Some(fd),
        Err(e) => deaf(to, e),
    }
}

fn deaf<W: AsRawFd>(to: &str, error: impl std::fmt::Display) -> Option<AsyncFd<W>> {
    let seconds = TICK.as_secs();
    tracing::warn!(
        "cannot subscribe to changes of {to} ({error}): polling every {seconds} s instead"
    );
    None
}

async fn ready<W: AsRawFd>(fd: Option<&AsyncFd<W>>) {
    match fd {
        Some(fd) => match fd.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await, // the runtime ends
        },
        None => std::future::pending().await,
    }
}
