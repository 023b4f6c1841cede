//! The way to an API server: the addresses that it has itself, before the one in its URL.
//!
//! In a pod, the URL is that of a Service, which only works while kube-proxy does. The certificate is
//! checked against the URL's host in any case: the addresses say where to knock, not whom to trust.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt, RustlsTlsError};
use kube::config::Config;
use tokio::net::TcpStream;
use tower::{Service, ServiceBuilder};

/// How long an address may take before the next one is tried as well (RFC 8305, section 5).
const NEXT: Duration = Duration::from_millis(250);

/// How often a kept connection is tried, and how long the server may take: a load balancer may have
/// forgotten it without a word.
const PING: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(10);

/// How long a client lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// For some questions: HTTP/1.1, which needs no preface.
    Briefly,
    /// As long as the process: HTTP/2, so that all questions and watches share one connection.
    Open,
}

/// A client for the server that `config` names, which also answers at `addresses`.
pub(super) fn client(
    config: &Config,
    addresses: Vec<SocketAddr>,
    keep: Keep,
) -> Result<kube::Client, kube::Error> {
    if config.proxy_url.is_some() {
        // The library's own builder says that.
        return ClientBuilder::try_from(config.clone()).map(ClientBuilder::build);
    }
    let mut url = HttpConnector::new();
    url.enforce_http(false);
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    let tls = match &config.tls_server_name {
        Some(name) => {
            let name = name.clone().try_into();
            let name = name
                .map_err(RustlsTlsError::InvalidServerName)
                .map_err(kube::Error::RustlsTls)?;
            tls.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
        }
        None => tls,
    };
    let dial = Dial {
        addresses: addresses.into(),
        url,
    };
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    let https = match keep {
        Keep::Briefly => tls.enable_http1().wrap_connector(dial),
        Keep::Open => {
            builder
                .timer(TokioTimer::new())
                .http2_keep_alive_interval(PING)
                .http2_keep_alive_timeout(PONG)
                .http2_keep_alive_while_idle(true);
            tls.enable_http1().enable_http2().wrap_connector(dial)
        }
    };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxedError::from)
        .service(builder.build::<_, Body>(https));
    let namespace = config.default_namespace.clone();
    Ok(ClientBuilder::new(service, namespace).build())
}

/// Opens connections: to the addresses, each tried a moment after the one before, then to the URL's host.
/// The first that is there is used.
#[derive(Clone)]
struct Dial {
    addresses: Arc<[SocketAddr]>,
    url: HttpConnector,
}

type BoxedError = Box<dyn StdError + Send + Sync>;
type Attempt = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxedError>> + Send>>;

impl Service<http::Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxedError;
    type Future = Attempt;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxedError>> {
        self.url.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: http::Uri) -> Attempt {
        let last = self.url.call(url);
        let mut attempts: Vec<Attempt> = self.addresses.iter().map(|to| connect(*to)).collect();
        attempts.push(Box::pin(async move { last.await.map_err(Into::into) }));
        Box::pin(first_of(attempts))
    }
}

fn connect(to: SocketAddr) -> Attempt {
    Box::pin(async move {
        let stream = TcpStream::connect(to).await?;
        Ok(TokioIo::new(stream))
    })
}

/// The first attempt that succeeds; if none does, why the last one did not: it is the one that people know.
async fn first_of(attempts: Vec<Attempt>) -> Result<TokioIo<TcpStream>, BoxedError> {
    let mut waiting = attempts.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::NotConnected).into();
    loop {
        running.extend(waiting.next());
        tokio::select! {
            ended = running.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(e)) => failure = e,
                None => return Err(failure),
            },
            () = tokio::time::sleep(NEXT), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(work)
    }

    fn dial(addresses: Vec<SocketAddr>, url: SocketAddr) -> Result<SocketAddr, String> {
        run(async move {
            let mut connector = HttpConnector::new();
            connector.enforce_http(false);
            let mut dial = Dial {
                addresses: addresses.into(),
                url: connector,
            };
            let url = format!("https://{url}").parse().expect("a URL");
            let stream = dial.call(url).await.map_err(|e| e.to_string())?;
            stream.inner().peer_addr().map_err(|e| e.to_string())
        })
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    /// An address where nobody listens, by now.
    fn closed() -> SocketAddr {
        listener().1
    }

    #[test]
    fn its_own_addresses_come_first_and_the_url_last() {
        let (_a, own) = listener();
        let (_b, url) = listener();
        assert_eq!(dial(vec![own], url), Ok(own));
        assert_eq!(dial(vec![closed(), own], url), Ok(own));
        assert_eq!(dial(vec![closed(), closed()], url), Ok(url));
        assert_eq!(dial(vec![], url), Ok(url));
        assert_eq!(dial(vec![own], closed()), Ok(own));
        assert!(dial(vec![closed()], closed()).is_err());
    }

    /// A full backlog: whoever connects gets no answer at all.
    fn silent() -> (TcpListener, Vec<std::net::TcpStream>, SocketAddr) {
        let (listener, address) = listener();
        nix::sys::socket::listen(
            &listener,
            nix::sys::socket::Backlog::new(0).expect("a backlog"),
        )
        .expect("a short backlog");
        let mut streams = Vec::new();
        while let Ok(stream) =
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
        {
            streams.push(stream);
        }
        (listener, streams, address)
    }

    #[test]
    fn an_address_that_is_silent_costs_a_moment() {
        let (_listener, _streams, silent) = silent();
        let (_a, url) = listener();
        let began = Instant::now();
        assert_eq!(dial(vec![silent], url), Ok(url));
        assert!(began.elapsed() < NEXT * 4, "{:?}", began.elapsed());
    }
}
