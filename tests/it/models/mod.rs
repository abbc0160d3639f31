//! The pool's promises against random sequences of steps.

mod accounting;
