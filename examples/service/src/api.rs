//! The accounts over HTTP: checks requests, and maps results to responses.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, Request, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header::LOCATION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use crate::{
    accounts::{self, Account, MOST, Transfer},
    app::App,
    problem::Problem,
    stage::Deadlines,
};

const BODY_LIMIT: usize = 16 * 1024;
const PAGE: u32 = 100;
const OWNER_LENGTH: usize = 80;

pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/accounts", get(list).post(create))
        .route("/api/v1/accounts/{id}", get(read))
        .route("/api/v1/transfers", post(transfer))
        .layer(from_fn_with_state(Arc::clone(app), in_time))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Holds a request until the service has started, and ends it when its time is up.
///
/// If the client disconnects meanwhile, this future is dropped: the request leaves the pool's
/// queue, and a connection whose statement was cut off is not handed out again.
async fn in_time(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let deadlines = Deadlines::after(app.request_timeout);
    let _early = (!app.is_open()).then(|| app.life.count_early());
    if let Err(refused) = app.life.admit(deadlines.connection).await {
        return Problem::from(refused).into_response();
    }
    request.extensions_mut().insert(deadlines);
    timeout_at(deadlines.answer, next.run(request))
        .await
        .unwrap_or_else(|_elapsed| Problem::out_of_time().into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    #[serde(default)]
    after: u64,
    #[serde(default = "page")]
    limit: u32,
}

const fn page() -> u32 {
    PAGE
}

#[derive(Serialize)]
struct Accounts {
    accounts: Vec<Account>,
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(deadlines): Extension<Deadlines>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Accounts>, Problem> {
    let Query(Listing { after, limit }) = listing?;
    if !(1..=PAGE).contains(&limit) {
        return Err(Problem::invalid(format!("limit is 1 to {PAGE}")));
    }
    let mut conn = app.connection(deadlines).await?;
    let accounts = accounts::list(&mut conn, after, limit).await?;
    Ok(Json(Accounts { accounts }))
}

async fn read(
    State(app): State<Arc<App>>,
    Extension(deadlines): Extension<Deadlines>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<Account>, Problem> {
    let Path(id) = id?;
    let mut conn = app.connection(deadlines).await?;
    let account = accounts::read(&mut conn, id).await?;
    account.map(Json).ok_or_else(|| no_account(id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    owner: String,
    #[serde(default)]
    balance: u64,
}

async fn create(
    State(app): State<Arc<App>>,
    Extension(deadlines): Extension<Deadlines>,
    new: Result<Json<NewAccount>, JsonRejection>,
) -> Result<impl IntoResponse, Problem> {
    let Json(NewAccount { owner, balance }) = new?;
    let owner = owner.trim();
    if owner.is_empty() || owner.chars().count() > OWNER_LENGTH {
        let allowed = format!("owner has 1 to {OWNER_LENGTH} characters");
        return Err(Problem::invalid(allowed));
    }
    if balance > MOST {
        return Err(Problem::invalid(format!("balance is at most {MOST}")));
    }
    let mut conn = app.connection(deadlines).await?;
    let created = accounts::create(&mut conn, owner.to_owned(), balance)
        .await
        .map_err(Problem::perhaps_done)?;
    let location = format!("/api/v1/accounts/{}", created.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(created)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    from: u64,
    to: u64,
    amount: u64,
}

#[derive(Serialize)]
struct Done {
    from: Account,
    to: Account,
}

async fn transfer(
    State(app): State<Arc<App>>,
    Extension(deadlines): Extension<Deadlines>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Done>, Problem> {
    let Json(Order { from, to, amount }) = order?;
    if from == to {
        return Err(Problem::invalid("from and to are the same account"));
    }
    if !(1..=MOST).contains(&amount) {
        return Err(Problem::invalid(format!("amount is 1 to {MOST}")));
    }
    let mut conn = app.connection(deadlines).await?;
    match accounts::transfer(&mut conn, from, to, amount).await? {
        Transfer::Done { from, to } => Ok(Json(Done { from, to })),
        Transfer::NoAccount(id) => Err(no_account(id)),
        Transfer::NotEnough { balance } => Err(Problem::conflict(
            "not_enough",
            format!("account {from} has {balance}"),
        )),
        Transfer::TooMuch => Err(Problem::conflict(
            "too_much",
            format!("account {to} would have more than {MOST}"),
        )),
    }
}

fn no_account(id: u64) -> Problem {
    Problem::not_found(format!("there is no account {id}"))
}
