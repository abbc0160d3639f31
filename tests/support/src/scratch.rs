//! The folder for files the tests create: servers' data, certificates.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// `tmp` in the target folder of the running program, as Cargo names it for integration tests.
pub(crate) fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let program = env::current_exe().expect("this program's path");
        let target = program
            .ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").is_file());
        let folder = target
            .map_or_else(env::temp_dir, Path::to_owned)
            .join("tmp");
        fs::create_dir_all(&folder).expect("a folder for the tests' files");
        folder
    })
}
