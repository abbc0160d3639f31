//! The work, and tasks that repeat it.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    Result, item,
    measure::{Length, Round},
};

/// What a task does with a connection between getting and returning it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    Nothing,
    /// Yields to other tasks, so that those that want the connection have to wait for it.
    Hold,
    Lookup,
    CommittedTransaction,
    DroppedTransaction,
    UserVariable,
}

impl Work {
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Hold,
        Self::Lookup,
        Self::CommittedTransaction,
        Self::DroppedTransaction,
        Self::UserVariable,
    ];

    /// Its name as an argument.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Hold => "hold",
            Self::Lookup => "lookup",
            Self::CommittedTransaction => "committed-transaction",
            Self::DroppedTransaction => "dropped-transaction",
            Self::UserVariable => "user-variable",
        }
    }
}

/// A peer with its connections open.
pub trait Connections: Send + Sync {
    /// Runs a number of tasks that repeat the work for a time.
    fn round(&self, work: Work, tasks: usize, length: Length) -> BoxFuture<'_, Result<Round>>;

    /// Runs a number of tasks that do the work a given number of times in all.
    fn times(&self, work: Work, tasks: u32, times: u32) -> BoxFuture<'_, Result<()>>;
}

/// Gives each task its access to a connection.
pub trait Source: Send + Sync {
    type Caller: Caller;

    /// The access for the task with this number.
    fn caller(&self, task: usize) -> impl Future<Output = Self::Caller> + Send;
}

/// One task's access to a connection.
pub trait Caller: Send + 'static {
    /// Gets a connection, does the work, returns the connection.
    fn call(&mut self, work: Work, id: u32) -> impl Future<Output = Result<()>> + Send;
}

impl<S: Source> Connections for S {
    fn round(&self, work: Work, tasks: usize, length: Length) -> BoxFuture<'_, Result<Round>> {
        Box::pin(async move {
            let start = Arc::new(Barrier::new(tasks));
            let mut running = JoinSet::new();
            for task in 0..tasks {
                let mut caller = self.caller(task).await;
                let start = Arc::clone(&start);
                running.spawn(async move {
                    start.wait().await;
                    drive(task, length, &mut caller, work).await
                });
            }
            let mut latencies = Vec::new();
            while let Some(done) = running.join_next().await {
                latencies.append(&mut done??);
            }
            Ok(Round::new(latencies, length))
        })
    }

    fn times(&self, work: Work, tasks: u32, times: u32) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut running = JoinSet::new();
            for task in 0..tasks {
                let mut caller = self.caller(task as usize).await;
                running.spawn(async move {
                    for id in 0..(times + task) / tasks {
                        caller.call(work, id % item::ROWS).await?;
                    }
                    Result::Ok(())
                });
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
            Ok(())
        })
    }
}

/// Repeats the call; returns how long each call took, from asking to having returned.
async fn drive(
    task: usize,
    length: Length,
    caller: &mut impl Caller,
    work: Work,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(1 << 15);
    let mut id = task as u32;
    let mut last = Instant::now();
    let counted_from = last + length.rehearsal;
    let until = counted_from + length.counted;
    while last < until {
        id = (id + 7) % item::ROWS;
        caller.call(work, id).await?;
        let now = Instant::now();
        if last >= counted_from {
            latencies.push(now - last);
        }
        last = now;
    }
    Ok(latencies)
}
