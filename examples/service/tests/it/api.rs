//! The accounts over HTTP: requests and their responses.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use test_support::{Seed, Server, eventually, free_port, timed};

use crate::driving::{ACCOUNTS, HEALTH, LIVENESS, READINESS, Running, TRANSFERS, settings};

#[tokio::test]
async fn accounts_are_created_read_and_listed() {
    // Not the shared server: there, other tests create accounts between these two.
    let server = Server::start().await;
    let running = Running::ready(settings(&server.url())).await;
    let client = &running.client;
    let new = json!({ "owner": "  Zoë ", "balance": 250 });
    let created = client.post(ACCOUNTS, &new).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let account = created.json();
    let location = created.header("location").expect("where it is").to_owned();
    assert_eq!(location, format!("{ACCOUNTS}/{}", account["id"]));
    assert_eq!(
        (&account["owner"], &account["balance"]),
        (&json!("Zoë"), &json!(250))
    );
    let read = client.get(&location).await;
    assert_eq!(
        (read.status, read.json()),
        (StatusCode::OK, account.clone())
    );

    let id = account["id"].as_u64().expect("a number");
    let next = client.account("Bob", 0).await;
    let list = client
        .get(&format!("{ACCOUNTS}?after={}&limit=1", id - 1))
        .await;
    assert_eq!(list.json(), json!({ "accounts": [account] }));
    let rest = client.get(&format!("{ACCOUNTS}?after={id}")).await.json();
    assert_eq!(rest["accounts"][0]["id"], next);
    running.stop().await;
}

#[tokio::test]
async fn a_transfer_moves_the_amount_or_nothing() {
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    let client = &running.client;
    let (ada, bob) = (
        client.account("Ada", 100).await,
        client.account("Bob", 5).await,
    );
    let done = client.transfer(bob, ada, 5).await;
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(done.json()["from"]["balance"], 0);
    assert_eq!(done.json()["to"]["balance"], 105);

    let refused = client.transfer(ada, bob, 106).await;
    assert_eq!(refused.problem(), (409, "not_enough".to_owned()));
    let rich = client.account("Rich", 1_000_000_000_000).await;
    let refused = client.transfer(ada, rich, 1).await;
    assert_eq!(refused.problem(), (409, "too_much".to_owned()));
    for (from, to) in [(ada, 999_999_999), (999_999_999, ada)] {
        let refused = client.transfer(from, to, 1).await;
        assert_eq!(refused.problem(), (404, "not_found".to_owned()));
    }
    let ada = client.get(&format!("{ACCOUNTS}/{ada}")).await.json();
    assert_eq!(ada["balance"], 105);
    running.stop().await;
}

