//! The one client of this process, with one connection; made anew when the token or the certificates are.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::readiness::TaskReadiness;
use super::worker::Worker;
use crate::cluster::{ApiEvent, ApiWatch, Client, Error, TimeLimit};
use crate::setup::config::Cluster;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The way to the API.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    kubeconfig: PathBuf,
    cluster: Cluster,
    worker: Worker,
    /// Whether it answers.
    part: TaskReadiness,
    client: Mutex<Option<Client>>,
}

impl Api {
    /// By the kubeconfig that the plugin uses, too.
    pub fn new(kubeconfig: PathBuf, cluster: Cluster, worker: Worker, part: TaskReadiness) -> Self {
        Api(Arc::new(Inner {
            kubeconfig,
            cluster,
            worker,
            part,
            client: Mutex::new(None),
        }))
    }

    /// Who this is in the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// The client.
    ///
    /// # Errors
    /// The kubeconfig can't be used.
    pub async fn client(&self) -> Result<Client, Error> {
        let mut client = self.0.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let (path, runtime) = (self.0.kubeconfig.clone(), Handle::current());
        let made = self.0.worker.run(move || {
            let _inside = runtime.enter();
            Client::that_stays(&path, TimeLimit::Each(ANSWER))
        });
        let made = made.await.map_err(|e| Error::Runtime {
            cause: io::Error::other(e),
        })??;
        Ok(client.insert(made).clone())
    }

    /// Asks one question.
    ///
    /// # Errors
    /// What `question` fails with, or the kubeconfig can't be used.
    pub async fn ask<T, F>(&self, question: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let answer = question(self.client().await?).await;
        match &answer {
            Ok(_) => self.0.part.ready(),
            // Said here, so that not every task says it.
            Err(e) if e.is_outage() => self.0.part.behind(e),
            // Somebody else may have written another token.
            Err(Error::Unauthorized { .. }) => self.reload().await,
            Err(_) => {}
        }
        answer
    }

    /// The next news of what `watch` follows.
    ///
    /// # Errors
    /// As [`ApiWatch::next`], or the kubeconfig can't be used.
    pub async fn hear<K>(
        &self,
        watch: &mut ApiWatch<K>,
        objects: impl FnOnce(kube::Client) -> kube::Api<K>,
    ) -> Result<ApiEvent<K>, Error>
    where
        K: Clone + DeserializeOwned + Debug + Resource<DynamicType = ()> + Send + 'static,
    {
        self.ask(|client| {
            let objects = objects(client.kube());
            async move { watch.next(&client, &objects).await }
        })
        .await
    }

    /// The files have changed: the next question goes by the new ones.
    pub async fn reload(&self) {
        *self.0.client.lock().await = None;
    }
}
