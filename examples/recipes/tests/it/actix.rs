use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use test_support::{Server, eventually};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    http::{Client, get},
    program::Program,
};

const RECIPE: &str = env!("CARGO_BIN_EXE_actix");
const WORKERS: usize = 4;
const CLIENTS: u64 = 48;

#[tokio::test]
async fn all_workers_serve_through_a_restart_of_the_database() {
    let server = Server::start().await;
    let mut recipe = Program::start(RECIPE, &server.url());
    let address = recipe.address().await;
    let ready = async || get(address, "/ready").await.unwrap().code;
    assert_eq!(ready().await, 200);

    let (done, is_done) = watch::channel(false);
    let served = Served::default();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(ask(address, client, served.clone(), is_done.clone()));
    }
    eventually("all workers serve", async || served.count() == WORKERS).await;

    let goes_down = Instant::now();
    server.shutdown().await;
    eventually("not ready", async || ready().await == 503).await;
    server.start_again().await;
    eventually("ready again", async || ready().await == 200).await;
    let is_up = Instant::now();
    served.forget();
    eventually("all workers serve again", async || {
        served.count() == WORKERS
    })
    .await;
    done.send(true).unwrap();

    for failed in clients.join_all().await.into_iter().flatten() {
        let was_down = failed.began < is_up && goes_down < failed.ended;
        assert!(was_down, "{} while the database was up", failed.code);
    }
    recipe.terminate().await;
    recipe.ends_well().await;
}

/// The workers that have answered.
#[derive(Clone, Default)]
struct Served(Arc<Mutex<HashSet<String>>>);

impl Served {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// A request that was answered by an error.
struct Failed {
    began: Instant,
    ended: Instant,
    code: u16,
}

/// Asks for numbers that no other client asks for, one after another on one connection. A wrong
/// answer is a panic.
async fn ask(
    address: SocketAddr,
    client: u64,
    served: Served,
    is_done: watch::Receiver<bool>,
) -> Vec<Failed> {
    let mut failed = Vec::new();
    let mut connection = Client::connect(address).await.unwrap();
    let mut number = client << 32;
    while !*is_done.borrow() {
        number += 1;
        let began = Instant::now();
        let answer = connection.get(&format!("/echo/{number}")).await.unwrap();
        if answer.code == 200 {
            assert_eq!(answer.body, number.to_string());
            served
                .0
                .lock()
                .unwrap()
                .insert(answer.headers["worker"].clone());
        } else {
            failed.push(Failed {
                began,
                ended: Instant::now(),
                code: answer.code,
            });
        }
    }
    failed
}
