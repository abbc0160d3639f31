//! How the answer to a command is read, and its rows converted.

#![expect(
    unnameable_types,
    reason = "sealed: only types of this crate implement `Executor`"
)]

use std::{any::type_name, future::Future, marker::PhantomData};

use mysql_async::{
    QueryResult, Row, Value,
    prelude::{FromRow, Protocol},
};

use crate::error::{Brief, Error};

/// How the answer is read.
pub trait Read<P>: Send {
    type Output: Send;

    /// Whether reading may take long even once the whole answer has arrived, because of many rows
    /// or the caller's own code.
    const IS_LONG: bool = true;

    /// Reads the answer to its end. Also returns how many rows the caller gets, if they are
    /// counted.
    ///
    /// A row that does not convert is the inner error. As far as the connection and the statistics
    /// are concerned, the statement succeeded.
    fn read(
        self,
        result: QueryResult<'_, 'static, P>,
    ) -> impl Future<Output = mysql_async::Result<(Converted<Self::Output>, Option<u64>)>> + Send;
}

/// The value for the caller of an answer that was read, or the error of a row that does not
/// convert.
pub(crate) type Converted<T> = Result<T, Error>;

/// Collects the rows.
#[derive(Debug)]
pub(crate) struct All<T>(PhantomData<fn() -> T>);

/// Returns the first row, and skips the others.
#[derive(Debug)]
pub(crate) struct First<T>(PhantomData<fn() -> T>);

/// Maps each row.
#[derive(Debug)]
pub(crate) struct Mapped<T, F>(F, PhantomData<fn(T)>);

/// Folds the rows into one value.
#[derive(Debug)]
pub(crate) struct Folded<T, U, F>(U, F, PhantomData<fn(T)>);

/// Discards all rows.
#[derive(Debug)]
pub(crate) struct Nothing;

/// Collects the rows.
pub(crate) fn all<T>() -> All<T> {
    All(PhantomData)
}

/// Returns the first row.
pub(crate) fn first<T>() -> First<T> {
    First(PhantomData)
}

/// Maps each row.
pub(crate) fn mapped<T, F>(map: F) -> Mapped<T, F> {
    Mapped(map, PhantomData)
}

/// Folds the rows.
pub(crate) fn folded<T, U, F>(init: U, fold: F) -> Folded<T, U, F> {
    Folded(init, fold, PhantomData)
}

impl<T: FromRow + Send + 'static, P: Protocol> Read<P> for All<T> {
    type Output = Vec<T>;

    async fn read(
        self,
        result: QueryResult<'_, 'static, P>,
    ) -> mysql_async::Result<(Converted<Vec<T>>, Option<u64>)> {
        let rows = collect(result, |row| row).await?;
        let count = count(&rows);
        Ok((rows, count))
    }
}

impl<T: FromRow + Send + 'static, P: Protocol> Read<P> for First<T> {
    type Output = Option<T>;
    const IS_LONG: bool = false;

    async fn read(
        self,
        mut result: QueryResult<'_, 'static, P>,
    ) -> mysql_async::Result<(Converted<Option<T>>, Option<u64>)> {
        let row = if result.is_empty() {
            None
        } else {
            result.next().await?
        };
        result.drop_result().await?;
        let row = row.map(convert).transpose();
        let count = row.as_ref().ok().map(|row| row.is_some().into());
        Ok((row, count))
    }
}

impl<T, P, U, F> Read<P> for Mapped<T, F>
where
    T: FromRow + Send + 'static,
    P: Protocol,
    U: Send,
    F: FnMut(T) -> U + Send,
{
    type Output = Vec<U>;

    async fn read(
        self,
        result: QueryResult<'_, 'static, P>,
    ) -> mysql_async::Result<(Converted<Vec<U>>, Option<u64>)> {
        let rows = collect(result, self.0).await?;
        let count = count(&rows);
        Ok((rows, count))
    }
}

