//! Names that were probably meant.

/// Finds the name that `word` is closest to: one letter away, or two from a longer name. Capitals
/// and hyphens do not count.
pub(crate) fn similar<'a>(
    word: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let word = letters(word);
    (0..=2_usize).find_map(|edits| {
        names.clone().find(|name| {
            let name = letters(name);
            // With two other letters, a short word is another word.
            name.len() >= edits.saturating_mul(3) && is_within(edits, &word, &name)
        })
    })
}

/// What is allowed, and the name that was probably meant.
pub(crate) fn or_similar(allowed: String, meant: Option<String>) -> String {
    match meant {
        Some(meant) => format!("{allowed} (did you mean {meant}?)"),
        None => allowed,
    }
}

fn letters(text: &str) -> Vec<char> {
    text.to_lowercase().replace('-', "_").chars().collect()
}

/// Whether at most `edits` letters have to be added, removed, replaced, or swapped with the next
/// one, so that one text becomes the other.
fn is_within(edits: usize, one: &[char], other: &[char]) -> bool {
    let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) else {
        return one.len().abs_diff(other.len()) <= edits;
    };
    if a == b {
        return is_within(edits, one_rest, other_rest);
    }
    let are_swapped = |left| match (one_rest, other_rest) {
        ([c, one_rest @ ..], [d, other_rest @ ..]) => {
            a == d && b == c && is_within(left, one_rest, other_rest)
        }
        _ => false,
    };
    edits.checked_sub(1).is_some_and(|left| {
        are_swapped(left)
            || is_within(left, one_rest, other_rest)
            || is_within(left, one_rest, other)
            || is_within(left, one, other_rest)
    })
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn a_name_up_to_two_letters_away_is_found() {
        let names = [
            "size",
            "overflow",
            "timeout",
            "recycle",
            "keepalive",
            "ready_at",
        ];
        for (word, expected) in [
            ("sizes", Some("size")),
            ("siez", Some("size")),
            ("Size", Some("size")),
            ("site", Some("size")),
            ("pipe", None),
            ("tiemout", Some("timeout")),
            ("time_outs", Some("timeout")),
            ("time", None),
            ("keep-alive", Some("keepalive")),
            ("ready-at", Some("ready_at")),
            ("over", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(similar(word, names.into_iter()), expected, "{word}");
        }
        let long = "timeout".repeat(100_000);
        assert_eq!(similar(&long, names.into_iter()), None);
    }
}
