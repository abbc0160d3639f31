//! TLS: certificates from the tests' own authorities, and whether everything goes over TLS.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::time::SystemTime;
use std::{env, fs};

use mysql_async::{Opts, OptsBuilder, SslOpts};

use crate::scratch::scratch;

/// Set to `required`, every server that a test starts accepts clients over TLS only, and every pool
/// and connection of the tests verifies its certificate. Needs the feature `rustls` or
/// `native-tls`.
const TLS: &str = "TEST_TLS";

/// The authority that signed the servers' certificates.
pub const AUTHORITY: &str = "authority";
/// An authority that signed none of them.
pub const ANOTHER_AUTHORITY: &str = "another-authority";
/// A valid certificate.
pub const GOOD: &str = "here";
/// A certificate for another host.
pub const ELSEWHERE: &str = "elsewhere";
/// An expired certificate.
pub const EXPIRED: &str = "expired";

/// Whether TLS is required everywhere.
pub fn is_required() -> bool {
    match env::var(TLS).unwrap_or_default().as_str() {
        "" => false,
        "required" => true,
        other => panic!("{TLS} is {other}; the only valid value is: required"),
    }
}

/// Trusts what this authority signed, and nothing else.
pub fn trusting(authority: &str) -> SslOpts {
    trusting_those_in(certificate_of(authority))
}

/// Trusts certificates signed by the authorities in this file, and no others.
pub fn trusting_those_in(file: PathBuf) -> SslOpts {
    SslOpts::default()
        .with_root_certs(vec![file.into()])
        .with_disable_built_in_roots(true)
}

pub fn certificate_of(authority: &str) -> PathBuf {
    path(&format!("{authority}.pem"))
}

/// The base for the options of the tests' own connections over TLS. They share the parsed
/// certificates, which cost OpenSSL some tens of milliseconds.
pub fn client() -> Opts {
    static CLIENT: OnceLock<Opts> = OnceLock::new();
    let made = || OptsBuilder::default().ssl_opts(trusting(AUTHORITY)).into();
    CLIENT.get_or_init(made).clone()
}

/// The options of a server with this certificate.
pub fn options(certificate: &str) -> [String; 3] {
    [
        ("--ssl-ca", format!("{AUTHORITY}.pem")),
        ("--ssl-cert", format!("{certificate}.pem")),
        ("--ssl-key", format!("{certificate}.key")),
    ]
    .map(|(option, file)| format!("{option}={}", path(&file).display()))
}

fn path(file: &str) -> PathBuf {
    folder().join(file)
}

/// Created by `openssl` once a day, for that day's test processes and for a run that began the day
/// before.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let scratch = scratch();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let day = now.as_secs() / (24 * 60 * 60);
        let folder = scratch.join(format!("tls-{day}"));
        if !folder.exists() {
            let making = scratch.join(format!("tls-of-{}", process::id()));
            fs::remove_dir_all(&making).ok();
            fs::create_dir_all(&making).expect("a folder for certificates");
            make(&making);
            // Another test process may have been faster; its certificates are just as good.
            if fs::rename(&making, &folder).is_err() {
                assert!(folder.exists(), "no certificates at {}", folder.display());
                fs::remove_dir_all(&making).expect("the second ones can be removed");
            }
            fs::remove_dir_all(scratch.join(format!("tls-{}", day - 2))).ok();
        }
        folder
    })
}

fn make(folder: &Path) {
    let authorities = [AUTHORITY, ANOTHER_AUTHORITY];
    for authority in authorities {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
                 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
            ),
        );
    }
    for (name, names, days) in [
        // Some tests give loopback a name, or another address.
        (
            GOOD,
            "IP:127.0.0.1,IP:10.1.1.1,DNS:localhost,DNS:database.test",
            30,
        ),
        (ELSEWHERE, "DNS:elsewhere.example", 30),
        (EXPIRED, "IP:127.0.0.1", -1),
    ] {
        openssl(
            folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
                 -keyout {name}.key -out {name}.csr"
            ),
        );
        let extensions = format!("subjectAltName={names}\n");
        fs::write(folder.join("extensions"), extensions).expect("a file");
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA {AUTHORITY}.pem -CAkey {AUTHORITY}.key -CAcreateserial \
                 -extfile extensions -days {days} -out {name}.pem"
            ),
        );
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl can be run: apt-get install openssl");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
