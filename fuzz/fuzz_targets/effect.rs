//! Fuzzes `src/session/effect`: no bytes cause a panic, and what holds for every text holds.
//!
//! `scripts/fuzz -max_total_time=300` runs it for five minutes on stable Rust. So does
//! `cargo +nightly fuzz run effect`, with cargo-fuzz and a nightly toolchain.

#![no_main]

use libfuzzer_sys::fuzz_target;

// Private to the crate, but it depends on nothing else there.
#[path = "../../src/session/effect/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the crate uses the rest")]
mod effect;

use effect::{
    Effect,
    changes::Changes,
    effect_of,
    sanitize::{MAX_CHARS, sanitized, table_of, verb_of},
};

fuzz_target!(|text: &[u8]| {
    let effect = effect_of(text);
    assert_eq!(effect_of(text), effect, "the second answer differs");

    // After any text, on its last line too: unless it is certain that this is a statement of its
    // own, the whole is unknown.
    let with_role = [text, b"\n; SET @x = 1, ROLE r"].concat();
    assert!(
        includes(effect_of(&with_role), Effect::UNKNOWN),
        "a role is missed"
    );

    let changes = |texts: &[&[u8]]| {
        let mut changes = Changes::default();
        for text in texts {
            changes.record(text);
        }
        changes.all().map(<[_]>::to_vec)
    };
    assert_eq!(changes(&[&with_role]), None, "a role is not undone");
    if let Some(named) = changes(&[text]) {
        // What no reset clears is looked for in strings and comments too, and is never undone.
        assert!(!effect.role, "named, but more than that");
        assert!(named.len() <= 8, "too many to undo");
        if effect == Effect::NEUTRAL {
            assert!(named.is_empty(), "nothing to undo");
        }
        if let Some(more) = changes(&[text, b"SET @x = 1"]) {
            assert!(more.starts_with(&named), "one is missed");
        }
    }

    let after_another = [b"DO 0;\n", text].concat();
    assert!(
        includes(effect_of(&after_another), effect),
        "missed after another statement"
    );

    let shown = sanitized(text);
    let is_in_line = |shown: &str| shown.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    assert!(shown.len() <= MAX_CHARS && is_in_line(&shown), "{shown}");
    // Without the comment that followed it, `--` may begin one.
    if !shown.ends_with("...") && !shown.contains("--") {
        assert_eq!(sanitized(shown.as_bytes()), shown, "a literal is left");
        assert_eq!(verb_of(shown.as_bytes()), verb_of(text), "another verb");
    }
    assert!(table_of(text).is_none_or(|table| is_in_line(&table)));

    if effect == Effect::NEUTRAL {
        let with_comment = [text, b"\n/* no matter */"].concat();
        assert_eq!(effect_of(&with_comment), effect, "a comment matters");
    }
});

fn includes(whole: Effect, part: Effect) -> bool {
    whole.union(part) == whole
}
