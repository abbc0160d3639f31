//! `RowStream`: the rows of a result, one by one.

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use mysql_async::{
    ResultSetStream, Row,
    prelude::{FromRow, Protocol},
};

use crate::session::{follow::Follow, runtime::Silence};

use super::read::convert;

/// The rows of the first result set of a statement, one by one; returned by
/// [`exec_stream`](crate::PooledConn::exec_stream) and
/// [`query_stream`](crate::PooledConn::query_stream).
///
/// It is a [`Stream`], and dereferences to the driver's [`ResultSetStream`], which shows the
/// columns. Unlike the driver's own stream it ends with an error when the pool cuts it off: at the
/// end of `close_timeout` in [`Pool::close`](crate::Pool::close), or if a row does not come within
/// `statement_timeout`. A row that does not convert to `T` is an
/// [`Error::Conversion`](crate::Error::Conversion), after which the stream goes on.
///
/// ```no_run
/// use futures_util::TryStreamExt; // of the crate `futures-util`
///
/// # async fn example(pool: mysql_warm_pool::Pool) -> Result<(), mysql_warm_pool::Error> {
/// let mut conn = pool.get().await?;
/// let select = "SELECT id, name FROM item WHERE id > ?";
/// let mut rows = conn.exec_stream::<(u64, String), _, _>(select, (7,)).await?;
/// while let Some((id, name)) = rows.try_next().await? {
///     println!("{id}: {name}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Dropping
///
/// The next statement reads the remaining rows; so does the return, which closes the connection if
/// there are too many.
pub struct RowStream<'a, T, P> {
    rows: ResultSetStream<'a, 'a, 'static, Row, P>,
    follow: &'a mut Follow,
    /// It waits for a row.
    waits: Option<Silence>,
    is_cut: bool,
    converts_to: PhantomData<fn() -> T>,
}

impl<'a, T, P> RowStream<'a, T, P> {
    pub(super) fn new(
        rows: ResultSetStream<'a, 'a, 'static, Row, P>,
        follow: &'a mut Follow,
    ) -> Self {
        Self {
            rows,
            follow,
            waits: None,
            is_cut: false,
            converts_to: PhantomData,
        }
    }
}

impl<T, P> Stream for RowStream<'_, T, P>
where
    T: Unpin + FromRow + Send + 'static,
    P: Protocol + Unpin,
{
    type Item = mysql_async::Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_cut {
            return Poll::Ready(None);
        }
        if let Poll::Ready(row) = Pin::new(&mut this.rows).poll_next(cx) {
            this.follow.end_waiting(&mut this.waits);
            return Poll::Ready(row.map(|row| {
                let row = row.map_err(|error| this.follow.record_read_error(error))?;
                Ok(convert(row)?)
            }));
        }
        this.follow.poll_cut(&mut this.waits, cx).map(|error| {
            this.is_cut = true;
            Some(Err(error))
        })
    }
}

impl<T, P> Drop for RowStream<'_, T, P> {
    fn drop(&mut self) {
        self.follow.end_waiting(&mut self.waits);
    }
}

impl<'a, T, P> Deref for RowStream<'a, T, P> {
    type Target = ResultSetStream<'a, 'a, 'static, Row, P>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl<T, P> fmt::Debug for RowStream<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream")
            .field("columns", &self.rows.columns_ref().len())
            .finish_non_exhaustive()
    }
}
