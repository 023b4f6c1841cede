//! A bar on stderr while something takes longer than a second. Nothing where stderr is no terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a second it is drawn.
const RATE: u8 = 5;

/// How far something is. The bar goes when this is dropped.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `what` is said in front of the bar; `total` is where [`Progress::at`] ends.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            started: Instant::now(),
            bar: None,
        }
    }

    /// So much of the total is done.
    pub(super) fn at(&mut self, done: u64) {
        if self.bar.is_none() && self.total > 0 && self.started.elapsed() >= PATIENCE {
            self.bar = Some(bar(self.what, self.total));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: u64) -> ProgressBar {
    let target = if output::is_dumb() {
        ProgressDrawTarget::hidden()
    } else {
        // It draws nothing by itself where stderr is no terminal.
        ProgressDrawTarget::stderr_with_hz(RATE)
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %, {eta} left");
    ProgressBar::with_draw_target(Some(total), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_has_a_bar() {
        let mut progress = Progress::new("reading", 10);
        progress.at(1);
        assert!(progress.bar.is_none());
        progress.started -= PATIENCE;
        progress.at(4);
        let position = progress.bar.as_ref().map(ProgressBar::position);
        assert_eq!(position, Some(4));
        // a pipe: nobody knows how much will come
        let mut progress = Progress::new("reading", 0);
        progress.started -= PATIENCE;
        progress.at(4);
        assert!(progress.bar.is_none());
    }
}
