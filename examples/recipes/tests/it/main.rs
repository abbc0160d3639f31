//! Each recipe, started against real servers and asked what its users would ask.

mod actix;
mod axum;
mod graceful_shutdown;
mod http;
mod iam_tokens;
mod metrics;
mod migrations;
mod program;
mod tonic_health;
mod writer_and_reader;
