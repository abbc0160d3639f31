//! Primary-key lookups by 8 tasks on 8 connections: the time for one lookup by each task.

use criterion::{Criterion, criterion_group, criterion_main};
use criterion_benches::{Bench, criterion, group};
use harness::{
    Work,
    pools::{BARE, DEADPOOL, DRIVER, OURS},
};

fn throughput(criterion: &mut Criterion) {
    let mut group = group(criterion, "lookups, 8 tasks on 8 connections");
    let peers = [BARE, OURS, DEADPOOL, DRIVER];
    Bench::new().work(&mut group, &peers, Work::Lookup, (8, 8));
}

criterion_group!(name = benches; config = criterion(); targets = throughput);
criterion_main!(benches);
