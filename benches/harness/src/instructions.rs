//! Instructions per piece of work, counted by callgrind.
//!
//! callgrind runs the program `repeat`, which `scripts/bench` and `scripts/compare-peers` build
//! separately, without the features that other benches enable.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::{Peer, Result, Work};

/// Instructions per repetition, by one task on one connection; `None` without valgrind.
pub fn count(peer: Peer, work: Work) -> Result<Option<f64>> {
    const FEW: u32 = 1_000;
    const MANY: u32 = 11_000;
    let Some(few) = collected(peer, work, FEW)? else {
        return Ok(None);
    };
    let many = collected(peer, work, MANY)?;
    Ok(many.map(|many| (many - few) / f64::from(MANY - FEW)))
}

/// All instructions of a separate process.
fn collected(peer: Peer, work: Work, times: u32) -> Result<Option<f64>> {
    let program = env::current_exe()?.with_file_name("repeat");
    if !program.is_file() {
        return Err(format!(
            "there is no {}: build the package harness",
            program.display()
        )
        .into());
    }
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([&times.to_string(), peer.name, work.name(), "1"])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Ok(None);
    };
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind failed: {log}").into());
    }
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.ok_or("valgrind printed no count")?;
    Ok(Some(number.trim().parse()?))
}
