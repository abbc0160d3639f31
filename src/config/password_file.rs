//! The password in a file, read each time a connection is opened.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    path::Path,
};

use tokio::task::spawn_blocking;

/// Larger files are refused: they hold no password.
const MAX_BYTES: u64 = 64 << 10;

/// Reads the password, without line breaks at its end. An error quotes nothing of the file.
pub(crate) async fn read(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    spawn_blocking(move || read_now(&path)).await?
}

fn read_now(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(invalid("larger than 64 KiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_not_utf8| invalid("not UTF-8"))?;
    match without_line_breaks(&text) {
        "" => Err(invalid("empty")),
        password => Ok(password.to_owned()),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Removes line breaks at the end, which editors and `echo` write.
pub(super) fn without_line_breaks(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}
