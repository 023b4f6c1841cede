//! An API server that misbehaves as it is told: for answers that no real one can be brought to give. What a
//! real one says is tested against a real one.

use super::Netns;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// The answer to one path.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 and this.
    Object(Value),
    /// This status, as a real server words it.
    Failure(u16, &'static str),
    /// These bytes, and the end of the connection.
    Raw(&'static [u8]),
    /// Nothing, for as long as the client waits.
    Silence,
}

/// What is wrong with the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    Good,
    OfAnotherAuthority,
    /// Every cluster of kubeadm has an authority called `kubernetes`.
    OfAnotherAuthorityOfThatName,
    ForAnotherName,
    Expired,
    /// The server speaks HTTP without TLS.
    None,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Answer>>,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A server on 127.0.0.1 of a namespace, until dropped.
pub struct FakeApi {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    dir: TempDir,
}

impl FakeApi {
    pub fn start(netns: &Netns, certificate: Certificate) -> Self {
        let listener = netns
            .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking listener");
        let address = listener.local_addr().expect("an address");
        let (authority, config) = tls(certificate);
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared, &config)
        });
        let api = Self {
            shared,
            thread: Some(thread),
            dir: tempfile::tempdir().expect("a directory"),
        };
        api.write("ca.pem", &authority);
        api.write("token", "a-token\n");
        api.write(
            "kubeconfig",
            &json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [{"name": "it", "cluster": {
                    "server": format!("https://{address}"), "certificate-authority": "ca.pem",
                }}],
                "users": [{"name": "it", "user": {"tokenFile": "token"}}],
            })
            .to_string(),
        );
        api
    }

    /// The key `kubernetes` of a conflist that asks this server.
    pub fn conf(&self) -> Value {
        json!({"kubeconfig": self.kubeconfig(), "timeout": "8s"})
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Replaces one of `kubeconfig`, `token` and `ca.pem`.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("write a file of the kubeconfig");
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What is answered to this path, or only to this path with this query; 404 to all others.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.shared
            .answers
            .lock()
            .expect("answers")
            .insert(path.to_owned(), answer);
    }

    /// A namespace with these annotations; `egressway.dev/` goes before each.
    pub fn namespace(&self, name: &str, annotations: &[(&str, &str)]) {
        let annotations: BTreeMap<String, &str> = annotations
            .iter()
            .map(|(key, text)| (format!("egressway.dev/{key}"), *text))
            .collect();
        self.answer(
            &format!("/api/v1/namespaces/{name}"),
            Answer::Object(json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": name, "uid": "1", "annotations": annotations},
            })),
        );
    }

    /// What was asked since the last time, in the order in which it came: `GET PATH accept=... token=...`.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.requests.lock().expect("requests"))
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The authority that the kubeconfig names, and what the server shows.
fn tls(certificate: Certificate) -> (String, Option<Arc<ServerConfig>>) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::self_signed(params, key).expect("an authority")
    };
    let named = authority("kubernetes");
    let other = authority(match certificate {
        Certificate::OfAnotherAuthorityOfThatName => "kubernetes",
        _ => "other",
    });
    let issuer = match certificate {
        Certificate::OfAnotherAuthority | Certificate::OfAnotherAuthorityOfThatName => &other,
        _ => &named,
    };
    let name = match certificate {
        Certificate::ForAnotherName => "kubernetes.example.com",
        _ => "127.0.0.1",
    };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    if certificate == Certificate::Expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let shown = params.signed_by(&key, issuer).expect("a certificate");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![shown.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a server's configuration");
    let config = (certificate != Certificate::None).then(|| Arc::new(config));
    (named.pem(), config)
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>, config: &Option<Arc<ServerConfig>>) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (shared, config) = (Arc::clone(shared), config.clone());
                thread::spawn(move || connection(stream, &shared, config));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn connection(stream: TcpStream, shared: &Shared, config: Option<Arc<ServerConfig>>) {
    stream.set_nonblocking(false).expect("a blocking stream");
    // Nobody is asked for longer than a call lasts.
    stream
        .set_read_timeout(Some(super::exec::seconds(20)))
        .expect("a limit");
    match config {
        None => converse(stream, shared),
        Some(config) => {
            let tls = ServerConnection::new(config).expect("a TLS connection");
            let mut stream = StreamOwned::new(tls, stream);
            converse(&mut stream, shared);
            stream.conn.send_close_notify();
            let _ = stream.flush();
            let _ = stream.sock.shutdown(Shutdown::Both);
        }
    }
}

/// One request, one answer. That the client has gone is no fault here.
fn converse(mut stream: impl Read + Write, shared: &Shared) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => request.extend(&buffer[..length]),
            _ => return,
        }
        // The first byte of a TLS handshake is no beginning of an HTTP request.
        if request.starts_with(&[0x16]) {
            return reply(&mut stream, 400, &json!("no HTTP"));
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let mut first = request.split(' ');
    let (verb, uri) = (
        first.next().unwrap_or_default(),
        first.next().unwrap_or_default(),
    );
    let header = |name: &str| {
        request
            .lines()
            .find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
            .unwrap_or_default()
    };
    shared.requests.lock().expect("requests").push(format!(
        "{verb} {uri} accept={} token={}",
        header("accept"),
        header("authorization")
    ));
    let path = uri.split('?').next().unwrap_or_default();
    let answers = shared.answers.lock().expect("answers");
    let answer = answers.get(uri).or_else(|| answers.get(path)).cloned();
    drop(answers);
    match answer.unwrap_or(Answer::Failure(404, "not found")) {
        Answer::Object(object) => reply(&mut stream, 200, &object),
        Answer::Failure(code, message) => reply(
            &mut stream,
            code,
            &json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": message, "code": code,
            }),
        ),
        Answer::Raw(bytes) => {
            let _ = stream.write_all(bytes);
        }
        Answer::Silence => {
            let _ = stream.read(&mut buffer);
        }
    }
}

fn reply(stream: &mut impl Write, code: u16, body: &Value) {
    let body = body.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.flush();
}
