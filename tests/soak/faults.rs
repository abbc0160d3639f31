//! Fault injection: changes the server, the network and the pool's settings as planned.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error, Pool, Readiness,
    config::{Credentials, CredentialsSource},
    mysql_async::{self, Conn, prelude::Queryable},
};
use test_support::{PATIENCE, Proxy, Server};
use tokio::{
    sync::RwLock,
    time::{sleep, timeout},
};

use crate::{
    account::{Account, Symptoms},
    bank::{self, USER},
    caller::Shared,
    plan::{Deck, Fault, Injection},
};

/// The current password of the pool's user; each rotation creates another.
#[derive(Debug, Default)]
pub(crate) struct Password {
    turns: Arc<AtomicU64>,
}

impl Password {
    pub(crate) fn text(&self) -> String {
        text_of(self.turns.load(Ordering::Relaxed))
    }

    pub(crate) fn source(&self) -> CredentialsSource {
        let turns = Arc::clone(&self.turns);
        CredentialsSource::new(move || {
            let password = text_of(turns.load(Ordering::Relaxed));
            async move { Ok::<_, Error>(Credentials::new(USER, password)) }
        })
    }
}

fn text_of(turn: u64) -> String {
    format!("Qz8vKt4n{turn}")
}

/// The environment of the pool.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) password: Password,
    /// Write-locked while the server is away, read-locked by anything that queries it.
    pub(crate) away: RwLock<()>,
}

impl World {
    /// Runs a statement that may come too late: its target may have ended by itself.
    async fn try_execute(&self, statement: &str) -> mysql_async::Result<()> {
        let mut admin = self.server.admin().await;
        let outcome = admin.query_drop(statement).await;
        admin.disconnect().await.ok();
        outcome
    }

    /// How many connections of the pool's user the server has now.
    pub(crate) async fn listed(&self) -> u64 {
        let mut admin = self.server.admin().await;
        let listed = admin
            .query_first(format!(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{USER}'"
            ))
            .await;
        admin.disconnect().await.ok();
        listed.expect("an answer").unwrap_or_default()
    }

    async fn kill(&self, most: usize) -> mysql_async::Result<()> {
        let mut admin = self.server.admin().await;
        let ids: Vec<u64> = admin
            .query(format!(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{USER}'"
            ))
            .await?;
        for id in ids.into_iter().take(most) {
            // A connection that has ended by itself cannot be killed.
            admin.query_drop(format!("KILL {id}")).await.ok();
        }
        admin.disconnect().await
    }
}

pub(crate) struct Injector {
    pub(crate) world: Arc<World>,
    pub(crate) pool: Pool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) deck: Deck,
}

impl Injector {
    /// Injects faults until the time is over, and waits until the pool has recovered from the last.
    pub(crate) async fn run(mut self, until: Instant) {
        loop {
            let mut injection = self.deck.deal();
            let is_last = Instant::now() + injection.lasts >= until;
            injection.recovers |= is_last;
            self.one(injection).await;
            if is_last {
                return;
            }
            sleep(injection.pause).await;
        }
    }

    async fn one(&self, injection: Injection) {
        let name = injection.fault.name();
        let begun = self.account().begin(name, symptoms(injection.fault));
        self.cause(injection).await;
        let ended = Instant::now();
        self.account().over(begun);
        if injection.recovers {
            self.until_ready(name, ended).await;
        }
    }

