//! The work and the faults, drawn from the seed alone, so that the same seed always draws the same.

use std::time::Duration;

use mysql_warm_pool::{OnCancel, PoolConfig, Reset};
use test_support::Seed;

use crate::bank::ACCOUNTS;

/// One piece of a caller's work.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    /// Where it is cancelled, if at all.
    pub(crate) cut: Option<Cut>,
    /// How long the caller pauses afterwards.
    pub(crate) pause: Duration,
}

/// The moment at which a future is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// As soon as it has been polled this many times or, if `woken`, when it is next woken.
    AfterPolls {
        polls: u64,
        woken: bool,
    },
    After(Duration),
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Reads accounts one after another.
    Lookup {
        how: Way,
        times: u64,
    },
    /// The sum of all accounts, which never changes.
    Sum,
    /// Looks for anything an earlier caller may have left.
    Look,
    /// A row that must persist once it was acknowledged.
    Note {
        how: Way,
    },
    /// Several such rows, all or none.
    Notes {
        rows: u64,
        raw: bool,
    },
    Transfer(Transfer),
    /// Many rows, only some of which are read.
    Stream {
        rows: u64,
        read: u64,
        text: bool,
    },
    /// Several result sets of one text, the last of them perhaps an error.
    Results {
        read: u64,
        error: bool,
    },
    Mistake(Mistake),
    /// Changes the session in these ways and leaves it changed.
    Change(Vec<Change>),
    /// Cancels a command, then queries on the same connection.
    CancelThenAsk {
        how: Way,
        cut: Cut,
    },
    /// Detaches a connection and uses it afterwards.
    Hold(Duration),
    /// Leaks whatever holds the connection.
    Forget(Forgotten),
    Detach,
    Discard,
    Panic(PanicAt),
    TryGet,
    GetWithin(Duration),
}

/// How a statement is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Text,
    Exec,
    Prepared,
    Generic,
    Bare,
    Lent,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) amount: u64,
    pub(crate) how: Begin,
    pub(crate) end: End,
    /// How long the caller pauses in the middle.
    pub(crate) thinking: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    Api,
    ApiSerializable,
    ApiExec,
    Raw,
    RawBare,
    AutocommitOff,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Commit,
    Rollback,
    /// Returned as it is.
    Leave,
    /// The transaction, if there is one, is leaked.
    Forget,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Mistake {
    Syntax,
    MissingTable,
    DuplicateKey,
    ParameterCount,
    KillsItself,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    UserVariable,
    TimeZone,
    SqlMode,
    Isolation,
    Charset,
    Autocommit,
    TemporaryTable,
    Database,
    NamedLock,
    LockedTable,
    OpenTransaction,
    PreparedByText,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Forgotten {
    Result,
    Transaction,
    Command,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum PanicAt {
    Rest,
    InTransaction,
    InCommand,
    HalfRead,
}

impl Work {
    pub(crate) fn draw(seed: &mut Seed) -> Self {
        let kind = Kind::draw(seed);
        let cut = seed.chance(12).then(|| Cut::draw(seed));
        Self {
            // A detached connection is counted by its holder, which must see its end.
            cut: cut.filter(|_| !matches!(kind, Kind::Detach | Kind::Panic(_))),
            kind,
            pause: seed.duration_below(Duration::from_millis(6)),
        }
    }
}

impl Cut {
    fn draw(seed: &mut Seed) -> Self {
        if seed.chance(60) {
            Self::AfterPolls {
                polls: seed.below(12),
                woken: seed.chance(50),
            }
        } else {
            let most = *seed.pick(&[200, 2_000, 20_000]);
            Self::After(seed.duration_below(Duration::from_micros(most)))
        }
    }
}

const WAYS: [Way; 6] = [
    Way::Text,
    Way::Exec,
    Way::Prepared,
    Way::Generic,
    Way::Bare,
    Way::Lent,
];

impl Kind {
    fn draw(seed: &mut Seed) -> Self {
        match seed.below(1000) {
            0..220 => Self::Lookup {
                how: *seed.pick(&WAYS),
                times: 1 + seed.below(4),
            },
            220..250 => Self::Sum,
            250..350 => Self::Look,
            350..450 => Self::Note {
                how: *seed.pick(&WAYS),
            },
            450..480 => Self::Notes {
                rows: 1 + seed.below(20),
                raw: seed.chance(50),
            },
            480..680 => Self::Transfer(Transfer::draw(seed)),
            680..740 => {
                let rows = *seed.pick(&[10, 300, 2_000]);
                Self::Stream {
                    rows,
                    read: if seed.chance(50) {
                        rows
                    } else {
                        seed.below(rows)
                    },
                    text: seed.chance(50),
                }
            }
            740..770 => Self::Results {
                read: seed.below(4),
                error: seed.chance(30),
            },
            770..800 => Self::Mistake(*seed.pick(&[
                Mistake::Syntax,
                Mistake::MissingTable,
                Mistake::DuplicateKey,
                Mistake::ParameterCount,
                Mistake::KillsItself,
            ])),
            800..870 => {
                let count = 1 + seed.below(3);
                Self::Change((0..count).map(|_| Change::draw(seed)).collect())
            }
            870..920 => Self::CancelThenAsk {
                how: *seed.pick(&[Way::Text, Way::Exec, Way::Prepared]),
                cut: Cut::draw(seed),
            },
            920..927 => Self::Hold(seed.duration_below(Duration::from_millis(300))),
            927..947 => Self::Forget(*seed.pick(&[
                Forgotten::Result,
                Forgotten::Result,
                Forgotten::Transaction,
                Forgotten::Transaction,
                Forgotten::Command,
            ])),
            947..955 => Self::Detach,
            955..965 => Self::Discard,
            965..980 => Self::Panic(*seed.pick(&[
                PanicAt::Rest,
                PanicAt::InTransaction,
                PanicAt::InCommand,
                PanicAt::HalfRead,
            ])),
            980..990 => Self::TryGet,
            _ => Self::GetWithin(seed.duration_below(Duration::from_millis(5))),
        }
    }

    /// Its name in the account.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Lookup { .. } => "lookup",
            Self::Sum => "sum",
            Self::Look => "look for traces",
            Self::Note { .. } => "write",
            Self::Notes { .. } => "batch of writes",
            Self::Transfer(_) => "transfer",
            Self::Stream { .. } => "stream",
            Self::Results { .. } => "several results",
            Self::Mistake(_) => "mistake",
            Self::Change(_) => "session change",
            Self::CancelThenAsk { .. } => "cancel, then ask",
            Self::Hold(_) => "hold long",
            Self::Forget(_) => "leak",
            Self::Detach => "detach",
            Self::Discard => "discard",
            Self::Panic(_) => "panic",
            Self::TryGet => "try_get",
            Self::GetWithin(_) => "get_within",
        }
    }
}

