//! The one thread that touches the kernel, the state directory and the node's files.
//!
//! All of that can wait: for a lock, a disk, a neighbour's answer. The runtime must not, or one slow
//! answer holds up everything else. One thread is enough, since the state directory's lock lets only one
//! at it anyway, and one at a time is what makes the end simple: the last job is the last change.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use super::Error;

/// What the kernel calls the thread when it tells others who has changed the tables: the program's name, as for its
/// other processes.
pub const NAME: &str = "egressway";

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread. It ends with the last of these.
#[derive(Debug, Clone)]
pub struct Worker(mpsc::Sender<Job>);

impl Worker {
    /// Starts the thread, in the network namespace of the caller.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start() -> io::Result<Worker> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let builder = thread::Builder::new().name(NAME.to_owned());
        builder.spawn(move || queue.into_iter().for_each(|job| job()))?;
        Ok(Worker(jobs))
    }

    /// Does `work` after all that was asked before, and waits for its result. What has begun is done to
    /// its end even if nobody waits any more.
    ///
    /// # Errors
    /// [`Error::Worker`]: this or an earlier job has panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            let _ = tell.send(work()); // nobody may wait any more
        });
        self.0.send(job).map_err(|_| Error::Worker)?;
        told.await.map_err(|_| Error::Worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    }

    #[test]
    fn jobs_are_done_one_after_the_other_also_when_nobody_waits() {
        let worker = Worker::start().expect("a thread");
        let done = Arc::new(Mutex::new(Vec::new()));
        runtime().block_on(async {
            let job = |n: u32| {
                let done = Arc::clone(&done);
                worker.run(move || done.lock().expect("no panic").push(n))
            };
            for n in 0..3 {
                // It is asked when it is polled once, and then dropped.
                let mut asked = Box::pin(job(n));
                tokio::select! { biased; _ = &mut asked => {}, () = async {} => {} }
            }
            job(3).await.expect("a result");
        });
        assert_eq!(*done.lock().expect("no panic"), [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_is_an_error_for_everybody_who_waits() {
        let worker = Worker::start().expect("a thread");
        runtime().block_on(async {
            let failed = worker.run(|| panic!("as this test wants")).await;
            assert!(matches!(failed, Err(Error::Worker)));
            assert!(matches!(worker.run(|| ()).await, Err(Error::Worker)));
        });
    }
}
