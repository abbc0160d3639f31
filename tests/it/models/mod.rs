//! Promises against random sequences of steps.

mod accounting;