impl Transfer {
    fn draw(seed: &mut Seed) -> Self {
        let from = seed.below(ACCOUNTS);
        Self {
            from,
            to: (from + 1 + seed.below(ACCOUNTS - 1)) % ACCOUNTS,
            amount: 1 + seed.below(100),
            how: *seed.pick(&[
                Begin::Api,
                Begin::Api,
                Begin::ApiSerializable,
                Begin::ApiExec,
                Begin::Raw,
                Begin::Raw,
                Begin::RawBare,
                Begin::AutocommitOff,
            ]),
            end: match seed.below(100) {
                0..70 => End::Commit,
                70..80 => End::Rollback,
                80..93 => End::Leave,
                _ => End::Forget,
            },
            thinking: if seed.chance(70) {
                Duration::ZERO
            } else {
                seed.duration_below(Duration::from_millis(5))
            },
        }
    }
}

impl Change {
    fn draw(seed: &mut Seed) -> Self {
        *seed.pick(&[
            Self::UserVariable,
            Self::TimeZone,
            Self::SqlMode,
            Self::Isolation,
            Self::Charset,
            Self::Autocommit,
            Self::TemporaryTable,
            Self::Database,
            Self::NamedLock,
            Self::LockedTable,
            Self::OpenTransaction,
            Self::PreparedByText,
        ])
    }
}

/// One injected fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    pub(crate) fault: Fault,
    /// How long it lasts, if it does.
    pub(crate) lasts: Duration,
    /// A second fault in the middle of it.
    pub(crate) beside: Option<Fault>,
    /// Whether the pool must be ready again before the next fault.
    pub(crate) recovers: bool,
    /// The pause after it.
    pub(crate) pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `KILL` of at most this many connections.
    Kill(u64),
    KillAll,
    /// Shut down cleanly and started again.
    Restart,
    /// SIGKILL, and started again.
    Crash,
    Freeze,
    /// RST on every connection.
    Cut,
    /// FIN on every connection.
    HangUp,
    Refuse,
    /// Open connections hang.
    Stall,
    /// New connections hang.
    StallNew,
    /// Connections hang during their handshake or some time after it.
    StallAfter(u64),
    /// New connections are accepted and closed.
    AcceptAndClose,
    Delay(Duration),
    /// Other clients use up `max_connections`.
    Exhaust,
    RotatePassword,
    ReadOnly,
    Resize(usize, usize),
    Refresh,
}

