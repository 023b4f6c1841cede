//! The resolver's own threads: one that relays, so that nothing else delays answers, and one that watches it.
//!
//! Pods are led to whoever listens, also to one that hangs. So the second closes the sockets of a first one that has
//! done nothing for two seconds.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::listen::Listeners;
use super::relay::Relay;
use super::resolver::{Resolver, now};
use super::{tcp, udp};
use crate::plan::resolver::Led;
use rules::class::DNS_PORT;

/// How long the relays may do nothing, in milliseconds.
const HANGS: u64 = 2000;
/// How often they say that they live, and how often that is looked at.
const BEAT: Duration = Duration::from_millis(200);
/// How often what is known is written down.
const WRITE: Duration = Duration::from_secs(10);
/// How long until an address is tried again at which nobody could listen.
const AGAIN: Duration = Duration::from_secs(1);
/// How long questions under way may take at the end.
const DRAIN: Duration = Duration::from_millis(400);

/// What the threads and their owner share.
#[derive(Debug)]
struct ServeParts {
    resolver: Arc<Resolver>,
    /// When the relays last said that they live.
    beat: AtomicU64,
    /// The sockets, for the second thread.
    open: Mutex<Vec<Listeners>>,
    /// It has closed them.
    was_closed: AtomicBool,
}

impl ServeParts {
    fn open(&self) -> MutexGuard<'_, Vec<Listeners>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the relays are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Orders {
    /// The cluster's DNS, in the policy file's order.
    servers: Vec<std::net::IpAddr>,
    /// It is over.
    end: bool,
}

/// The running resolver.
#[derive(Debug)]
pub struct ResolverThreads {
    shared: Arc<ServeParts>,
    orders: watch::Sender<Orders>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl ResolverThreads {
    /// Starts the threads, in the network namespace of the caller. They listen when they know servers.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(resolver: Arc<Resolver>) -> io::Result<ResolverThreads> {
        let shared = Arc::new(ServeParts {
            resolver,
            beat: AtomicU64::new(now()),
            open: Mutex::default(),
            was_closed: AtomicBool::new(false),
        });
        let (orders, told) = watch::channel(Orders::default());
        let (tell, ended) = mpsc::channel();
        let files = open_files();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let relays = Arc::clone(&shared);
        thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || {
                runtime.block_on(LocalSet::new().run_until(stay(&relays, files, told)));
                runtime.shutdown_background();
                let _ = tell.send(()); // nobody may wait
            })?;
        let watched = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("names-watch".to_owned())
            .spawn(move || {
                while let Some(shared) = watched.upgrade() {
                    watch_over(&shared);
                    drop(shared);
                    thread::sleep(BEAT);
                }
            })?;
        Ok(ResolverThreads {
            shared,
            orders,
            ended: Mutex::new(ended),
        })
    }

    /// Who knows what is wanted.
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.shared.resolver
    }

    /// Takes what is sent to these servers, and asks them.
    pub fn set_servers(&self, servers: Vec<std::net::IpAddr>) {
        self.orders.send_if_modified(|orders| {
            let is_other = orders.servers != servers;
            orders.servers = servers;
            is_other
        });
    }

    /// Takes no more questions, answers those that are under way, and writes down what is known.
    pub fn end(&self) {
        self.orders.send_modify(|orders| orders.end = true);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(2 * DRAIN).is_err() {
            tracing::warn!("the resolver does not end: it is left alone");
        }
        if let Err(e) = self.shared.resolver.write_known() {
            tracing::warn!("{e}");
        }
    }
}

/// Asks for as many files as this process may have, and says how many those are.
fn open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Closes the sockets of relays that hang.
fn watch_over(shared: &ServeParts) {
    let silent = now().saturating_sub(shared.beat.load(Ordering::Relaxed));
    let open = shared.open();
    if silent < HANGS || open.is_empty() || shared.was_closed.swap(true, Ordering::Relaxed) {
        return;
    }
    open.iter().for_each(Listeners::close);
    drop(open);
    tracing::error!(
        "the resolver has done nothing for {silent} ms: questions go to the cluster's DNS directly, and new addresses of names stay closed"
    );
}

