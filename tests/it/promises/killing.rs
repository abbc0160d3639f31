//! `OnCancel::Kill`: the pool ends what a cancelled caller left running on the server, and nothing
//! else.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use mysql_warm_pool::{
    OnCancel, Pool,
    mysql_async::{Conn, TxOpts, prelude::Queryable},
    report::Warning,
};
use test_support::{PATIENCE, Proxy, Server, config, eventually, skip, warm};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
};

/// Starts a statement on a connection of the pool, and cancels it once it runs.
async fn cancelled(pool: &Pool, statement: &str) {
    let mut conn = pool.get().await.expect("a connection");
    let running =
        tokio::time::timeout(Duration::from_millis(100), conn.query_drop(statement)).await;
    assert!(running.is_err(), "{statement} ended by itself");
}

/// How many of the account's connections run a statement like this.
async fn running(admin: &mut Conn, like: &str) -> usize {
    let list = format!(
        "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE '%{like}%'"
    );
    admin.query::<u64, _>(list).await.expect("the list").len()
}

#[tokio::test]
async fn by_default_an_abandoned_statement_ends_by_itself() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let pool = warm(config(&server.url()).size(2)).await;
    cancelled(&pool, "SELECT SLEEP(60)").await;
    eventually("it is replaced", async || pool.status().idle == 2).await;
    assert_eq!(running(&mut admin, "SLEEP").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_50_cancellations_opens_no_50_more_connections() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let mut admin = server.admin().await;
    let settings = config(&server.url_via(proxy.port()))
        .size(50)
        .overflow(5)
        .on_cancel(OnCancel::Kill);
    let pool = warm(settings).await;
    let opened = proxy.accepted();
    join_all((0..50).map(|_| cancelled(&pool, "SELECT SLEEP(60)"))).await;
    eventually("all are gone", async || {
        running(&mut admin, "SLEEP").await == 0
    })
    .await;
    eventually("all are replaced", async || pool.status().idle >= 50).await;
    assert!(proxy.peak().await <= 55, "{} at once", proxy.peak().await);
    assert!(
        proxy.accepted() - opened <= 55,
        "{} opened",
        proxy.accepted() - opened
    );
    // No connection is left over. The server notices a closed connection only when it next reads
    // from it.
    eventually(
        "the server has as many connections as the pool",
        async || {
            let open = u64::try_from(pool.status().open).expect("few");
            pool.status().connecting == 0 && server.threads_connected().await == open
        },
    )
    .await;
}

/// No cancelled caller's slot waits for the end of its statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_served_where_no_connection_is_free_to_kill_on() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(8)
        .overflow(0)
        .on_cancel(OnCancel::Kill);
    let mut admin = server.admin().await;
    let pool = warm(settings).await;
    let held = join_all((0..8).map(|_| pool.get())).await;
    // The pool is above its new limit, so it may open no connection until most of these are closed.
    pool.resize(2, 0).expect("good settings");
    join_all(held.into_iter().map(async |conn| {
        let mut conn = conn.expect("a connection");
        let running = conn.query_drop("SELECT SLEEP(60)");
        let cancelled = tokio::time::timeout(Duration::from_millis(50), running).await;
        assert!(cancelled.is_err());
    }))
    .await;
    let mut conn = pool.get_within(PATIENCE).await.expect("a connection");
    conn.query_drop("DO 1").await.expect("an answer");
    drop(conn);
    eventually("all are gone", async || {
        running(&mut admin, "SLEEP").await == 0
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_statement_is_killed() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    // With a free connection to kill on, and without one.
    for size in [5, 1] {
        let settings = config(&server.url())
            .size(size)
            .overflow(0)
            .on_cancel(OnCancel::Kill);
        let pool = warm(settings).await;
        cancelled(&pool, "SELECT SLEEP(60)").await;
        eventually("it is gone", async || {
            running(&mut admin, "SLEEP").await == 0
        })
        .await;
        eventually("it is replaced", async || pool.status().idle == size).await;
        pool.close().await;
    }
}

#[tokio::test]
async fn the_locks_of_an_abandoned_update_are_freed() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.account (id INT PRIMARY KEY, amount INT)")
        .await;
    server
        .execute("INSERT INTO test.account VALUES (1, 100), (2, 100)")
        .await;
    let pool = warm(config(&server.url()).size(3).on_cancel(OnCancel::Kill)).await;
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction
        .query_drop("UPDATE account SET amount = 0 WHERE id = 1")
        .await
        .expect("taken");
    let slow = transaction.query_drop("UPDATE account SET amount = SLEEP(60) WHERE id = 2");
    let cancelled = tokio::time::timeout(Duration::from_millis(100), slow).await;
    assert!(cancelled.is_err());
    drop(transaction);
    drop(conn);
    // The server's own lock wait time-out is 50 s.
    let update = other.query_drop("UPDATE account SET amount = amount - 1");
    tokio::time::timeout(PATIENCE, update)
        .await
        .expect("before the statement would have ended")
        .expect("free");
    let amounts: Vec<i32> = other
        .query("SELECT amount FROM account")
        .await
        .expect("rows");
    assert_eq!(amounts, [99, 99], "nothing of it was done");
}

