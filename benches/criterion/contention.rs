//! More tasks than connections: lookups by 64 tasks on 8 connections, and plain handovers of one
//! connection among 1 to 10,000 waiting tasks.
//!
//! A handover is a get, one yield to the other tasks while the connection is in use, and a return.

use criterion::{Criterion, criterion_group, criterion_main};
use criterion_benches::{Bench, criterion, group};
use harness::{
    Work,
    pools::{BARE, DEADPOOL, DRIVER, DRIVER_UNRESET, OURS},
};

fn lookups(criterion: &mut Criterion) {
    let mut group = group(criterion, "lookups, 64 tasks on 8 connections");
    let peers = [BARE, OURS, DEADPOOL, DRIVER];
    Bench::new().work(&mut group, &peers, Work::Lookup, (64, 8));
}

fn handovers(criterion: &mut Criterion) {
    let bench = Bench::new();
    for waiting in [1, 100, 1_000, 10_000] {
        let mut group = group(
            criterion,
            &format!("handovers, {waiting} tasks on 1 connection"),
        );
        let peers = [OURS, DEADPOOL, DRIVER_UNRESET];
        bench.work(&mut group, &peers, Work::Hold, (waiting, 1));
    }
}

criterion_group!(name = benches; config = criterion(); targets = lookups, handovers);
criterion_main!(benches);
