//! Waiting, never longer than until a deadline.

use std::{io, os::fd::BorrowedFd, time::Instant};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Waits until one of the descriptors has something to read. False: the deadline came first.
///
/// Something that is there already is seen even after the deadline.
pub(super) fn readable(descriptors: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let mut polled: Vec<PollFd<'_>> = descriptors
            .iter()
            .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, time_left(deadline)) {
            Ok(0) if Instant::now() < deadline => continue,
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Rounded up to whole milliseconds: rounded down, the last one would be spent spinning.
fn time_left(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