#[tokio::test]
async fn on_another_server_with_the_same_ids_nothing_is_killed() {
    let (one, other) = (Server::start().await, Server::start().await);
    let proxy = Proxy::start(one.port()).await;
    let settings = config(&one.url_via(proxy.port()))
        .size(1)
        .overflow(1)
        .on_cancel(OnCancel::Kill);
    let pool = warm(settings).await;
    // Bystanders on the other server, covering every id that a victim here may have.
    let mut bystanders = Vec::new();
    for _ in 0..40 {
        bystanders.push(Conn::new(other.opts()).await.expect("a connection"));
    }
    let id = pool.get().await.expect("a connection").id();
    assert!(
        bystanders.iter().any(|conn| conn.id() == id),
        "no bystander with the number {id}"
    );
    proxy.switch_to(other.port());
    cancelled(&pool, "SELECT SLEEP(30)").await;
    all_is_ended(&pool).await;
    for conn in &mut bystanders {
        conn.ping().await.expect("a bystander lives");
    }
}

/// Opens connections to the server until the next one will get this id.
async fn up_to(server: &Server, id: u32) -> Vec<Conn> {
    let mut opened = Vec::new();
    loop {
        let conn = Conn::new(server.opts()).await.expect("a connection");
        let last = conn.id();
        assert!(last < id, "{id} has passed: {last}");
        opened.push(conn);
        if last + 1 == id {
            return opened;
        }
    }
}

/// Connects to the server through a relay that uses this address and port.
async fn from(server: &Server, address: SocketAddr) -> Conn {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let relay = listener.local_addr().expect("a port").port();
    let target = (Ipv4Addr::LOCALHOST, server.port()).into();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a free choice");
        socket
            .bind(address)
            .expect("the same port, to another server");
        let mut server = socket.connect(target).await.expect("a server");
        copy_bidirectional(&mut client, &mut server).await.ok();
    });
    Conn::new(server.opts_via(relay))
        .await
        .expect("a connection")
}

#[tokio::test]
async fn the_same_id_and_address_on_another_server_is_not_killed() {
    let (one, other) = (Server::start().await, Server::start().await);
    let proxy = Proxy::start(one.port()).await;
    let settings = config(&one.url_via(proxy.port()))
        .size(1)
        .overflow(1)
        .on_cancel(OnCancel::Kill);
    // A loopback address of its own, so that nothing else uses that port there.
    proxy.come_from(Ipv4Addr::new(127, 0, 0, 3));
    // High enough that the other server's ids are below it.
    let last = Conn::new(one.opts()).await.expect("a connection").id();
    drop(up_to(&one, last + 30).await);
    let pool = warm(settings).await;
    let id = pool.get().await.expect("a connection").id();
    let list = format!("SELECT host FROM information_schema.processlist WHERE id = {id}");
    let host: String = one
        .admin()
        .await
        .query_first(list.as_str())
        .await
        .expect("the list")
        .expect("listed");
    let address = host.parse().expect("an address and a port");
    let fillers = up_to(&other, id).await;
    let mut bystander = from(&other, address).await;
    let seen: Option<String> = other
        .admin()
        .await
        .query_first(list)
        .await
        .expect("the list");
    assert_eq!(
        (bystander.id(), seen),
        (id, Some(host)),
        "of {}",
        fillers.len()
    );

    proxy.switch_to(other.port());
    cancelled(&pool, "SELECT SLEEP(60)").await;
    all_is_ended(&pool).await;
    bystander.ping().await.expect("a bystander lives");
    assert_eq!(running(&mut one.admin().await, "SLEEP").await, 1);
}

#[tokio::test]
async fn the_same_id_from_another_address_is_not_killed() {
    let server = Server::start().await;
    let Some(own_name) = server.own_name() else {
        return skip("nothing is killed on a server without a name of its own");
    };
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(1)
        .overflow(1)
        .on_cancel(OnCancel::Kill);
    let last = Conn::new(server.opts()).await.expect("a connection").id();
    drop(up_to(&server, last + 30).await);
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    let mut sleeping = Box::pin(conn.query_drop("SELECT SLEEP(60)"));
    let begun = tokio::time::timeout(Duration::from_millis(100), &mut sleeping).await;
    assert!(begun.is_err(), "it sleeps");
    // Its server restarts, and the close of the old connection does not get through.
    let which = format!("SELECT {own_name}");
    let before: Option<String> = server
        .admin()
        .await
        .query_first(&which)
        .await
        .expect("an answer");
    proxy.stall();
    proxy.refuse().await;
    server.restart().await;
    let after: Option<String> = server
        .admin()
        .await
        .query_first(&which)
        .await
        .expect("an answer");
    assert_eq!(before, after, "the server's own name is the same");
    let mut bystanders = up_to(&server, id).await;
    bystanders.push(Conn::new(server.opts()).await.expect("a connection"));
    assert_eq!(bystanders.last().map(Conn::id), Some(id));

    proxy.accept_again().await;
    drop(sleeping);
    drop(conn);
    all_is_ended(&pool).await;
    for conn in &mut bystanders {
        conn.ping().await.expect("a bystander lives");
    }
}

/// Waits until the abandoned connections are closed and others are open: the search for a
/// connection to kill on is over then.
async fn all_is_ended(pool: &Pool) {
    eventually("nothing is being ended", async || {
        let status = pool.status();
        status.cleaning == 0 && status.in_use == 0 && status.idle >= 1
    })
    .await;
}

#[tokio::test]
async fn a_server_without_an_id_of_its_own_is_warned_of() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).on_cancel(OnCancel::Kill)).await;
    let report = pool.warm_up().await.expect("a warm-up");
    let warned = (report.warnings.iter()).any(|it| matches!(it, Warning::CannotKill { .. }));
    assert_eq!(warned, server.own_name().is_none(), "{report}");
}
