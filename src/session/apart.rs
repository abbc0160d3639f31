//! Places in memory of their own, for what many threads write.

use std::ops::Deref;

/// Shares no cache line with what is beside it: a thread that writes this does not slow down others that read that.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Apart<T>(T);

impl<T> Apart<T> {
    pub(crate) const fn new(inner: T) -> Self {
        Self(inner)
    }
}

impl<T> Deref for Apart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
