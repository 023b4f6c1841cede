//! Others break tables, addresses and files now and then, and `sync` mends them.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::World;
use crate::harness::egress::EGRESS;
use crate::sync::sync;

/// Leaves half of a file, if it is there.
pub fn cut(path: &Path) {
    let Ok(file) = File::options().write(true).open(path) else {
        return;
    };
    let length = file.metadata().expect("a file").len();
    file.set_len(length / 2).expect("a shorter file");
}

impl World<'_> {
    /// Between the damage and the end of `sync` pods are without rules: that is the doing of who did
    /// the damage, and nobody is tried meanwhile. ADDs and DELs go on.
    pub fn break_and_mend(&self, rng: &mut Rng) {
        while !self.is_over() {
            thread::sleep(Duration::from_millis(rng.u64(200..1200)));
            let _broken = self.tables.write().expect("the tables");
            self.damage(rng);
            let (changes, _) = sync(self.node);
            for change in changes {
                let did = change["did"].as_str().expect("what was done");
                self.count(&format!("things that sync {did}"));
                if did == "failed" || did == "left" {
                    println!("sync: {change}");
                }
            }
            self.count("syncs");
        }
    }

    fn damage(&self, rng: &mut Rng) {
        let (netns, state) = (&self.node.netns, self.node.state_dir());
        let words = [
            "flush ruleset",
            "delete table inet egressway",
            "delete table netdev egressway",
            "flush table inet egressway",
            "flush chain inet egressway enforce",
            "delete element inet egressway eip4 { 172.30.0.50 }",
        ];
        let damage = rng.usize(..words.len() + 4);
        match damage.checked_sub(words.len()) {
            None => {
                self.count(words[damage]);
                // What is not there can't be deleted, and a busy kernel says so.
                netns.try_exec(&format!("nft {}", words[damage]));
            }
            Some(0) => {
                self.count("the uplink loses its egress addresses");
                for egress in EGRESS {
                    let bits = if egress.contains(':') { 128 } else { 32 };
                    netns.try_exec(&format!("ip addr del {egress}/{bits} dev eth0"));
                }
            }
            Some(1) => {
                self.count("files of egress addresses cut in half");
                for egress in EGRESS {
                    cut(&state.join(format!("egress/{egress}.json")));
                }
            }
            Some(2) => {
                self.count("notes of links cut in half");
                for note in fs::read_dir(state.join("links")).expect("links") {
                    cut(&note.expect("a note").path());
                }
            }
            Some(_) => {
                self.count("what is known of the tables cut in half");
                cut(&state.join("whole.json"));
            }
        }
    }
}
