//! Numbers: counts and times as figures, and figures as text.

/// A number with as many decimals as its size deserves.
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "-".to_owned()
    } else if value.fract() == 0.0 || value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else if value.abs() >= 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// `SplitMix64`: the same numbers again with the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// A count as a figure.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub fn count(value: u64) -> f64 {
    value as f64
}

/// Nanoseconds as milliseconds.
#[must_use]
pub fn ms(nanoseconds: u64) -> f64 {
    count(nanoseconds) / 1e6
}

/// `total / among`, or zero among none.
#[must_use]
pub fn per(total: f64, among: u64) -> f64 {
    if among == 0 { 0.0 } else { total / count(among) }
}

/// A whole number with its thousands apart.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Adds the counts of `$from` that are named to those of `$to`.
macro_rules! add_counts {
    ($to:expr, $from:expr; $($count:ident),+ $(,)?) => { $($to.$count += $from.$count;)+ };
}
pub(crate) use add_counts;
