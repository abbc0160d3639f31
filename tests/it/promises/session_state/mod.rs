//! Statements predicted neutral are neutral on a real server: the `effect` module against the
//! session's actual state.
//!
//! Each statement runs between two fingerprints of its session ([`Fingerprint`]).
//! [`effect::effect_of`] must have predicted every difference; the converse need not hold.
//!
//! | file | job |
//! |---|---|
//! | `statements.rs` | lists of statements |
//! | `grammar.rs` | statements built from fragments, as strategies |
//! | `fingerprint.rs` | the state of a session, from every list that the server keeps of it |
//! | `unresettable.rs` | what a reset leaves behind |
//! | `database.rs` | a server and a database for inspecting sessions |

#![expect(
    clippy::significant_drop_tightening,
    reason = "a test keeps its database, and its turn, to the end"
)]

mod database;
#[path = "../../../../src/session/effect/mod.rs"]
#[expect(dead_code, reason = "the crate uses the rest")]
mod effect;
mod fingerprint;
mod grammar;
mod roles;
mod statements;
mod undone;
mod unresettable;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use mysql_warm_pool::{PoolConfig, mysql_async};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use test_support::{Flavor, Seed, warm};
use tokio::runtime::Builder;

use database::{Database, SETTINGS, run, set_mode};
use effect::Effect;
use fingerprint::{Changes, Fingerprint, server_code};
use grammar::Sql;
use statements::{CAREFUL, CHANGING, EVERYDAY, statements};

#[tokio::test]
async fn no_statement_called_neutral_changes_its_session() {
    let database = Database::make("table").await;
    let mut noticed = Vec::new();
    for statement in database.statements() {
        let ran = database.check("", statement.as_bytes()).await;
        if ran.changes.any() {
            noticed.push(statement);
        }
    }
    database.drop().await;
    let count = noticed.len();
    assert!(
        count >= 130,
        "a fingerprint that shows {count}: {noticed:#?}"
    );
}

#[tokio::test]
async fn everyday_statements_are_neutral_and_work() {
    let database = Database::make("everyday").await;
    let mut conn = database.connect().await.expect("a connection");
    let mut refused = Vec::new();
    for statement in statements(EVERYDAY) {
        let statement = statement.replace("{db}", &database.name);
        let effect = effect::effect_of(statement.as_bytes());
        assert_eq!(effect, Effect::NEUTRAL, "{statement}");
        if let Err(error) = run(&mut conn, statement.as_bytes()).await {
            refused.push(format!("{statement}: {error}"));
        }
    }
    database.drop().await;
    // Some are known only to MariaDB or only to MySQL.
    assert!(refused.len() <= 12, "{refused:#?}");
}

#[test]
fn changing_statements_are_never_called_neutral() {
    for statement in statements(CHANGING) {
        let effect = effect::effect_of(statement.as_bytes());
        assert_ne!(effect, Effect::NEUTRAL, "{statement}");
    }
}

#[test]
fn the_lists_are_long_enough_to_mean_something() {
    let [everyday, careful, changing] = [EVERYDAY, CAREFUL, CHANGING].map(|list| {
        let distinct: BTreeSet<_> = statements(list).collect();
        distinct.len()
    });
    assert!(everyday >= 120, "{everyday}");
    assert!(everyday + careful + changing >= 300);
}

/// Otherwise it might miss what a statement changes.
#[tokio::test]
async fn the_fingerprint_shows_whatever_a_session_can_have() {
    let database = Database::make("seen").await;
    for (statement, shown, only) in SHOWN {
        if only.is_none_or(|only| only == database.flavor) {
            let ran = database.check("", statement.as_bytes()).await;
            assert!(
                ran.changes.lines().any(|line| line.starts_with(shown)),
                "{statement}: {ran:#?}"
            );
        }
    }
    database.drop().await;
}