impl<T, P, U, F> Read<P> for Folded<T, U, F>
where
    T: FromRow + Send + 'static,
    P: Protocol,
    U: Send,
    F: FnMut(U, T) -> U + Send,
{
    type Output = U;

    async fn read(
        self,
        result: QueryResult<'_, 'static, P>,
    ) -> mysql_async::Result<(Converted<U>, Option<u64>)> {
        let (mut fold, mut rows) = (self.1, 0_u64);
        let folded = fold_rows(result, self.0, |folded, row: T| {
            rows = rows.saturating_add(1);
            fold(folded, row)
        });
        let folded = folded.await?;
        let count = folded.is_ok().then_some(rows);
        Ok((folded, count))
    }
}

impl<P: Protocol> Read<P> for Nothing {
    type Output = ();
    const IS_LONG: bool = false;

    async fn read(
        self,
        result: QueryResult<'_, 'static, P>,
    ) -> mysql_async::Result<(Converted<()>, Option<u64>)> {
        result.drop_result().await?;
        Ok((Ok(()), None))
    }
}

/// Collects the mapped rows of the first result set.
async fn collect<T: FromRow + Send + 'static, U, P: Protocol>(
    result: QueryResult<'_, 'static, P>,
    mut map: impl FnMut(T) -> U,
) -> mysql_async::Result<Converted<Vec<U>>> {
    let push = |mut rows: Vec<U>, row| {
        rows.push(map(row));
        rows
    };
    fold_rows(result, Vec::new(), push).await
}

/// Folds the rows of the first result set. After the first row that does not convert, the rest are
/// read and discarded.
async fn fold_rows<T: FromRow + Send + 'static, U, P: Protocol>(
    mut result: QueryResult<'_, 'static, P>,
    init: U,
    mut fold: impl FnMut(U, T) -> U,
) -> mysql_async::Result<Converted<U>> {
    let mut folded = init;
    while let Some(row) = result.next().await? {
        match convert(row) {
            Ok(row) => folded = fold(folded, row),
            Err(error) => {
                result.drop_result().await?;
                return Ok(Err(error));
            }
        }
    }
    result.drop_result().await?;
    Ok(Ok(folded))
}

fn count<T>(rows: &Converted<Vec<T>>) -> Option<u64> {
    let rows = rows.as_ref().ok()?;
    u64::try_from(rows.len()).ok()
}

/// Converts a row. Where the driver's methods panic, this returns an error, which shows no value.
pub(super) fn convert<T: FromRow>(row: Row) -> Converted<T> {
    T::from_row_opt(row).map_err(|error| Error::Conversion {
        row: describe(&error.0),
        target: type_name::<T>(),
    })
}

/// The columns of a row by place, with their names and types: `2: name NULL, 1: id LONGLONG`. Those
/// that are `NULL`, the usual fault, come first, because long texts are cut off.
///
/// Only columns of tables have names here: that of an expression is its text, literals included.
#[cold]
fn describe(row: &Row) -> String {
    let columns = row.columns_ref().iter().enumerate();
    let mut columns: Vec<_> = columns
        .map(|(index, column)| {
            let is_null = matches!(row.as_ref(index), Some(Value::NULL));
            let kind = format!("{:?}", column.column_type());
            let kind = kind.strip_prefix("MYSQL_TYPE_").unwrap_or(&kind);
            let is_of_table = !column.org_table_ref().is_empty();
            let name = is_of_table.then(|| column.org_name_str());
            let name = name.map_or_else(String::new, |name| format!("{name} "));
            let place = index.saturating_add(1);
            let kind = if is_null { "NULL" } else { kind };
            (!is_null, format!("{place}: {name}{kind}"))
        })
        .collect();
    columns.sort_by_key(|(is_value, _)| *is_value);
    let columns: Vec<_> = columns.into_iter().map(|(_, column)| column).collect();
    Brief(columns.join(", ")).to_string()
}