/// One server's relays.
struct Serving {
    listener: Rc<UdpSocket>,
    server: SocketAddr,
    tasks: tokio::task::JoinSet<io::Error>,
}

async fn stay(shared: &Arc<ServeParts>, files: u64, mut told: watch::Receiver<Orders>) {
    let relay = Relay::new(Arc::clone(&shared.resolver), files);
    let mut beat = tokio::time::interval(BEAT);
    let mut write = tokio::time::interval(WRITE);
    let mut serving: Vec<Serving> = Vec::new();
    let mut servers = Vec::new();
    let mut is_whole = true;
    let mut said = String::new();
    let mut again = tokio::time::Instant::now();
    loop {
        tokio::select! {
            changed = told.changed() => {
                if changed.is_err() {
                    break; // the owner is gone
                }
            }
            _ = beat.tick() => {}
            _ = write.tick() => {
                let resolver = Arc::clone(&shared.resolver);
                tokio::task::spawn_blocking(move || {
                    if let Err(e) = resolver.write_known() {
                        tracing::warn!("{e}");
                    }
                });
            }
        }
        shared.beat.store(now(), Ordering::Relaxed);
        let orders = told.borrow().clone();
        if orders.end {
            break;
        }
        let was_closed = shared.was_closed.load(Ordering::Relaxed);
        let is_due = !is_whole && again <= tokio::time::Instant::now();
        if orders.servers != servers || was_closed || is_due {
            if was_closed {
                tracing::info!("the resolver goes on");
            }
            servers = orders.servers;
            // The new ones first: between both there would be nobody.
            let (new, problem) = listen(&relay, shared, &servers);
            let old = std::mem::replace(&mut serving, new);
            for old in old {
                retire(&relay, old);
            }
            is_whole = problem.is_none();
            again = tokio::time::Instant::now() + AGAIN;
            let problem = problem.unwrap_or_default();
            if !problem.is_empty() && problem != said {
                tracing::warn!("{problem}");
            }
            said = problem;
        }
    }
    for open in shared.open().drain(..) {
        open.close();
    }
    shared.resolver.set_listening(Vec::new());
    for serving in serving {
        retire(&relay, serving);
    }
    let end = tokio::time::Instant::now() + DRAIN;
    while relay.under_way() > 0 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Opens all sockets; with what could not be.
fn listen(
    relay: &Relay,
    shared: &ServeParts,
    servers: &[std::net::IpAddr],
) -> (Vec<Serving>, Option<String>) {
    let (mut serving, mut problem) = (Vec::new(), None);
    let (mut open, mut addresses) = (Vec::new(), Vec::new());
    for led in Led::all(servers) {
        let at = led.at();
        let opened = Listeners::open(at).and_then(|listeners| {
            open.push(listeners.try_clone()?);
            serve(relay, listeners, SocketAddr::new(led.asked, DNS_PORT))
        });
        match opened {
            Ok(one) => {
                serving.push(one);
                addresses.push(at);
            }
            Err(e) => problem = Some(format!("cannot listen at {at}, trying again: {e}")),
        }
    }
    let mut shared_open = shared.open();
    let old = std::mem::replace(&mut *shared_open, open);
    shared.was_closed.store(false, Ordering::Relaxed);
    old.iter().for_each(Listeners::close);
    drop(shared_open);
    shared.resolver.set_listening(addresses);
    (serving, problem)
}

fn serve(relay: &Relay, listeners: Listeners, server: SocketAddr) -> io::Result<Serving> {
    let listener = Rc::new(UdpSocket::from_std(listeners.udp)?);
    let stream = TcpListener::from_std(listeners.tcp)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_local(udp::serve(relay.clone(), Rc::clone(&listener), server));
    tasks.spawn_local(tcp::serve(relay.clone(), stream, server));
    Ok(Serving {
        listener,
        server,
        tasks,
    })
}

/// Answers what has come by now. The sockets are closed to others already.
fn retire(relay: &Relay, mut old: Serving) {
    old.tasks.abort_all();
    while udp::take(relay, &old.listener, old.server).is_ok() {}
}

#[cfg(test)]
mod tests;
