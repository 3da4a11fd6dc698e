//! Positions in the order: offsets inside the process, `<epoch>-<offset>` on the wire.

use std::fmt;

/// A position in the node's total order. 0 is before the first event.
pub type Offset = u64;

/// Names one [term](crate::types::lineage::Term) of the order, so that an id from another one is never read as a position
/// in this one. Six characters of `[a-z0-9]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epoch([u8; EPOCH_BYTES]);

/// Length of an epoch's text.
pub const EPOCH_BYTES: usize = 6;

/// Longest `<epoch>-<offset>`.
pub const POSITION_BYTES_MAX: usize = EPOCH_BYTES + 1 + 20;

impl Epoch {
    /// The epoch numbered `seed`, modulo 36^6 (2.2 billion).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rest = seed;
        Self(std::array::from_fn(|_| {
            let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
            rest /= 36;
            digit
        }))
    }

    /// The epoch of this text, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.as_bytes().try_into().ok().filter(|_| is_epoch(text)).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("built from ASCII digits and letters")
    }

    /// The event id of `offset`: `<epoch>-<offset>`.
    #[must_use]
    pub fn position(self, offset: Offset) -> Position {
        let mut text = [0; POSITION_BYTES_MAX];
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(offset).as_bytes();
        let len = EPOCH_BYTES + 1 + digits.len();
        text[..EPOCH_BYTES].copy_from_slice(&self.0);
        text[EPOCH_BYTES] = b'-';
        text[EPOCH_BYTES + 1..len].copy_from_slice(digits);
        Position { text, len }
    }
}

/// Whether `id` is a position in any epoch. A publisher may not choose such an id: a subscriber that resumes with it
/// would start at the publisher's position instead of its own.
#[must_use]
pub fn is_position(id: &str) -> bool {
    parse(id).is_some()
}

/// The epoch and the offset of `id`, if it is written exactly as [`Epoch::position`] writes it.
pub(crate) fn parse(id: &str) -> Option<(&str, Offset)> {
    let (epoch, digits) = id.split_once('-')?;
    let is_canonical =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let offset = digits.parse().ok().filter(|_| is_canonical)?;
    is_epoch(epoch).then_some((epoch, offset))
}

fn is_epoch(text: &str) -> bool {
    text.len() == EPOCH_BYTES && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `<epoch>-<offset>` as text, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    text: [u8; POSITION_BYTES_MAX],
    len: usize,
}

impl Position {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).expect("built from ASCII")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_its_epoch_and_offset() {
        let epoch = Epoch::new(7_654_321);
        for offset in [0, 1, 9, 10, u64::MAX] {
            assert_eq!(parse(epoch.position(offset).as_str()), Some((epoch.as_str(), offset)));
        }
        assert_eq!(Epoch::parse(epoch.as_str()), Some(epoch));
        assert_eq!(["", "abcde", "abcdefg", "ABCDEF", "abc-ef"].map(Epoch::parse), [None; 5]);
    }

    #[test]
    fn an_epoch_is_six_digits_the_least_first() {
        assert_eq!(Epoch::new(36 + 11).to_string(), "b10000");
        assert_eq!(Epoch::new(36).position(7).to_string(), "010000-7");
    }

    #[test]
    fn what_is_not_written_like_a_position_is_none() {
        for id in ["", "-", "x", "order-17", "abcdef-", "abcdef-+1", "abcdef-01", "ABCDEF-1", "abcdef-1x"] {
            assert!(!is_position(id), "{id:?}");
        }
        assert!(!is_position("abcdef-99999999999999999999999"));
    }
}
