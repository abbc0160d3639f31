//! Callers that leave something behind: a committed transaction, an open one, a user variable.
//!
//! Bare connections and deadpool clean nothing up, so their times are those of the work alone.

use criterion::{Criterion, criterion_group, criterion_main};
use criterion_benches::{Bench, criterion, group};
use harness::{
    Work,
    pools::{BARE, DEADPOOL, DRIVER, OURS},
};

fn cleaning(criterion: &mut Criterion) {
    let bench = Bench::new();
    for (what, work) in [
        ("a committed transaction", Work::CommittedTransaction),
        ("a transaction dropped open", Work::DroppedTransaction),
        ("a user variable set", Work::UserVariable),
    ] {
        let mut group = group(
            criterion,
            &format!("lookup and {what}, 8 tasks on 8 connections"),
        );
        let peers = [BARE, OURS, DEADPOOL, DRIVER];
        bench.work(&mut group, &peers, work, (8, 8));
    }
}

criterion_group!(name = benches; config = criterion(); targets = cleaning);
criterion_main!(benches);