const SHOWN: [(&str, &str, Option<Flavor>); 21] = [
    (
        "SET profiling = 1; SELECT 'of any name'; SET profiling = 0",
        "profiles: 1",
        Some(Flavor::MariaDb),
    ),
    (
        "SET optimizer_trace = 'enabled=on'; SELECT * FROM item",
        "trace: ",
        Some(Flavor::MySql),
    ),
    ("SET @of_any_name = 1", "user variable: of_any_name=", None),
    ("SET @null = NULL", "user variable: null=", None),
    (
        "SELECT GET_LOCK('of any name', 0)",
        "lock: USER LEVEL LOCK",
        None,
    ),
    (
        "PREPARE of_any_name FROM 'DO 1'",
        "prepared statement: of_any_name",
        None,
    ),
    (
        "CREATE TEMPORARY TABLE of_any_name (a INT)",
        "temporary table: ",
        Some(Flavor::MySql),
    ),
    (
        "CREATE TEMPORARY TABLE of_any_name (a INT)",
        "command: com_create_temporary_table=",
        Some(Flavor::MariaDb),
    ),
    (
        "CREATE TEMPORARY TABLE of_any_name ENGINE=MyISAM SELECT 1",
        "temporary table: ",
        Some(Flavor::MariaDb),
    ),
    (
        "CREATE TEMPORARY TABLE bystander (b INT)",
        "hidden table: ",
        None,
    ),
    // Unlocked tables, the server's lists among them, cannot be read then.
    ("LOCK TABLES item READ", "not shown from ", None),
    (
        "HANDLER item OPEN",
        "transaction: TABLE",
        Some(Flavor::MariaDb),
    ),
    ("HANDLER item OPEN", "lock: TABLE", Some(Flavor::MySql)),
    (
        "SET SESSION sort_buffer_size = 300000",
        "variable: sort_buffer_size=300000",
        None,
    ),
    (
        "SET NAMES latin1",
        "variable: character_set_client=latin1",
        None,
    ),
    (
        "USE information_schema",
        "database: information_schema",
        None,
    ),
    ("BEGIN", "in a transaction: true", None),
    ("BEGIN", "transaction: REPEATABLE READ READ WRITE", None),
    ("BEGIN; SELECT * FROM item", "transaction: TABLE", None),
    (
        "CREATE ROLE IF NOT EXISTS r; SET ROLE r",
        "account: ",
        Some(Flavor::MariaDb),
    ),
    (
        "SELECT NEXTVAL(numbers)",
        "sequence: ",
        Some(Flavor::MariaDb),
    ),
];

#[tokio::test]
async fn a_change_hidden_in_strings_or_comments_is_always_found() {
    let database = Database::make("hiding").await;
    for mode in grammar::MODES {
        for place in grammar::HIDING {
            let text = format!("SELECT {}", place.replace("{h}", "@a := 1"));
            // A text that may change anything has nothing to show.
            if effect::effect_of(text.as_bytes()) != Effect::UNKNOWN {
                database.check(mode, text.as_bytes()).await;
            }
        }
    }
    database.drop().await;
}

