//! The lookup table.

use mysql_warm_pool::mysql_async::{Conn, prelude::Queryable};

use crate::Result;

pub const ROWS: u32 = 1000;
pub const LOOKUP: &str = "SELECT value FROM mysql_warm_pool_peers WHERE id = ?";

/// Creates the table in the URL's database, under a unique name.
pub async fn create(conn: &mut Conn) -> Result<()> {
    drop_table(conn).await?;
    conn.query_drop(
        "CREATE TABLE mysql_warm_pool_peers \
         (id INT UNSIGNED PRIMARY KEY, value INT UNSIGNED NOT NULL) ENGINE=InnoDB",
    )
    .await?;
    let rows: Vec<_> = (0..ROWS)
        .map(|id| format!("({id}, {})", value(id)))
        .collect();
    let insert = format!(
        "INSERT INTO mysql_warm_pool_peers VALUES {}",
        rows.join(",")
    );
    conn.query_drop(insert).await?;
    Ok(())
}

pub async fn drop_table(conn: &mut Conn) -> Result<()> {
    conn.query_drop("DROP TABLE IF EXISTS mysql_warm_pool_peers")
        .await?;
    Ok(())
}

/// Fails unless a lookup found the right row: a peer that mixes up answers must not look fast.
pub fn check(id: u32, found: Option<u32>) -> Result<()> {
    if found == Some(value(id)) {
        Ok(())
    } else {
        Err(format!("item {id} has value {}, but {found:?} was found", value(id)).into())
    }
}

fn value(id: u32) -> u32 {
    id * 3 + 1
}
