//! `/healthz` and `/readyz`, as text, for probes and people; `/metrics` for Prometheus.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics::{CONTENT_TYPE, Metrics};
use super::readiness::Readiness;
use crate::setup::options::Listen;

/// How long a client may take to say what it wants, and how long it may stay.
const HEADERS: Duration = Duration::from_secs(5);
const STAY: Duration = Duration::from_secs(60);

/// How many clients are served at once. Probes and scrapers are a few.
const CLIENTS: usize = 32;

/// How long to wait before an address is tried again that is in use: by the agent that this one replaces.
const AGAIN: Duration = Duration::from_millis(500);

async fn bind(listen: Listen) -> io::Result<TcpListener> {
    match listen {
        Listen::At(address) => TcpListener::bind(address).await,
        // Both families through one socket, if the kernel has IPv6.
        Listen::Everywhere(port) => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            bound => bound,
        },
    }
}

/// Answers for ever. An address that is in use is waited for.
pub(super) async fn serve(listen: Listen, readiness: Readiness, metrics: Metrics) -> Infallible {
    let mut said = String::new();
    let listener = loop {
        match bind(listen).await {
            Ok(listener) => break listener,
            Err(e) => {
                let problem = e.to_string();
                if problem != said {
                    tracing::warn!("cannot listen on {listen:?}, trying again: {problem}");
                    said = problem;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else {
            continue; // it is never closed
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (readiness, metrics) = (readiness.clone(), metrics.clone());
                tokio::spawn(async move {
                    converse(stream, readiness, metrics).await;
                    drop(permit);
                });
            }
            // Too many open files, say: time may help.
            Err(e) => {
                tracing::warn!("cannot answer a probe: {e}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, readiness: Readiness, metrics: Metrics) {
    let service = service_fn(|request| {
        let (readiness, metrics) = (readiness.clone(), metrics.clone());
        async move { Ok::<_, Infallible>(answer(&request, &readiness, &metrics).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // That a client has gone, or speaks something else, is its own affair.
    let _ = tokio::time::timeout(STAY, connection).await;
}

async fn answer(
    request: &Request<Incoming>,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        // That it answers is the answer: one thread does everything.
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let now = readiness.now();
            let status = match now.is_ready() {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            text(status, now.to_string())
        }
        "/metrics" => {
            let metrics = metrics.clone();
            // It asks the kernel, which may take its time.
            let asked = tokio::task::spawn_blocking(move || metrics.text()).await;
            match asked.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(said) => of_type(StatusCode::OK, said, CONTENT_TYPE),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            }
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there is /healthz, /readyz and /metrics\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    of_type(status, body, "text/plain; charset=utf-8")
}

fn of_type(status: StatusCode, body: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    }

    #[test]
    fn probes_are_answered_and_nothing_else() {
        let readiness = Readiness::default();
        let part = readiness.part("policy");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let served = readiness.clone();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            let state = crate::store::StateDir::new("/nonexistent");
            let (status, pods, hub, counters) = Default::default();
            let least = std::time::Duration::from_secs(60);
            let names = crate::names::Resolver::new(state.clone(), least).expect("sockets");
            let metrics = Metrics::new(state, Arc::new(names), status, pods, hub, counters);
            runtime.block_on(serve(Listen::At(address), served, metrics))
        });
        while std::net::TcpStream::connect(address).is_err() {}
        let ask = |line: &str| {
            get(
                address,
                &format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            )
        };
        part.failed("there is none");
        let said = ask("GET /readyz");
        assert!(
            said.starts_with("HTTP/1.1 503 ") && said.ends_with("\r\n\r\npolicy: there is none\n"),
            "{said}"
        );
        assert!(ask("GET /healthz").starts_with("HTTP/1.1 200 OK\r\n"));
        part.ready();
        let said = ask("GET /readyz?verbose");
        assert!(
            said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nready\n"),
            "{said}"
        );
        assert!(ask("POST /readyz").starts_with("HTTP/1.1 405 "));
        assert!(ask("GET /debug").starts_with("HTTP/1.1 404 "));
        assert!(get(address, "\x16\x03\x01nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }
}