/// Whatever the fragments can be combined to, with open and hidden changes, and in every SQL mode
/// that tokenises text differently. `PROPTEST_CASES=10000` searches longer.
#[test]
fn no_random_statement_called_neutral_changes_its_session() {
    /// How many statements the server must accept and `effect` call neutral: at least this
    /// percentage of all, and this many with each kind of fragment.
    const ENOUGH: (u32, u32) = (25, 1);

    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let database = runtime.block_on(Database::make("random"));
    let mut seed = Seed::new();
    let kinds = [
        grammar::LEAVES,
        grammar::EXPRESSIONS,
        grammar::QUERIES,
        grammar::STATEMENTS,
        grammar::SHOWS,
    ];
    let kinds = kinds
        .into_iter()
        .flatten()
        .filter(|kind| kind.is_known_to(database.flavor));
    let names: BTreeSet<_> = kinds.map(|kind| kind.name).collect();
    // Sessions are reused while nothing in them changes, as in a pool.
    let sessions = RefCell::new(HashMap::new());
    let counts = RefCell::new(Counts::default());
    let case = (select(grammar::MODES), grammar::text(database.flavor));
    let check = |(mode, text): (&'static str, grammar::Text)| {
        let mut counts = counts.borrow_mut();
        counts.made += 1;
        // A text that may change anything has nothing to show.
        if effect::effect_of(&text.sql) == Effect::UNKNOWN {
            return Ok(());
        }
        let kept = sessions.borrow_mut().remove(mode);
        let ran = runtime.block_on(async {
            if counts.made.is_multiple_of(20) {
                database.tidy().await?;
            }
            let fresh = match kept {
                Some(fresh) => fresh,
                None => database.session(mode).await?,
            };
            Ok(database.check_on(fresh, &text.sql).await)
        });
        // If the server is gone, an earlier statement is to blame, and shrinking will not find it.
        let (ran, fresh) =
            ran.map_err(|gone: mysql_async::Error| TestCaseError::reject(gone.to_string()))?;
        ran.is_as_predicted(&text.sql)
            .map_err(TestCaseError::fail)?;
        if let Some(fresh) = fresh {
            sessions.borrow_mut().insert(mode, fresh);
        }
        if ran.shows_something(&text.sql) {
            counts.record(&text.kinds);
        }
        Ok(())
    };
    let too_few = || {
        let counts = counts.borrow();
        let too_few = names.iter().find(|name| counts.of(name) < ENOUGH.1);
        too_few.copied()
    };
    // Some kinds are seldom accepted, and now and then none of them is: then more statements are
    // generated.
    for _ in 0..4 {
        if let Err(failure) = runner(&mut seed, 6).run(&case, check) {
            panic!("{failure}");
        }
        if too_few().is_none() {
            break;
        }
    }
    assert_eq!(
        too_few(),
        None,
        "rarely or never accepted: {:#?}",
        counts.borrow()
    );
    drop(sessions);
    let counts = counts.into_inner();
    println!("{counts:#?}");
    assert!(
        counts.accepted * 100 >= counts.made * ENOUGH.0,
        "{counts:#?}"
    );
    runtime.block_on(database.drop());
}

/// How many statements were generated, and how many of them the server accepted and `effect` called
/// neutral.
#[derive(Debug, Default)]
struct Counts {
    made: u32,
    accepted: u32,
    /// The latter, by kind of fragment.
    of_kinds: BTreeMap<&'static str, u32>,
}

impl Counts {
    fn record(&mut self, kinds: &BTreeSet<&'static str>) {
        self.accepted += 1;
        for kind in kinds {
            *self.of_kinds.entry(kind).or_default() += 1;
        }
    }

    fn of(&self, kind: &str) -> u32 {
        self.of_kinds.get(kind).copied().unwrap_or_default()
    }
}

