//! One API server, asked by one identity, with a limit of time.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::answer;
use super::connect::{self, Keep};
use super::error::Error;
use super::kubeconfig;
use super::request::Request;

/// How long questions may take.
#[derive(Debug, Clone, Copy)]
pub enum TimeLimit {
    /// All of them together.
    Until {
        /// When waiting ends.
        deadline: Instant,
        /// How long that was in the beginning; for messages.
        from_start: Duration,
    },
    /// Each of them.
    Each(Duration),
}

impl TimeLimit {
    /// All questions together may take this long from now on, and no longer than until `latest`.
    pub fn overall(limit: Duration, latest: Instant) -> Self {
        let now = Instant::now();
        let left = limit.min(latest.saturating_duration_since(now));
        TimeLimit::Until {
            deadline: now + left,
            from_start: left,
        }
    }

    /// When waiting for a question asked now ends, and how long that is from its start.
    fn now(self) -> (Instant, Duration) {
        match self {
            TimeLimit::Until {
                deadline,
                from_start,
            } => (deadline, from_start),
            TimeLimit::Each(each) => (Instant::now() + each, each),
        }
    }
}

/// An API server that can be asked.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
    server: String,
    limit: TimeLimit,
}

impl Client {
    /// Reads kubeconfig and what it names; connects with the first question. To be called inside
    /// [`run`](super::run).
    ///
    /// # Errors
    /// What is wrong with the kubeconfig or a file that it names.
    pub fn from_kubeconfig(path: &Path, limit: TimeLimit) -> Result<Client, Error> {
        Client::open(path, limit, Keep::Briefly)
    }

    /// The same for a process that stays: everything goes through one connection, which is kept. It
    /// knows the token and the certificates of now.
    ///
    /// # Errors
    /// As [`Client::from_kubeconfig`].
    pub fn that_stays(path: &Path, limit: TimeLimit) -> Result<Client, Error> {
        Client::open(path, limit, Keep::Open)
    }

    fn open(path: &Path, limit: TimeLimit, keep: Keep) -> Result<Client, Error> {
        let (config, addresses) = kubeconfig::load(path)?;
        Client::new(&config, addresses, limit, keep).map_err(|e| Error::Kubeconfig {
            path: path.to_owned(),
            reason: kubeconfig::reason(&e),
        })
    }

    /// By the service account of the pod in which this process runs. The token is read anew when it
    /// is renewed.
    ///
    /// # Errors
    /// This is no pod, or its service account is not mounted.
    pub fn in_cluster(limit: TimeLimit) -> Result<Client, Error> {
        let not_a_pod = |reason: String| Error::NotInCluster { reason };
        let config = kube::Config::incluster().map_err(|e| not_a_pod(e.to_string()))?;
        Client::new(&config, Vec::new(), limit, Keep::Briefly).map_err(|e| not_a_pod(e.to_string()))
    }

    // Nothing is tried again here: whoever calls does, and says meanwhile what the server answered.
    fn new(
        config: &kube::Config,
        addresses: Vec<SocketAddr>,
        limit: TimeLimit,
        keep: Keep,
    ) -> Result<Client, kube::Error> {
        let server = config.cluster_url.to_string();
        Ok(Client {
            kube: connect::client(config, addresses, keep)?,
            server: server.trim_end_matches('/').to_owned(),
            limit,
        })
    }

    /// The client to make a `kube::Api` of, whose futures [`Client::ask`] waits for.
    pub fn kube(&self) -> kube::Client {
        self.kube.clone()
    }

    /// For messages: `https://10.0.0.1:6443`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How long one answer may take.
    pub fn patience(&self) -> Duration {
        self.limit.now().1
    }

    /// What a failure of the library means, when `request` was asked.
    pub fn failure(&self, request: &Request, error: kube::Error) -> Error {
        answer::failure(&self.server, request, error)
    }

    /// An answer that came, and is none.
    pub fn bad_answer(&self, request: &Request, reason: &str) -> Error {
        Error::BadAnswer {
            server: self.server.clone(),
            request: request.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// Refuses an answer that is about something else, or about nothing: `{}` would be an object without
    /// annotations.
    ///
    /// # Errors
    /// [`Error::BadAnswer`]
    pub fn expect_name(
        &self,
        request: &Request,
        name: &str,
        found: &ObjectMeta,
    ) -> Result<(), Error> {
        if found.name.as_deref() == Some(name) {
            return Ok(());
        }
        Err(self.bad_answer(request, "it is not the object that was asked for"))
    }

    /// Waits for the answer, and says what a failure means. `request` is what `question` asks.
    ///
    /// # Errors
    /// No answer in time, or one that is a failure.
    pub async fn ask<T>(
        &self,
        request: Request,
        question: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let (deadline, limit) = self.limit.now();
        match tokio::time::timeout_at(deadline.into(), question).await {
            Ok(answer) => {
                if answer.is_ok() {
                    LAST_CONTACT.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
                }
                answer.map_err(|e| self.failure(&request, e))
            }
            Err(_) => Err(Error::Timeout {
                server: self.server.clone(),
                request: request.to_string(),
                limit,
            }),
        }
    }
}

/// When any question of this process was answered last, in milliseconds since 1970; 0: never.
static LAST_CONTACT: AtomicI64 = AtomicI64::new(0);

/// When any question of this process was answered last, in seconds since 1970.
#[allow(clippy::cast_precision_loss)] // milliseconds fit for 285,000 years
pub fn last_contact() -> Option<f64> {
    let at = LAST_CONTACT.load(Ordering::Relaxed);
    (at > 0).then(|| at as f64 / 1000.0)
}

/// Whether the kubeconfig, and all that it names, can be used. Nothing is asked of the API.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), Error> {
    super::run(async {
        let limit = TimeLimit::Each(Duration::ZERO);
        Client::from_kubeconfig(path, limit).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_questions_together_never_last_longer_than_the_call() {
        let latest = Instant::now() + Duration::from_secs(2);
        let (deadline, limit) = TimeLimit::overall(Duration::from_secs(5), latest).now();
        assert!(deadline <= latest && limit <= Duration::from_secs(2));
    }
}
