//! Divides the rows of `exec_batch` into runs, each of which fits into one bulk command.
//!
//! On MariaDB the driver sends many rows in one command, which names the type of each parameter
//! once. It takes the types from the rows of the first packet, so a row with a value of another
//! type is refused by the server (1210), or read as another number.

use std::{collections::HashMap, iter};

use mysql_async::{DriverError, Params, Value};

/// The most bytes of one run if the server's limit for a packet is not known.
const SMALL_PACKET: usize = 64 * 1024;

/// The bytes of a command before the types of the parameters, and those that the driver leaves
/// free.
const HEAD: usize = 11;

/// The rows of a batch.
pub(super) struct Rows<I> {
    rows: I,
    /// How many parameters each row must have.
    arity: u16,
    /// The most bytes of one run.
    limit: usize,
    /// The next row, if it was taken from the iterator already.
    next: Option<Params>,
    /// The types of the current run's parameters.
    types: Types,
    /// The bytes of the current run.
    size: usize,
    taken: u64,
}

/// The types of a run's parameters; `None` where all values so far were NULL.
enum Types {
    Positional(Vec<Option<Type>>),
    Named(HashMap<Vec<u8>, Option<Type>>),
}

/// The type of a parameter as the command names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Bytes,
    Signed,
    Unsigned,
    Float,
    Double,
    Date,
    Time,
}

impl<P: Into<Params>, I: Iterator<Item = P>> Rows<I> {
    /// `max_packet` is the longest packet that the server accepts, if known.
    pub(super) fn new(rows: I, arity: u16, max_packet: Option<usize>) -> Self {
        Self {
            rows,
            arity,
            limit: max_packet.unwrap_or(SMALL_PACKET),
            next: None,
            types: Types::Positional(Vec::new()),
            size: 0,
            taken: 0,
        }
    }

    /// How many rows were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The rows up to the first that does not fit into their command; `None` if there are no more
    /// rows.
    ///
    /// # Errors
    ///
    /// If the next row has a different number of parameters than the statement.
    pub(super) fn next_run(
        &mut self,
    ) -> Result<Option<impl Iterator<Item = Params> + Send>, DriverError>
    where
        I: Send,
    {
        let Some(first) = self
            .next
            .take()
            .or_else(|| self.rows.next().map(Into::into))
        else {
            return Ok(None);
        };
        self.check_arity(&first)?;
        self.size = HEAD.saturating_add(usize::from(self.arity).saturating_mul(2));
        self.types = match &first {
            Params::Empty => Types::Positional(Vec::new()),
            Params::Positional(values) => Types::Positional(values.iter().map(type_of).collect()),
            Params::Named(values) => Types::Named(
                values
                    .iter()
                    .map(|(name, value)| (name.clone(), type_of(value)))
                    .collect(),
            ),
        };
        self.size = self.size.saturating_add(self.size_of(&first));
        self.taken = self.taken.saturating_add(1);
        Ok(Some(
            iter::once(first).chain(iter::from_fn(|| self.next_of_run())),
        ))
    }

    /// The next row, if it fits into the run.
    fn next_of_run(&mut self) -> Option<Params> {
        if self.next.is_some() {
            return None;
        }
        let row = self.rows.next()?.into();
        if self.take(&row) {
            self.taken = self.taken.saturating_add(1);
            Some(row)
        } else {
            self.next = Some(row);
            None
        }
    }

    /// Whether a row fits into the run by types and size. Records types that were not known before.
    fn take(&mut self, row: &Params) -> bool {
        let mut size = self.size;
        let mut learns = false;
        let mut fits = |known: Option<Type>, value: &Value| {
            size = size.saturating_add(size_of(value));
            let of_value = type_of(value);
            learns |= known.is_none() && of_value.is_some();
            known.is_none() || of_value.is_none() || known == of_value
        };
        let fit = match (&self.types, row) {
            (Types::Positional(types), Params::Positional(values)) => {
                let mut pairs = types.iter().zip(values);
                types.len() == values.len() && pairs.all(|(known, value)| fits(*known, value))
            }
            (Types::Named(types), Params::Named(values)) => {
                let mut named = values.iter();
                named.all(|(name, value)| types.get(name).is_some_and(|known| fits(*known, value)))
            }
            _ => false,
        };
        if matches!(row, Params::Named(_)) {
            size = self.size.saturating_add(self.size_of(row));
        }
        if !fit || size > self.limit {
            return false;
        }
        if learns {
            self.types.learn(row);
        }
        self.size = size;
        true
    }

    fn check_arity(&self, row: &Params) -> Result<(), DriverError> {
        let supplied = match row {
            Params::Empty => 0,
            Params::Positional(values) => values.len(),
            // The driver looks each name up.
            Params::Named(_) => return Ok(()),
        };
        if supplied == usize::from(self.arity) {
            Ok(())
        } else {
            Err(DriverError::StmtParamsMismatch {
                required: self.arity,
                supplied,
            })
        }
    }

    /// An upper bound of a row's bytes in the command.
    fn size_of(&self, row: &Params) -> usize {
        match row {
            Params::Empty => 0,
            Params::Positional(values) => values.iter().map(size_of).sum(),
            // A statement may use a name more than once.
            Params::Named(values) => {
                let largest = values.values().map(size_of).max().unwrap_or_default();
                largest.saturating_mul(usize::from(self.arity))
            }
        }
    }
}

impl Types {
    fn learn(&mut self, row: &Params) {
        match (self, row) {
            (Self::Positional(types), Params::Positional(values)) => {
                for (known, value) in types.iter_mut().zip(values) {
                    *known = known.or_else(|| type_of(value));
                }
            }
            (Self::Named(types), Params::Named(values)) => {
                for (name, known) in types.iter_mut() {
                    *known = known.or_else(|| values.get(name).and_then(type_of));
                }
            }
            _ => {}
        }
    }
}

#[inline]
fn type_of(value: &Value) -> Option<Type> {
    Some(match value {
        Value::NULL => return None,
        Value::Bytes(_) => Type::Bytes,
        Value::Int(_) => Type::Signed,
        Value::UInt(_) => Type::Unsigned,
        Value::Float(_) => Type::Float,
        Value::Double(_) => Type::Double,
        Value::Date(..) => Type::Date,
        Value::Time(..) => Type::Time,
    })
}

/// The value's bytes, including that of the NULL indicator.
#[inline]
fn size_of(value: &Value) -> usize {
    usize::try_from(value.bin_len())
        .unwrap_or(usize::MAX)
        .saturating_add(1)
}