#[tokio::test]
async fn an_impossible_request_gets_a_fitting_status_and_json() {
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    let client = &running.client;
    let long = "x".repeat(81);
    let huge = format!("{{\"owner\":\"{}\"}}", "x".repeat(20_000));
    let table = [
        (Method::POST, ACCOUNTS, "{", 400, "bad_body"),
        (Method::POST, ACCOUNTS, "{}", 422, "bad_body"),
        (
            Method::POST,
            ACCOUNTS,
            r#"{"owner":"a","balance":-1}"#,
            422,
            "bad_body",
        ),
        (
            Method::POST,
            ACCOUNTS,
            r#"{"owner":"a","admin":true}"#,
            422,
            "bad_body",
        ),
        (
            Method::POST,
            ACCOUNTS,
            r#"{"owner":"a","balance":1000000000001}"#,
            422,
            "invalid",
        ),
        (Method::POST, ACCOUNTS, r#"{"owner":"  "}"#, 422, "invalid"),
        (
            Method::POST,
            ACCOUNTS,
            &format!(r#"{{"owner":"{long}"}}"#),
            422,
            "invalid",
        ),
        (Method::POST, ACCOUNTS, &huge, 413, "bad_body"),
        (
            Method::POST,
            TRANSFERS,
            r#"{"from":1,"to":1,"amount":1}"#,
            422,
            "invalid",
        ),
        (
            Method::POST,
            TRANSFERS,
            r#"{"from":1,"to":2,"amount":0}"#,
            422,
            "invalid",
        ),
        (
            Method::GET,
            "/api/v1/accounts/999999999",
            "",
            404,
            "not_found",
        ),
        (Method::GET, "/api/v1/accounts/ada", "", 404, "not_found"),
        (Method::GET, "/api/v1/accounts?limit=0", "", 422, "invalid"),
        (
            Method::GET,
            "/api/v1/accounts?limit=101",
            "",
            422,
            "invalid",
        ),
        (
            Method::GET,
            "/api/v1/accounts?after=a",
            "",
            400,
            "bad_query",
        ),
        (Method::GET, "/api/v1/accounts?page=2", "", 400, "bad_query"),
        (Method::GET, "/nothing", "", 404, "not_found"),
        (Method::DELETE, ACCOUNTS, "", 405, "method_not_allowed"),
    ];
    for (method, path, body, status, code) in table {
        let answer = client
            .send(method, path, Some(body.to_owned()))
            .await
            .expect("an answer");
        assert_eq!(answer.problem(), (status, code.to_owned()), "{path} {body}");
        assert!(
            !answer.json()["error"]["message"]
                .as_str()
                .expect("words")
                .is_empty()
        );
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_at_the_same_time_neither_make_nor_lose_money() {
    let seed = Seed::new();
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    let client = &running.client;
    let mut accounts = Vec::new();
    for n in 0..4 {
        accounts.push(client.account(&format!("owner {n}"), 1000).await);
    }
    let tasks = (0..16).map(|n| {
        let (client, accounts, mut seed) = (client.clone(), accounts.clone(), seed.fork(n));
        tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..50 {
                let pick = |seed: &mut Seed| usize::try_from(seed.below(4)).expect("small");
                let from = pick(&mut seed);
                let to = (from + 1 + pick(&mut seed) % 3) % 4;
                let answer = client
                    .transfer(accounts[from], accounts[to], 1 + seed.below(400))
                    .await;
                match answer.status {
                    StatusCode::OK => done += 1,
                    StatusCode::CONFLICT => {}
                    _ => panic!("{}", answer.text()),
                }
            }
            done
        })
    });
    let mut done = 0;
    for task in tasks.collect::<Vec<_>>() {
        done += task.await.expect("no panic");
    }
    assert!(done > 100, "{done} transfers");
    let mut sum = 0;
    for account in accounts {
        let account = client.get(&format!("{ACCOUNTS}/{account}")).await.json();
        sum += account["balance"].as_u64().expect("never below 0");
    }
    assert_eq!(sum, 4000);
    running.stop().await;
}

#[tokio::test]
async fn an_early_request_is_held_and_then_gets_503_and_retry_after() {
    // No server listens there.
    let mut settings = settings(&format!(
        "mysql://app:S3cr3tWord@127.0.0.1:{}/shop",
        free_port()
    ));
    settings.request_timeout = Duration::from_millis(500);
    let running = Running::start(settings).await;
    let (answer, held) = timed(running.client.get(ACCOUNTS)).await;
    assert!(held >= Duration::from_millis(350), "{held:?}");
    assert_eq!(answer.problem(), (503, "not_ready".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("2"));

    // It is not ready, shows why, and is still alive.
    let readiness = running.client.get(READINESS).await;
    assert_eq!(readiness.status, StatusCode::SERVICE_UNAVAILABLE);
    let health = readiness.json();
    assert_eq!(
        (&health["ready"], &health["stage"]),
        (&json!(false), &json!("starting"))
    );
    assert_eq!(health["database"]["readiness"], "unavailable");
    let error = health["database"]["last_error"].as_str().expect("why");
    assert!(error.contains("refused"), "{error}");
    assert_eq!(running.client.get(LIVENESS).await.status, StatusCode::OK);
    for path in [READINESS, HEALTH, ACCOUNTS, "/metrics"] {
        let answer = running.client.get(path).await.text();
        assert!(!answer.contains("S3cr3tWord"), "{path}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_finds_no_free_connection_gets_503_and_retry() {
    let server = Server::shared().await;
    let mut settings = settings(&server.url());
    settings.pool = settings.pool.size(1).overflow(0);
    settings.request_timeout = Duration::from_millis(500);
    let running = Running::ready(settings).await;
    let held = running.pool.get().await.expect("the only one");
    let answer = running.client.get(ACCOUNTS).await;
    assert_eq!(answer.problem(), (503, "no_connection".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("2"));
    // Busy is not down.
    assert_eq!(running.client.get(READINESS).await.status, StatusCode::OK);
    drop(held);
    assert_eq!(running.client.get(ACCOUNTS).await.status, StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn while_the_database_is_away_requests_wait_with_readiness_503() {
    let server = Server::start().await;
    let running = Running::ready(settings(&server.url())).await;
    let account = running.client.account("Ada", 7).await;
    server.shutdown().await;
    eventually("readiness is 503", async || {
        // A request that is cut off by the server's end makes the pool notice it soon.
        running.client.get(ACCOUNTS).await;
        running.client.get(READINESS).await.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let client = running.client.clone();
    let early = tokio::spawn(async move { client.get(&format!("{ACCOUNTS}/{account}")).await });
    eventually("the request waits", async || {
        running.client.get(HEALTH).await.json()["early_requests"] == 1
    })
    .await;
    server.start_again().await;
    let answer = early.await.expect("no panic");
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.json()["balance"], 7);
    running.client.until_ready().await;
    running.stop().await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends_with_504() {
    let server = Server::start().await;
    let mut settings = settings(&server.url());
    settings.request_timeout = Duration::from_secs(3);
    let running = Running::ready(settings).await;
    let (ada, bob) = (
        running.client.account("Ada", 9).await,
        running.client.account("Bob", 0).await,
    );
    server.execute("LOCK TABLES test.account WRITE").await;
    let answer = running.client.transfer(ada, bob, 1).await;
    assert_eq!(answer.problem(), (504, "out_of_time".to_owned()));
    assert_eq!(answer.header("retry-after"), None);
    server.execute("UNLOCK TABLES").await;
    assert_eq!(running.client.get(ACCOUNTS).await.status, StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn no_answer_shows_statements() {
    let server = Server::start().await;
    let running = Running::ready(settings(&server.url())).await;
    server
        .execute("RENAME TABLE test.account TO test.elsewhere")
        .await;
    let answer = running.client.get(ACCOUNTS).await;
    assert_eq!(answer.problem(), (500, "internal".to_owned()));
    let text = answer.text();
    for word in ["SELECT", "account", "1146", "app"] {
        assert!(!text.contains(word), "{text}");
    }
    running.stop().await;
}

#[tokio::test]
async fn health_shows_the_service_and_the_pool() {
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    let health: Value = running.client.get(HEALTH).await.json();
    assert_eq!(health["service"], "accounts-service");
    assert_eq!(
        (&health["ready"], &health["stage"]),
        (&json!(true), &json!("serving"))
    );
    assert_eq!(health["database"]["status"]["size"], 5);
    assert_eq!(health["database"]["last_error"], Value::Null);
    running.stop().await;
}
