//! Suggestions for misspelt keys.

/// The one of `known` that is nearest to `word`. `None` if even the nearest is too different.
///
/// Dashes count as underscores and upper case as lower case, so a flag's or a variable's spelling in the file is found
/// as well.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key: the distance would cost O(length) per key, and the file may hold anything.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let word = word.strip_prefix("tidegate_").unwrap_or(&word);
    let (steps, key) = known.map(|key| (distance(word, key), key)).min()?;
    // Two, so that swapped letters are found even in a short key.
    (steps <= (key.len() / 5).max(2)).then_some(key)
}

/// The Levenshtein distance: letters to insert, delete or replace to get from `a` to `b`.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letters() {
        for (a, b, steps) in
            [("", "abc", 3), ("abc", "abc", 0), ("abc", "adc", 1), ("abc", "bc", 1), ("ab", "ba", 2)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
    }

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let known = || ["drain", "gzip", "flush_interval"].into_iter();
        for (word, key) in [
            ("drian", Some("drain")),
            ("drains", Some("drain")),
            ("flush-intervall", Some("flush_interval")),
            ("TIDEGATE_GZIP", Some("gzip")),
            ("compression", None),
        ] {
            assert_eq!(nearest(word, known()), key, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), known()), None);
    }
}
