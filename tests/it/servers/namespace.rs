//! Runs a test once more in namespaces of its own, so that the machine's names and network stay as
//! they are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use test_support::skip_for_lack_of;

/// Set for the child process: the path of its file of names.
pub(super) const HOSTS: &str = "TESTS_HOSTS";

/// Mounts `hosts` and `nsswitch.conf` from the folder `$1` over the system's, visible to this
/// process alone, and then executes the remaining arguments. In a network of its own, loopback has
/// one more address.
const WITH_NAMES: &str = r#"
mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf || exit 125
if test "$2" = own; then ip link set lo up && ip address add 10.1.1.1/32 dev lo || exit 125; fi
shift 2
exec "$@"
"#;

/// The network that a test sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Shared,
    /// Only loopback, with the address 10.1.1.1.
    Own,
}

/// Runs a test that is ignored otherwise, in its own namespaces, with these names and variables.
pub(super) async fn run(test: &str, hosts: &str, network: Network, variables: &[(&str, String)]) {
    let folder = Folder::make(test);
    fs::write(folder.0.join("hosts"), hosts).expect("a file of names");
    fs::write(folder.0.join("nsswitch.conf"), "hosts: files\n").expect("a file");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount"]);
    if network == Network::Own {
        command.arg("--net");
    }
    command
        .args(["sh", "-c", WITH_NAMES, "sh"])
        .arg(&folder.0)
        .arg(if network == Network::Own {
            "own"
        } else {
            "shared"
        })
        .arg(env::current_exe().expect("this test's program"))
        .args(["--exact", test, "--ignored"])
        .args(["--nocapture"])
        .env(HOSTS, folder.0.join("hosts"));
    for (name, value) in variables {
        command.env(name, value);
    }
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("unshare is here");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && !text.contains("running 1 test") {
        return skip_for_lack_of("namespaces, in which names and addresses can be changed");
    }
    assert!(output.status.success(), "see above");
    assert!(text.contains("1 passed"), "{text}");
}

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make(test: &str) -> Self {
        let folder = format!("names-{}-{}", process::id(), test.replace(':', ""));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
