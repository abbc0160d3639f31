//! A program that runs as long as the tests want it to.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The shell that runs the program; see `watchdog.sh`.
pub(crate) struct Watchdog {
    shell: Child,
    /// Closing this ends the shell, and with it the program.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    pub(crate) fn start(folder: &Path, command: &[OsString]) -> Self {
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(include_str!("watchdog.sh"))
            .arg("watchdog")
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C and other signals for the tests must not reach the shell: it still has to
            // clean up.
            .process_group(0)
            .spawn()
            .expect("a shell for the program");
        let orders = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("the shell's output"));
        Self {
            shell,
            orders,
            answers,
        }
    }

    /// Gives an order; returns the program's process id, if it is running afterwards.
    pub(crate) fn order(&mut self, order: &str) -> Option<u32> {
        let orders = self.orders.as_mut()?;
        writeln!(orders, "{order}").expect("the watchdog takes orders");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the watchdog answers");
        answer.trim().parse().ok()
    }

    /// Kills the program, removes its folder, and returns when both are done.
    pub(crate) fn end(&mut self) {
        drop(self.orders.take());
        self.shell.wait().ok();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn lock(watchdog: &Mutex<Watchdog>) -> MutexGuard<'_, Watchdog> {
    watchdog.lock().unwrap_or_else(PoisonError::into_inner)
}