/// Otherwise a fragment may be a mistake, and every statement that uses it wasted.
#[tokio::test]
async fn every_neutral_fragment_is_accepted_by_itself() {
    /// Not before MariaDB 10.6.
    const LATER: [&str; 4] = ["SKIP LOCKED", "FETCH FIRST", "FROM sys", "FROM processlist"];

    let database = Database::make("fragments").await;
    let mut refused = Vec::new();
    for (kinds, whole) in [
        (grammar::LEAVES, "SELECT {e} FROM item LIMIT 1"),
        (grammar::EXPRESSIONS, "SELECT {e} FROM item LIMIT 1"),
        (grammar::QUERIES, "{q}"),
        (grammar::STATEMENTS, "{q}"),
        (grammar::SHOWS, "{q}"),
    ] {
        for fragment in grammar::fragments(kinds, Some(database.flavor)) {
            let one = || Sql::leaf(("", "1"));
            let query = || Sql::filled(("", "SELECT {e}"), " ", [one()], []);
            let filled = || Sql::filled(fragment, " ", [one(), one(), one()], [query(), query()]);
            let text = Sql::filled(("", whole), " ", [filled()], [filled()]).text();
            database.tidy().await.expect("the tables as they were");
            let ran = database.check("", text.as_bytes()).await;
            assert_eq!(
                effect::effect_of(text.as_bytes()),
                Effect::NEUTRAL,
                "{text}"
            );
            let is_known =
                database.flavor.is_since(10, 6) || !LATER.iter().any(|later| text.contains(later));
            if let Some(error) = ran.error
                && is_known
            {
                refused.push(format!("{text}: {error}"));
            }
        }
    }
    database.drop().await;
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn every_combination_of_neutral_fragments_is_called_neutral() {
    let mut seed = Seed::new();
    let outcome = runner(&mut seed, 16).run(&grammar::neutral_statement(None), |sql| {
        let text = sql.text();
        prop_assert_eq!(
            effect::effect_of(text.as_bytes()),
            Effect::NEUTRAL,
            "{}",
            text
        );
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn a_change_is_found_anywhere_in_a_statement() {
    let mut seed = Seed::new();
    let case = (
        grammar::neutral_statement(None),
        any::<Index>(),
        grammar::changing(),
    );
    let outcome = runner(&mut seed, 16).run(&case, |(mut sql, at, changing)| {
        if !sql.plant(at, changing) {
            return Ok(());
        }
        for text in [
            sql.text(),
            sql.text().to_lowercase(),
            sql.text().to_uppercase(),
        ] {
            prop_assert!(effect::effect_of(text.as_bytes()).session, "{}", text);
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Runs `times` times 256 cases, or `PROPTEST_CASES`, with choices from the seed.
fn runner(seed: &mut Seed, times: u32) -> TestRunner {
    let usual = ProptestConfig::default();
    let config = ProptestConfig {
        cases: usual.cases * times,
        max_shrink_iters: 2_000,
        // The seed is enough to repeat a failure.
        failure_persistence: None,
        ..usual
    };
    let bytes: Vec<_> = (0..4).flat_map(|_| seed.next().to_le_bytes()).collect();
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// The whole guarantee: nothing is missed, and the cleaning is sufficient.
#[tokio::test]
async fn whatever_was_sent_the_next_caller_finds_a_clean_session() {
    let database = Database::make("pool").await;
    assert_eq!(
        effect::effect_of(database.listing.text().as_bytes()),
        Effect::NEUTRAL,
        "looking must leave nothing behind either"
    );
    let config = PoolConfig::from_opts(database.opts.clone())
        .size(1)
        .overflow(0)
        .init([SETTINGS]);
    let pool = warm(config).await;
    let mut conn = pool.get().await.expect("a connection");
    let new = Fingerprint::through_pool(&mut conn, &database.listing).await;
    let new = new.expect("a session at its beginning");
    drop(conn);
    let planted = grammar::fragments(grammar::CHANGING, None).into_iter();
    let planted = planted.map(|(_, changing)| format!("SELECT {changing} FROM item LIMIT 1"));
    for statement in database.statements().into_iter().chain(planted) {
        // The server may refuse it.
        conn = pool.get().await.expect("a connection");
        conn.query_drop(format!("USE {}", database.name))
            .await
            .expect("the database is restored");
        conn.query_drop(&statement).await.ok();
        drop(conn);
        conn = pool.get().await.expect("a connection");
        let found = Fingerprint::through_pool(&mut conn, &database.listing).await;
        let found = found.expect("a session that works");
        drop(conn);
        let changes = Changes::between(&new, Some(&found));
        assert!(!changes.any(), "{statement}: {changes:#?}");
    }
    pool.close().await;
    database.drop().await;
}

/// A stored function cannot shadow a name that `effect` takes for one of the server's own.
#[tokio::test]
async fn listed_names_are_never_those_of_stored_functions() {
    /// `FUNCTION .. does not exist`: the server looked for a stored function.
    const NO_SUCH_FUNCTION: [u16; 2] = [1305, 1630];

    let database = Database::make("names").await;
    let mut conn = database.connect().await.expect("a connection");
    let mut stored = Vec::new();
    // Oracle mode has its own grammar.
    for mode in ["", "ORACLE"] {
        // Not every server has every mode.
        run(&mut conn, set_mode(mode).as_bytes()).await.ok();
        for arguments in ["", "1", "1, 2", "1, 2, 3"] {
            let anywhere = [effect::names::KEYWORDS, effect::names::BUILT_IN].concat();
            let anywhere = anywhere
                .iter()
                .map(|name| format!("DO {name} ({arguments})"));
            let adjacent = effect::names::BUILT_IN_IF_ADJACENT.iter();
            let adjacent = adjacent.map(|name| format!("DO {name}({arguments})"));
            for call in anywhere.chain(adjacent) {
                let error = run(&mut conn, call.as_bytes()).await.err();
                let code = error.as_ref().and_then(server_code).unwrap_or_default();
                if NO_SUCH_FUNCTION.contains(&code) {
                    stored.push(format!("{mode}: {call}"));
                }
            }
        }
    }
    database.drop().await;
    assert!(stored.is_empty(), "{stored:#?}");
}
