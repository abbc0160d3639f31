//! Checks the files for TLS before the driver reads them: the driver's own errors name no file.

use std::io::{self, ErrorKind};

use mysql_async::Opts;

use crate::error::{ConnectError, TlsFile};

/// Checks that each file that the driver's options name can be read and holds what it should, as
/// far as its outer form shows. An error quotes nothing of the file.
pub(crate) async fn check(opts: &Opts) -> Result<(), ConnectError> {
    let Some(tls) = opts.ssl_opts() else {
        return Ok(());
    };
    let authorities = tls.root_certs().iter().map(|file| file.borrow());
    let files = authorities.map(|file| (TlsFile::Authorities, file));
    #[cfg(feature = "native-tls")]
    let files = files.chain(
        tls.client_identity()
            .map(|identity| (TlsFile::Archive, identity.pkcs12_archive())),
    );
    #[cfg(any(feature = "rustls", feature = "rustls-aws-lc-rs"))]
    let files = files.chain(tls.client_identity().into_iter().flat_map(|identity| {
        [
            (TlsFile::Certificate, identity.cert_chain()),
            (TlsFile::Key, identity.priv_key()),
        ]
    }));
    for (file, source) in files {
        let checked = source.read().await.and_then(|bytes| {
            let invalid = |what| Err(io::Error::new(ErrorKind::InvalidData, what));
            fault_in(file, &bytes).map_or(Ok(()), invalid)
        });
        if let Err(error) = checked {
            let path = path_in(&format!("{source:?}"));
            return Err(ConnectError::tls_file(file, path, error));
        }
    }
    Ok(())
}

/// The path in the `Debug` of the driver's type, which has no public name; `None` if it holds the
/// contents.
fn path_in(text: &str) -> Option<String> {
    let path = text.strip_prefix("Path(\"")?.strip_suffix("\")")?;
    Some(path.to_owned())
}

/// What is wrong with the contents.
fn fault_in(file: TlsFile, bytes: &[u8]) -> Option<&'static str> {
    if bytes.trim_ascii().is_empty() {
        return Some("empty");
    }
    let text = str::from_utf8(bytes).unwrap_or_default();
    let labels: Vec<&str> = text.lines().filter_map(label).collect();
    let has = |end: &str| labels.iter().any(|label| label.ends_with(end));
    match file {
        TlsFile::Archive if bytes.starts_with(b"-----BEGIN ") => {
            Some("PEM, where a PKCS #12 archive is needed")
        }
        TlsFile::Archive => der_fault(bytes),
        TlsFile::Key if labels.contains(&"ENCRYPTED PRIVATE KEY") => {
            Some("an encrypted key, which rustls cannot read")
        }
        TlsFile::Key if has("PRIVATE KEY") => damage(text, "PRIVATE KEY"),
        TlsFile::Key if has("CERTIFICATE") => Some("holds a certificate, but no private key"),
        TlsFile::Authorities | TlsFile::Certificate if has("CERTIFICATE") => {
            damage(text, "CERTIFICATE")
        }
        TlsFile::Authorities | TlsFile::Certificate if has("PRIVATE KEY") => {
            Some("holds a private key, but no certificate")
        }
        _ if !labels.is_empty() => Some("PEM, but without what is needed"),
        _ => der_fault(bytes),
    }
}

/// The label of a line that begins a section of PEM.
fn label(line: &str) -> Option<&str> {
    line.trim()
        .strip_prefix("-----BEGIN ")?
        .strip_suffix("-----")
}

/// What is wrong with the sections of PEM whose labels end so.
fn damage(text: &str, kind: &str) -> Option<&'static str> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(label) = label(line).filter(|label| label.ends_with(kind)) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut inside = Vec::new();
        loop {
            match lines.next() {
                None => return Some("PEM that is cut off"),
                Some(line) if line.trim() == end => break,
                Some(line) => inside.push(line),
            }
        }
        // A key in the old format may have headers, such as `DEK-Info: ...`.
        if inside.iter().any(|line| line.contains(':')) {
            continue;
        }
        let decoded = decode(&inside.concat());
        if decoded.is_none_or(|bytes| der_fault(&bytes).is_some()) {
            return Some("PEM that is damaged");
        }
    }
    None
}

/// Decodes base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for digit in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match digit {
            b'A'..=b'Z' => digit.wrapping_sub(b'A'),
            b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => digit.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count = count.wrapping_add(6);
        if count >= 8 {
            count = count.wrapping_sub(8);
            let [.., byte] = (bits >> count).to_be_bytes();
            bytes.push(byte);
        }
    }
    Some(bytes)
}

