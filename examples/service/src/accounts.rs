//! The accounts in the database: SQL, without HTTP.

use mysql_warm_pool::{
    PooledConn,
    mysql_async::{self, TxOpts},
};
use serde::Serialize;

/// The largest balance, so that the sum of two does not overflow and JavaScript represents it
/// exactly.
pub(crate) const MOST: u64 = 1_000_000_000_000;

#[derive(Debug, Serialize)]
pub(crate) struct Account {
    pub(crate) id: u64,
    pub(crate) owner: String,
    /// In the smallest unit, such as cents.
    pub(crate) balance: u64,
}

/// The outcome of a transfer.
pub(crate) enum Transfer {
    /// The transfer was made. Both accounts as they are now.
    Done { from: Account, to: Account },
    /// There is no account with this id.
    NoAccount(u64),
    /// The first account has less than the amount.
    NotEnough { balance: u64 },
    /// The second account would have more than [`MOST`].
    TooMuch,
}

/// Why a transfer failed.
pub(crate) enum TransferError {
    /// Nothing was done, for certain.
    NotDone(mysql_async::Error),
    /// The answer to `COMMIT` was lost: the transfer may or may not have been made.
    Unknown(mysql_async::Error),
}

impl From<mysql_async::Error> for TransferError {
    fn from(error: mysql_async::Error) -> Self {
        Self::NotDone(error)
    }
}

type Row = (u64, String, u64);

fn account((id, owner, balance): Row) -> Account {
    Account { id, owner, balance }
}

/// Creates the table if it does not exist. If it does, the privilege to create it is not needed.
pub(crate) async fn make_table(conn: &mut PooledConn) -> mysql_async::Result<()> {
    const NO_SUCH_TABLE: u16 = 1146;
    match conn.query_drop("SELECT 1 FROM account LIMIT 0").await {
        Err(mysql_async::Error::Server(error)) if error.code == NO_SUCH_TABLE => {
            conn.query_drop(
                "CREATE TABLE IF NOT EXISTS account (
                    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
                    owner VARCHAR(80) NOT NULL,
                    balance BIGINT UNSIGNED NOT NULL
                ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4",
            )
            .await
        }
        outcome => outcome,
    }
}

/// Lists up to `limit` accounts with ids above `after`, in order.
pub(crate) async fn list(
    conn: &mut PooledConn,
    after: u64,
    limit: u32,
) -> mysql_async::Result<Vec<Account>> {
    conn.exec_map(
        "SELECT id, owner, balance FROM account WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
        account,
    )
    .await
}

pub(crate) async fn read(conn: &mut PooledConn, id: u64) -> mysql_async::Result<Option<Account>> {
    let row: Option<Row> = conn
        .exec_first("SELECT id, owner, balance FROM account WHERE id = ?", (id,))
        .await?;
    Ok(row.map(account))
}

pub(crate) async fn create(
    conn: &mut PooledConn,
    owner: String,
    balance: u64,
) -> mysql_async::Result<Account> {
    conn.exec_drop(
        "INSERT INTO account (owner, balance) VALUES (?, ?)",
        (&owner, balance),
    )
    .await?;
    let id = conn.last_insert_id().unwrap_or_default();
    Ok(Account { id, owner, balance })
}

/// Moves an amount from one account to another, or does nothing.
///
/// A transaction that is dropped before its end is rolled back by the pool.
pub(crate) async fn transfer(
    conn: &mut PooledConn,
    from: u64,
    to: u64,
    amount: u64,
) -> Result<Transfer, TransferError> {
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    // All transfers lock accounts in the same order, so two of them cannot deadlock.
    let mut locked = transaction
        .exec_map(
            "SELECT id, owner, balance FROM account WHERE id IN (?, ?) ORDER BY id FOR UPDATE",
            (from, to),
            account,
        )
        .await?;
    let mut take = |id| {
        let place = locked.iter().position(|account| account.id == id)?;
        Some(locked.swap_remove(place))
    };
    let Some(mut payer) = take(from) else {
        return Ok(Transfer::NoAccount(from));
    };
    let Some(mut payee) = take(to) else {
        return Ok(Transfer::NoAccount(to));
    };
    let Some(rest) = payer.balance.checked_sub(amount) else {
        return Ok(Transfer::NotEnough {
            balance: payer.balance,
        });
    };
    let sum = payee.balance.saturating_add(amount);
    if sum > MOST {
        return Ok(Transfer::TooMuch);
    }
    (payer.balance, payee.balance) = (rest, sum);
    for account in [&payer, &payee] {
        transaction
            .exec_drop(
                "UPDATE account SET balance = ? WHERE id = ?",
                (account.balance, account.id),
            )
            .await?;
    }
    transaction.commit().await.map_err(TransferError::Unknown)?;
    Ok(Transfer::Done {
        from: payer,
        to: payee,
    })
}
