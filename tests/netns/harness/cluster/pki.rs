//! Certificates: one authority, the server's, an administrator's; and the key that signs tokens.

use super::ADDRESS;
use crate::harness::exec;
use std::path::Path;
use std::process::Command;

/// Writes ca.crt, server.crt and .key, admin.crt and .key, accounts.pub and .key into `dir`.
pub fn make(dir: &Path) {
    let script = format!(
        "key() {{ openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key; }}
         sign() {{
           key $1
           printf '%s\\n' \"$3\" >$1.ext
           openssl req -new -key $1.key -subj \"$2\" |
             openssl x509 -req -days 30 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile $1.ext -out $1.crt
         }}
         key ca
         openssl req -x509 -new -key ca.key -days 30 -subj /CN=tests -out ca.crt
         sign server /CN=kube-apiserver 'subjectAltName=IP:{ADDRESS},IP:127.0.0.1'
         sign admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth
         key accounts
         openssl pkey -in accounts.key -pubout -out accounts.pub"
    );
    exec::must(
        Command::new("sh").args(["-euc", &script]).current_dir(dir),
        b"",
    );
}

/// Writes another authority's certificate, which signed nothing of this server's, to `path`.
pub fn stranger(path: &Path) {
    exec::must(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
            .args(["-subj", "/CN=stranger", "-keyout", "/dev/null", "-out"])
            .arg(path),
        b"",
    );
}
