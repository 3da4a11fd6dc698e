//! When a table has so few entries that it gives memory back.

/// Places that are not worth giving back.
pub(super) const SMALL: usize = 64;

/// Whether a table has so many more places than entries that it should give some back.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > SMALL && len < capacity / 4
}
