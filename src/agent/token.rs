//! Keeps a token for the plugin that does not end with this pod, and the API's addresses beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::api::Api;
use super::{Context, Error};
use crate::cluster::{endpoints, token};
use crate::setup::credentials;

/// After a failure, the next try waits this long.
const AGAIN: Duration = Duration::from_secs(30);
/// How long an address of the API server may take to be reached.
const REACH: Duration = Duration::from_secs(1);
/// Never more often than this, whatever the token says.
const LEAST: Duration = Duration::from_secs(5);

/// Writes down where the API server itself answers, as far as this node reaches it: the Service's address works
/// only while kube-proxy does.
async fn learn_addresses(context: &Context, api: &Api) -> Result<(), Error> {
    let found = api.ask(|client| async move { endpoints::of_api_server(&client).await });
    let mut reached = Vec::new();
    for address in found.await.unwrap_or_default() {
        let connected = timeout(REACH, TcpStream::connect(address)).await;
        if matches!(connected, Ok(Ok(_))) {
            reached.push(address);
        }
    }
    let (config, account) = (Arc::clone(&context.config), api.cluster().account.clone());
    let write = move || account.copy_to(&config.own_dir(), Some(&reached));
    match context.worker.run(write).await? {
        Ok(true) => api.reload().await,
        Ok(false) => {}
        Err(e) => tracing::warn!("{e}"),
    }
    Ok(())
}

/// Renews it for ever, when half of its time is over.
pub(super) async fn renew(context: Context, api: Api) -> Error {
    let part = context.readiness.part("token");
    // Until there is another one, the pod's own is there.
    part.ready();
    let mut good_until: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let cluster = api.cluster();
        let answer = api.ask(|client| async move {
            token::request(&client, &cluster.account_name, &cluster.node()).await
        });
        let wait = match answer.await {
            Ok((token, seconds)) => {
                let config = Arc::clone(&context.config);
                let put = move || credentials::put_token(&config.own_dir(), &token);
                match context.worker.run(put).await {
                    Err(e) => return e,
                    Ok(Err(e)) => part.behind(&e),
                    Ok(Ok(_)) => part.ready(),
                }
                api.reload().await;
                if let Err(e) = learn_addresses(&context, &api).await {
                    return e;
                }
                let lasts = Duration::from_secs(seconds);
                good_until = Some(asked + lasts);
                lasts / 2
            }
            Err(e) => {
                tracing::warn!("the plugin's token is not renewed: {e}");
                if good_until.is_none_or(|until| until <= Instant::now()) {
                    let config = Arc::clone(&context.config);
                    let account = cluster.account.clone();
                    let copied = context
                        .worker
                        .run(move || account.copy_token(&config.own_dir()));
                    match copied.await {
                        Err(e) => return e,
                        Ok(Err(e)) => part.behind(&e),
                        Ok(Ok(changed)) if changed => api.reload().await,
                        Ok(Ok(_)) => {}
                    }
                    if !e.is_outage() {
                        part.behind(format!("the plugin's token is not renewed: {e}"));
                    }
                }
                AGAIN
            }
        };
        tokio::time::sleep(wait.max(LEAST)).await;
    }
}
