//! Getting and returning alone, with nothing sent: the pool's own cost.
//!
//! A bare connection is neither obtained nor returned, so the driver's own pool, without the reset,
//! takes its place.

use criterion::{Criterion, criterion_group, criterion_main};
use criterion_benches::{Bench, criterion, group};
use harness::{
    Work,
    pools::{DEADPOOL, DRIVER_UNRESET, OURS},
};

fn get_and_return(criterion: &mut Criterion) {
    let mut group = group(criterion, "get and return");
    let peers = [OURS, DEADPOOL, DRIVER_UNRESET];
    Bench::new().work(&mut group, &peers, Work::Nothing, (1, 8));
}

criterion_group!(name = benches; config = criterion(); targets = get_and_return);
criterion_main!(benches);