    async fn until_ready(&self, name: &'static str, ended: Instant) {
        let mut watch = self.pool.watch();
        let ready = async {
            while watch.current() != Readiness::Ready {
                watch.changed().await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            let text = format!(
                "not ready {:?} after the end of: {name}; {:?}",
                ended.elapsed(),
                self.pool.health()
            );
            self.account().violation(text);
            return;
        }
        // If no caller has met the fault yet, the pool is ready at once: what counts is the next
        // caller served.
        let served = self.account().successes();
        let goes_on = async {
            while self.account().successes() == served {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(PATIENCE, goes_on).await.is_err() {
            let text = format!(
                "ready after {name}, but no caller is served: {}",
                self.pool.status()
            );
            self.account().violation(text);
            return;
        }
        self.account().recovered(name, ended.elapsed());
    }

    async fn cause(&self, injection: Injection) {
        let World {
            server,
            proxy,
            away,
            ..
        } = &*self.world;
        match injection.fault {
            Fault::Kill(most) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                self.expect_success(self.world.kill(most).await);
            }
            Fault::KillAll => self.expect_success(self.world.kill(usize::MAX).await),
            Fault::Restart | Fault::Crash => {
                let away = away.write().await;
                if injection.fault == Fault::Restart {
                    server.shutdown().await;
                } else {
                    server.kill().await;
                }
                self.last(injection).await;
                server.start_again().await;
                drop(away);
                for statement in bank::account_statements(&self.world.password.text()) {
                    server.execute(&statement).await;
                }
            }
            Fault::Freeze => {
                let away = away.write().await;
                let frozen = server.freeze().await;
                self.last(injection).await;
                frozen.thaw();
                drop(away);
            }
            Fault::Cut => proxy.cut().await,
            Fault::HangUp => proxy.hang_up().await,
            Fault::Refuse => {
                proxy.refuse().await;
                self.last(injection).await;
                proxy.accept_again().await;
            }
            Fault::Stall => {
                proxy.stall();
                self.last(injection).await;
                proxy.resume();
            }
            Fault::StallNew => {
                proxy.accept_and_stall();
                self.last(injection).await;
                proxy.forward();
            }
            Fault::StallAfter(bytes) => {
                proxy.stall_after(bytes);
                self.last(injection).await;
                proxy.forward();
            }
            Fault::AcceptAndClose => {
                proxy.accept_and_close();
                self.last(injection).await;
                proxy.forward();
            }
            Fault::Delay(each_way) => {
                proxy.delay(each_way);
                self.last(injection).await;
                proxy.forward();
            }
            Fault::Exhaust => self.exhaust(injection).await,
            Fault::RotatePassword => self.rotate().await,
            Fault::ReadOnly => {
                let on = self.world.try_execute("SET GLOBAL read_only = 1").await;
                self.expect_success(on);
                self.last(injection).await;
                server.execute("SET GLOBAL read_only = 0").await;
            }
            Fault::Resize(size, overflow) => {
                if let Err(error) = self.pool.resize(size, overflow) {
                    self.account().violation(format!("no resize: {error}"));
                }
                let status = self.pool.status();
                if (status.size, status.overflow) != (size, overflow) {
                    self.account()
                        .violation(format!("resized to {size} + {overflow}, and is {status}"));
                }
            }
            Fault::Refresh => self.pool.refresh(),
        }
    }

    /// Lets the fault last, possibly with a second one on top.
    async fn last(&self, injection: Injection) {
        sleep(injection.lasts / 2).await;
        if let Some(fault) = injection.beside {
            let begun = self.account().begin(fault.name(), symptoms(fault));
            let beside = Injection {
                fault,
                beside: None,
                ..injection
            };
            Box::pin(self.cause(beside)).await;
            self.account().over(begun);
        }
        sleep(injection.lasts / 2).await;
    }

    /// Other clients take all the connections of the server, while the pool must open new ones.
    async fn exhaust(&self, injection: Injection) {
        let mut others = Vec::new();
        self.expect_success(self.world.kill(3).await);
        loop {
            match Conn::new(self.world.server.opts()).await {
                Ok(conn) => others.push(conn),
                Err(mysql_async::Error::Server(error)) if error.code == 1040 => break,
                Err(error) => {
                    self.account()
                        .violation(format!("others cannot connect: {error}"));
                    break;
                }
            }
        }
        self.expect_success(self.world.kill(3).await);
        self.last(injection).await;
        for conn in others {
            conn.disconnect().await.ok();
        }
    }

    async fn rotate(&self) {
        let Password { turns } = &self.world.password;
        let next = turns.load(Ordering::Relaxed) + 1;
        let statement = format!("ALTER USER {USER}@'%' IDENTIFIED BY '{}'", text_of(next));
        self.world.server.execute(&statement).await;
        turns.store(next, Ordering::Relaxed);
        self.pool.refresh();
    }

    /// Injecting a fault must succeed.
    fn expect_success(&self, outcome: mysql_async::Result<()>) {
        if let Err(error) = outcome {
            self.account()
                .violation(format!("the fault could not be caused: {error}"));
        }
    }

    fn account(&self) -> &Account {
        &self.shared.account
    }
}

/// What callers may notice of the fault.
const fn symptoms(fault: Fault) -> Symptoms {
    let nothing = Symptoms {
        losses: false,
        waits: false,
        denials: false,
        read_only: false,
        no_member: false,
        split: false,
        writes: true,
    };
    match fault {
        Fault::Kill(_) | Fault::KillAll | Fault::Cut | Fault::HangUp => Symptoms {
            losses: true,
            waits: true,
            ..nothing
        },
        // A server that just came back may have lost the latest password change.
        Fault::Restart | Fault::Crash => Symptoms {
            losses: true,
            waits: true,
            denials: true,
            ..nothing
        },
        Fault::Exhaust => Symptoms {
            losses: true,
            waits: true,
            ..nothing
        },
        Fault::Freeze
        | Fault::Refuse
        | Fault::Stall
        | Fault::StallNew
        | Fault::StallAfter(_)
        | Fault::AcceptAndClose
        | Fault::Delay(_) => Symptoms {
            waits: true,
            ..nothing
        },
        Fault::RotatePassword => Symptoms {
            waits: true,
            denials: true,
            ..nothing
        },
        Fault::ReadOnly => Symptoms {
            waits: true,
            read_only: true,
            ..nothing
        },
        Fault::Resize(..) => Symptoms {
            waits: true,
            ..nothing
        },
        Fault::Refresh => nothing,
    }
}