impl Fault {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill some",
            Self::KillAll => "kill all",
            Self::Restart => "restart",
            Self::Crash => "SIGKILL",
            Self::Freeze => "freeze",
            Self::Cut => "cut (RST)",
            Self::HangUp => "hang up (FIN)",
            Self::Refuse => "refuse",
            Self::Stall => "stall",
            Self::StallNew => "stall new ones",
            Self::StallAfter(_) => "stall in handshake",
            Self::AcceptAndClose => "accept and close",
            Self::Delay(_) => "delay",
            Self::Exhaust => "exhaust max_connections",
            Self::RotatePassword => "rotate password",
            Self::ReadOnly => "read-only",
            Self::Resize(..) => "resize",
            Self::Refresh => "refresh",
        }
    }
}

/// Deals faults so that each kind is equally frequent, in random order.
#[derive(Debug)]
pub(crate) struct Deck {
    seed: Seed,
    limit: usize,
    rest: Vec<Fault>,
}

impl Deck {
    pub(crate) const fn new(seed: Seed, limit: usize) -> Self {
        Self {
            seed,
            limit,
            rest: Vec::new(),
        }
    }

    pub(crate) fn deal(&mut self) -> Injection {
        if self.rest.is_empty() {
            self.rest = self.shuffled();
        }
        let fault = self.rest.pop().expect("shuffled is not empty");
        let seed = &mut self.seed;
        let longest = *seed.pick(&[100, 500, 1_500]);
        let lasts = Duration::from_millis(30) + seed.duration_below(Duration::from_millis(longest));
        let beside = [
            Fault::Refresh,
            Fault::Cut,
            Fault::HangUp,
            resize(seed, self.limit),
        ];
        let beside = seed.chance(30).then(|| *seed.pick(&beside));
        let recovers = seed.chance(70);
        Injection {
            fault,
            lasts,
            beside,
            recovers,
            pause: if recovers && seed.chance(25) {
                // Long enough for the pool to recover and to be observed as recovered.
                Duration::from_millis(2_200)
            } else {
                seed.duration_below(Duration::from_millis(250))
            },
        }
    }

    fn shuffled(&mut self) -> Vec<Fault> {
        let seed = &mut self.seed;
        let mut faults = vec![
            Fault::Kill(1 + seed.below(3)),
            Fault::KillAll,
            Fault::Restart,
            Fault::Crash,
            Fault::Freeze,
            Fault::Cut,
            Fault::HangUp,
            Fault::Refuse,
            Fault::Stall,
            Fault::StallNew,
            Fault::StallAfter(seed.below(400)),
            Fault::AcceptAndClose,
            Fault::Delay(seed.duration_below(Duration::from_millis(8))),
            Fault::Exhaust,
            Fault::RotatePassword,
            Fault::ReadOnly,
            resize(seed, self.limit),
            resize(seed, self.limit),
            Fault::Refresh,
        ];
        for at in (1..faults.len()).rev() {
            let other = usize::try_from(seed.below(at as u64 + 1)).expect("an index");
            faults.swap(at, other);
        }
        faults
    }
}

/// Any size and overflow within the limit.
fn resize(seed: &mut Seed, limit: usize) -> Fault {
    let mut below = |end: usize| usize::try_from(seed.below(end as u64)).expect("a small number");
    let size = below(limit + 1);
    let overflow = below(limit - size + 1);
    Fault::Resize(size, overflow.max(usize::from(size == 0)))
}

/// The pool's settings; no later change exceeds this limit of connections.
pub(crate) fn settle(config: PoolConfig, seed: &mut Seed, limit: usize) -> PoolConfig {
    let size = *seed.pick(&[limit / 3, limit / 2, limit]);
    let millis = Duration::from_millis;
    let prepare = ["SELECT ?, n FROM number WHERE n <= ?".to_owned()];
    let init = ["SET time_zone = '+03:00'", "SET @of_init = 7"].map(str::to_owned);
    config
        .size(size)
        .overflow(limit - size)
        .timeout(Duration::from_secs(3))
        .connect_timeout(millis(*seed.pick(&[250, 1_000])))
        .max_connecting(*seed.pick(&[4, 8, 32]))
        .validate_after_idle(millis(*seed.pick(&[0, 100, 1_000])))
        .keepalive(*seed.pick(&[None, Some(millis(100)), Some(millis(2_000))]))
        .recycle(*seed.pick(&[None, Some(millis(1_500)), Some(millis(20_000))]))
        .overflow_linger(millis(*seed.pick(&[0, 50, 500])))
        .reset(*seed.pick(&[Reset::WhenChanged, Reset::WhenChanged, Reset::Always]))
        .on_cancel(*seed.pick(&[OnCancel::Close, OnCancel::Kill]))
        .leak_after(*seed.pick(&[None, Some(millis(200))]))
        .slow_get(*seed.pick(&[None, Some(millis(500))]))
        .prepare(some(seed, prepare))
        .init(some(seed, init))
}

/// All of the texts or none.
fn some<const N: usize>(seed: &mut Seed, texts: [String; N]) -> Vec<String> {
    if seed.chance(50) {
        texts.into()
    } else {
        Vec::new()
    }
}
