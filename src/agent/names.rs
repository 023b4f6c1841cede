//! Keeps the resolver of pods whose rules name domains: the addresses at which it listens, which servers it asks,
//! what it never learns. It relays on threads of its own.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use netlink::conntrack::{self, Datagrams};
use netlink::{Rtnl, route};
use rules::class::DNS_PORT;
use rules::effective::Facts;

use super::dirs::Dirs;
use super::{Context, Error};
use crate::names::never::Never;
use crate::names::{Resolver, ResolverThreads};
use crate::plan::resolver::{Led, resolvers};
use crate::source::{NamesOptions, PolicyFile};
use crate::store::StateDir;

/// How often the routes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the kernel may take.
const KERNEL: Duration = Duration::from_secs(2);
/// Starts it. It listens when [`keep`] says where.
///
/// # Errors
/// The system gives no thread, or no socket.
pub fn start(state: StateDir) -> io::Result<ResolverThreads> {
    let least = NamesOptions::default().min_ttl;
    ResolverThreads::start(Arc::new(Resolver::new(state, least)?))
}

/// What has to be known, and is looked at again and again.
struct Followed {
    /// When the policy file was written that was read last.
    written: Option<SystemTime>,
    facts: Facts,
    /// How long an address lives at least.
    least: Duration,
    /// Flows of questions that go past us have been ended.
    led: bool,
    said: String,
}

/// Keeps it as the policy file says, for ever.
pub(super) async fn keep(context: Context, names: Arc<ResolverThreads>) -> Error {
    let file = context.config.policy_file.clone();
    let mut dirs = Dirs::new(file.parent().map(ToOwned::to_owned));
    let mut known = Followed {
        written: None,
        facts: Facts::default(),
        least: NamesOptions::default().min_ttl,
        led: false,
        said: String::new(),
    };
    loop {
        let (file, names) = (file.clone(), Arc::clone(&names));
        let looked = context.worker.run(move || {
            known.look(&file, &names);
            known
        });
        known = match looked.await {
            Ok(known) => known,
            Err(e) => return e,
        };
        dirs.changed(LOOK).await;
    }
}

impl Followed {
    fn look(&mut self, file: &std::path::Path, names: &ResolverThreads) {
        let written = std::fs::metadata(file)
            .and_then(|file| file.modified())
            .ok();
        if written.is_some() && self.written != written {
            // One with a fault is told by who puts it there, and changes nothing.
            if let Ok(policy) = PolicyFile::load(file) {
                self.facts = policy.facts;
                self.least = policy.names.min_ttl;
                self.written = written;
            }
        }
        let problem = self.set(names).err().unwrap_or_default();
        if !problem.is_empty() && problem != self.said {
            tracing::warn!("names in rules: {problem}");
        }
        self.said = problem;
    }

    fn set(&mut self, names: &ResolverThreads) -> Result<(), String> {
        let servers = &self.facts.dns;
        let mut problem = Ok(());
        if !servers.is_empty() {
            let deadline = Instant::now() + KERNEL;
            let mut rtnl = Rtnl::open(deadline).map_err(|e| e.to_string())?;
            for address in addresses(servers) {
                let led = route::lead_here(&mut rtnl, address).map_err(|e| e.to_string());
                problem = problem.and(led.map(drop));
            }
            let own = route::own_addresses(&mut rtnl).map_err(|e| e.to_string())?;
            names
                .resolver()
                .set_policy(Never::new(&self.facts, own), self.least);
        }
        names.set_servers(servers.clone());
        if !self.led && names.resolver().is_listening() {
            self.led = true;
            end_flows(names.resolver(), servers, false);
        }
        problem
    }
}

/// Of the families of these servers.
fn addresses(servers: &[IpAddr]) -> Vec<IpAddr> {
    let has = |address: &IpAddr| {
        servers
            .iter()
            .any(|server| server.is_ipv4() == address.is_ipv4())
    };
    resolvers().into_iter().filter(has).collect()
}

/// Ends flows of questions of our pods: those that go past us, whose answers nobody would learn, or those that come
/// here. An application that asks by one port for ever would go on as before, whoever listens by then.
fn end_flows(resolver: &Resolver, servers: &[IpAddr], here: bool) {
    let listen = resolvers();
    let pods = resolver.addresses_of_pods();
    if pods.is_empty() {
        return;
    }
    // A question that waits for its answer keeps its flow.
    let are = |flow: &Datagrams| {
        (flow.is_answered || here)
            && flow.port == DNS_PORT
            && servers.contains(&flow.destination)
            && listen.contains(&flow.answers) == here
            && pods.contains(&flow.source)
    };
    match conntrack::delete_datagrams(are, Instant::now() + KERNEL) {
        Ok(0) => {}
        Ok(count) => tracing::info!("{count} flows of questions begin anew"),
        Err(e) => tracing::warn!("{e}"),
    }
}

/// Ends it. If no successor listens, questions that come here begin anew, and go to the servers.
pub(super) fn end(names: &ResolverThreads, policy_file: &std::path::Path) {
    names.end();
    let servers = PolicyFile::load(policy_file).map(|file| file.facts.dns);
    let servers = servers.unwrap_or_default();
    let is_taken = |led: Led| {
        std::net::TcpStream::connect_timeout(&led.at(), Duration::from_millis(50)).is_ok()
    };
    if !Led::all(&servers).any(is_taken) {
        end_flows(names.resolver(), &servers, true);
    }
}

/// Nothing leads here any more.
pub(super) fn remove() {
    let removed = Rtnl::open(Instant::now() + KERNEL).and_then(|mut rtnl| {
        resolvers()
            .into_iter()
            .try_for_each(|address| route::lead_here_no_more(&mut rtnl, address).map(drop))
    });
    if let Err(e) = removed {
        tracing::warn!("{e}");
    }
}
