//! Numbers with a unit, written without loss in the largest unit that fits: `90s`, not `1m 30s` or `1.5m`.

/// Bytes. `KB` is left out on purpose: it can mean 1,000 or 1,024.
pub(crate) const BYTES: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Nanoseconds.
pub(crate) const NANOSECONDS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Prints `count` in the largest of `units`, sorted from the largest to 1, that divides it. Zero needs no unit.
pub(crate) fn print(count: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, size)| count != 0 && count.is_multiple_of(*size));
    fits.map_or_else(|| count.to_string(), |(unit, size)| format!("{}{unit}", count / size))
}

/// Parses a whole number and one of `units` in any case, with or without a space; a number without unit counts ones.
/// `None` for anything else and above 64 bits.
pub(crate) fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = unit.trim_start();
    let (_, size) = units
        .iter()
        .find(|(name, size)| name.eq_ignore_ascii_case(unit) || (unit.is_empty() && *size == 1))?;
    digits.parse::<u64>().ok()?.checked_mul(*size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for count in [0, 1, 1023, 1024, 1025, 65_536, 1 << 20, 3 << 30, u64::MAX] {
            assert_eq!(parse(&print(count, BYTES), BYTES), Some(count));
        }
        assert_eq!(print(65_536, BYTES), "64KiB");
        assert_eq!(print(75_000_000_000, NANOSECONDS), "75s");
    }

    #[test]
    fn units_are_spelt_out_and_overflow_is_refused() {
        assert_eq!(parse("64 kib", BYTES), Some(65_536));
        assert_eq!(parse("64", BYTES), Some(64));
        for text in ["", "KiB", "64KB", "64K", "-1", "+1", "1.5MiB", "16777216TiB", "1 2", "1B "] {
            assert_eq!(parse(text, BYTES), None, "{text:?}");
        }
    }
}