/// What is wrong with the first header of DER: a sequence, and its length.
fn der_fault(bytes: &[u8]) -> Option<&'static str> {
    const NEITHER: Option<&str> = Some("neither PEM nor DER");
    let [0x30, first, rest @ ..] = bytes else {
        return NEITHER;
    };
    let (length, contents) = match first {
        0..=0x7F => (usize::from(*first), rest),
        0x81..=0x84 => {
            let Some((length, contents)) = rest.split_at_checked(usize::from(first & 0x0F)) else {
                return NEITHER;
            };
            let more = |length: usize, byte: &u8| length << 8 | usize::from(*byte);
            (length.iter().fold(0, more), contents)
        }
        // An archive may leave its length open (BER's indefinite form).
        0x80 => (0, rest),
        _ => return NEITHER,
    };
    (contents.len() < length).then_some("DER that is cut off")
}

#[cfg(test)]
mod tests {
    use super::{TlsFile, fault_in};

    /// `SEQUENCE { INTEGER 7 }`, and what decodes to random bytes.
    const GOOD: &str = "MAMCAQc=";
    const BAD: &str = "c2VjcmV0";

    fn pem(label: &str, contents: &str) -> String {
        format!("-----BEGIN {label}-----\n{contents}\n-----END {label}-----\n")
    }

    #[test]
    fn what_the_driver_takes_is_taken() {
        let certificate = pem("CERTIFICATE", GOOD);
        let several = format!("# a comment\r\n{}junk\n{certificate}", pem("X509 CRL", BAD));
        for text in [&certificate, &several, &certificate.replace('\n', "\r\n")] {
            assert_eq!(fault_in(TlsFile::Authorities, text.as_bytes()), None);
            assert_eq!(fault_in(TlsFile::Certificate, text.as_bytes()), None);
        }
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let both = certificate.clone() + &pem("EC PARAMETERS", BAD) + &pem(label, GOOD);
            assert_eq!(fault_in(TlsFile::Key, both.as_bytes()), None, "{label}");
        }
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        for file in [TlsFile::Authorities, TlsFile::Certificate, TlsFile::Key] {
            assert_eq!(fault_in(file, &[0x30, 0x03, 2, 1, 7]), None);
            assert_eq!(fault_in(file, &long), None);
        }
        assert_eq!(fault_in(TlsFile::Archive, &long), None);
    }

    #[test]
    fn everything_else_has_a_fault_that_quotes_nothing() {
        use TlsFile::{Archive, Authorities, Certificate, Key};
        let certificate = pem("CERTIFICATE", GOOD);
        let cut = certificate.split_at(35).0;
        let key = pem("PRIVATE KEY", GOOD);
        for (file, contents, expected) in [
            (Authorities, "", "empty"),
            (Certificate, " \n", "empty"),
            (Authorities, "secret", "neither PEM nor DER"),
            (Key, "secret", "neither PEM nor DER"),
            (Authorities, &key, "holds a private key, but no certificate"),
            (Key, &certificate, "holds a certificate, but no private key"),
            (
                Key,
                &pem("ENCRYPTED PRIVATE KEY", GOOD),
                "an encrypted key, which rustls cannot read",
            ),
            (
                Authorities,
                &pem("PUBLIC KEY", GOOD),
                "PEM, but without what is needed",
            ),
            (Authorities, cut, "PEM that is cut off"),
            (Authorities, &pem("CERTIFICATE", BAD), "PEM that is damaged"),
            (
                Authorities,
                &pem("CERTIFICATE", "sec?ret"),
                "PEM that is damaged",
            ),
            (Authorities, &pem("CERTIFICATE", ""), "PEM that is damaged"),
            (
                Authorities,
                &(certificate.clone() + &pem("CERTIFICATE", "MAMC")),
                "PEM that is damaged",
            ),
            (Key, &pem("PRIVATE KEY", BAD), "PEM that is damaged"),
            (
                Archive,
                &certificate,
                "PEM, where a PKCS #12 archive is needed",
            ),
            (Archive, "secret", "neither PEM nor DER"),
            (Authorities, "0\u{3}\u{2}\u{1}", "DER that is cut off"),
        ] {
            let fault = fault_in(file, contents.as_bytes());
            assert_eq!(fault, Some(expected), "{file:?} {contents:?}");
        }
        for bytes in [
            &[0x30][..],
            &[0x30, 0x82, 1],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0xFF; 300],
        ] {
            assert_eq!(fault_in(Authorities, bytes), Some("neither PEM nor DER"));
        }
    }
}
