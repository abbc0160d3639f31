//! Fuzzes the judge of statements (`src/session/effect/mod.rs`): bytes in, no panic, and what must hold of every text does.
//!
//! `scripts/fuzz -max_total_time=300` runs it for five minutes on stable Rust. With cargo-fuzz and a nightly toolchain,
//! `cargo +nightly fuzz run judge` does too.

#![no_main]

use libfuzzer_sys::fuzz_target;

// The judge is private to the crate, and stands alone.
#[path = "../../src/session/effect/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the crate uses the rest")]
mod sql;

use sql::{Effect, effect_of};

fuzz_target!(|text: &[u8]| {
    let effect = effect_of(text);
    assert_eq!(effect_of(text), effect, "judged twice");

    // Whatever stood before it, on the last line too: if it is not sure that this is a statement of its own, the whole
    // is unknown.
    let changing = [text, b"\n; SET @x = 1"].concat();
    assert!(effect_of(&changing).session, "a change is hidden");

    let behind_another = [b"DO 0;\n", text].concat();
    assert!(
        includes(effect_of(&behind_another), effect),
        "hidden behind another statement"
    );

    if effect == Effect::NEUTRAL {
        let with_comment = [text, b"\n/* no matter */"].concat();
        assert_eq!(effect_of(&with_comment), effect, "a comment matters");
    }
});

fn includes(whole: Effect, part: Effect) -> bool {
    whole.union(part) == whole
}
