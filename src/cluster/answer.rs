//! What an answer that is a failure means: the library's error, told in this room's words.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use super::error::Error;
use super::request::Request;

/// How much of a server's own words a message repeats, in bytes.
const MAX_SAID: usize = 512;

/// What the library's error means.
pub(super) fn failure(server: &str, request: &Request, error: kube::Error) -> Error {
    let server = server.to_owned();
    match error {
        kube::Error::Api(status) => of_status(server, request, status.code, &status.message),
        kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::LinesCodecMaxLineLengthExceeded => Error::BadAnswer {
            server,
            request: request.to_string(),
            reason: error.to_string(),
        },
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
            of_connection(server, request.to_string(), &error)
        }
        other => Error::BadAnswer {
            server,
            request: request.to_string(),
            reason: other.to_string(),
        },
    }
}

fn of_status(server: String, asked: &Request, code: u16, said: &str) -> Error {
    let said = said_by_server(said);
    let request = asked.to_string();
    match code {
        401 => Error::Unauthorized { server },
        403 => Error::Forbidden {
            server,
            request,
            verb: asked.verb,
            resource: asked.resource,
            said,
        },
        404 => Error::NotFound { server, request },
        429 | 500..=599 => Error::Trouble {
            server,
            request,
            code,
            said,
        },
        // The library takes the code from the answer's body, which may have none.
        0 => Error::BadAnswer {
            server,
            request,
            reason: "a failure without a code".to_owned(),
        },
        _ => Error::Refused {
            server,
            request,
            code,
            said,
        },
    }
}

fn of_connection(server: String, request: String, error: &kube::Error) -> Error {
    let mut chain = Chain(Some(error));
    if let Some(tls) = chain.find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return of_tls(server, tls);
    }
    // The innermost reason is the system's; those around it name the library's own steps.
    let innermost = Chain(Some(error)).last().map(ToString::to_string);
    Error::Unreachable {
        server,
        request,
        reason: said_by_server(&innermost.unwrap_or_default()),
    }
}

fn of_tls(server: String, error: &rustls::Error) -> Error {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    let mut passing = false;
    let reason = match error {
        // Of another authority, which may have the same name.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate is not signed by the authority that the kubeconfig names. Put this cluster's CA there (`certificate-authority-data`)".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is for another name. Correct `server` in the kubeconfig, or set `tls-server-name` there".to_owned()
        }
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => {
            passing = true;
            "its certificate is not valid at this node's time. Look at the node's clock, then renew the certificate".to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS. Correct `server` in the kubeconfig".to_owned()
        }
        other => other.to_string(),
    };
    Error::Tls {
        server,
        reason,
        passing,
    }
}

/// An error and its causes, outermost first.
struct Chain<'a>(Option<&'a (dyn StdError + 'static)>);

impl<'a> Iterator for Chain<'a> {
    type Item = &'a (dyn StdError + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        // An I/O error names as its source what is behind the error that it wraps, not that one.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        self.0 = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
    }
}

/// A server's words in one line, and not too many.
fn said_by_server(text: &str) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(MAX_SAID);
    let mut said: String = text[..end]
        .chars()
        .flat_map(|c| {
            let plain = !c.is_control();
            plain
                .then_some(c)
                .into_iter()
                .chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        })
        .collect();
    if end < text.len() {
        said.push_str("...");
    }
    if said.is_empty() {
        said.push_str("nothing");
    }
    said
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use k8s_openapi::api::core::v1::Namespace;

    use super::*;
    use crate::cluster::{Client, TimeLimit, run};

    /// What a client says that reads a namespace from a server with this one answer.
    fn asked(answer: &'static [u8]) -> Result<(), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("it listens");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = ask(port);
        let request = server.join().expect("served");
        assert!(
            request.starts_with("GET /api/v1/namespaces/shop "),
            "{request}"
        );
        answer
    }

    fn ask(port: u16) -> Result<(), Error> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("kubeconfig");
        let text = format!(
            "contexts: [{{name: a, context: {{cluster: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n"
        );
        std::fs::write(&path, text).expect("writable");
        run(async {
            let client = Client::from_kubeconfig(&path, TimeLimit::Each(Duration::from_secs(20)))?;
            let api = kube::Api::<Namespace>::all(client.kube());
            let request = Request::new("get", "namespaces").named("shop");
            client
                .ask(request, api.get_metadata("shop"))
                .await
                .map(drop)
        })
    }

    #[test]
    fn nobody_there() {
        let error = ask(1).expect_err("port 1 is closed");
        assert_eq!(
            error.to_string(),
            "the API server http://127.0.0.1:1 cannot be reached (Connection refused (os error 111)), so it is not known what it would answer to: get namespaces shop. Look whether it runs, and whether this node reaches it"
        );
        assert!(error.is_outage());
        assert_eq!(error.cni().code, 11);
    }

    #[test]
    fn failures_are_told_apart() {
        for (answer, code, outage, words) in [
            (
                &b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 83\r\n\r\n{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"Unauthorized\",\"reason\":\"x\",\"code\":401}"[..],
                11,
                false,
                "does not accept the kubeconfig's credentials (401)",
            ),
            (
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nforbidden!",
                7,
                false,
                "needs the verb `get` on `namespaces`; it says: forbidden!",
            ),
            (
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                11,
                false,
                "has no such object (404): get namespaces shop",
            ),
            (
                b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
                11,
                false,
                "failed (429) at: get namespaces shop; it says: nothing",
            ),
            (
                b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\n\x1b[1m",
                11,
                true,
                "failed (500) at: get namespaces shop; it says: \\u{1b}[1m",
            ),
            (
                b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
                7,
                false,
                "rejected (410): get namespaces shop",
            ),
            (
                b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}",
                11,
                false,
                "is not of the Kubernetes API (a failure without a code)",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                11,
                false,
                "is not of the Kubernetes API",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"metadata\":",
                11,
                true,
                "cannot be reached (",
            ),
            (b"SSH-2.0-OpenSSH\r\n", 11, true, "cannot be reached ("),
            (b"", 11, true, "cannot be reached ("),
        ] {
            let error = asked(answer).expect_err("no namespace");
            let said = error.to_string();
            assert!(said.contains(words), "{said}");
            assert_eq!((error.cni().code, error.is_outage()), (code, outage), "{said}");
        }
    }

    #[test]
    fn a_huge_answer_is_cut() {
        let said = said_by_server(&"é".repeat(10_000));
        assert!(
            said.len() < MAX_SAID + 10 && said.ends_with("é..."),
            "{said}"
        );
        assert_eq!(said_by_server(" a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb");
    }
}
