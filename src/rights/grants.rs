//! Stores each grant in use once: ten thousand tokens that allow the same share one grant.

use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::Mutex;

use crate::rights::grant::Grant;

/// Bytes that the grants of remembered tokens may take, each counted once.
pub const GRANTS_BYTES_MAX: usize = 64 << 20;

/// Grants in use. A sweep drops grants that have no owner any more.
#[derive(Debug, Default)]
pub struct Grants {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    grants: HashSet<Arc<Grant>>,
    /// The memory they take, as [`Grant::bytes`] counts it.
    bytes: usize,
    /// New grants until the next sweep for grants without an owner: as many as the last sweep left, at least
    /// [`SWEEP_MIN`].
    until_sweep: usize,
}

/// Fewest new grants between two sweeps.
const SWEEP_MIN: usize = 1024;

impl Grants {
    /// Returns the stored grant that equals `grant`; stores `grant` if there is none. `None` if there is no room for
    /// it.
    #[must_use]
    pub fn share(&self, grant: &Arc<Grant>) -> Option<Arc<Grant>> {
        let mut table = self.table.lock();
        if let Some(same) = table.grants.get(grant) {
            return Some(same.clone());
        }
        match table.until_sweep.checked_sub(1) {
            Some(left) => table.until_sweep = left,
            None => table.sweep(),
        }
        let bytes = table.bytes + grant.bytes();
        if bytes > GRANTS_BYTES_MAX {
            return None;
        }
        table.bytes = bytes;
        table.grants.insert(grant.clone());
        Some(grant.clone())
    }
}

impl Table {
    fn sweep(&mut self) {
        // The table itself is one owner.
        self.grants.retain(|grant| Arc::strong_count(grant) > 1);
        self.grants.shrink_to_fit();
        self.bytes = self.grants.iter().map(|grant| grant.bytes()).sum();
        self.until_sweep = SWEEP_MIN.max(self.grants.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Arc<Grant> {
        Arc::new(Grant::parse([text]).0)
    }

    #[test]
    fn equal_grants_are_one() {
        let grants = Grants::default();
        let first = grants.share(&grant("vip")).unwrap();
        assert!(Arc::ptr_eq(&first, &grants.share(&grant("vip")).unwrap()));
        assert!(!Arc::ptr_eq(&first, &grants.share(&grant("dj")).unwrap()));
    }

    #[test]
    fn what_nobody_has_is_forgotten() {
        let grants = Grants::default();
        let kept = grants.share(&grant("vip")).unwrap();
        for n in 0..10 * SWEEP_MIN {
            let _ = grants.share(&grant(&format!("p{n}"))).unwrap();
            assert!(grants.table.lock().grants.len() <= 2 + SWEEP_MIN);
        }
        assert!(Arc::ptr_eq(&kept, &grants.share(&grant("vip")).unwrap()));
    }

    /// A grant of about 16 KiB, different for each `n`.
    fn large(n: usize) -> Arc<Grant> {
        let permissions: Vec<String> = (0..200).map(|m| format!("p{m}:room-{n}-{m}")).collect();
        Arc::new(Grant::parse(permissions.iter().map(String::as_str)).0)
    }

    #[test]
    fn all_together_take_no_more_than_the_bound() {
        let grants = Grants::default();
        let mut held = Vec::new();
        while let Some(grant) = grants.share(&large(held.len())) {
            held.push(grant);
        }
        let bytes: usize = held.iter().map(|grant| grant.bytes()).sum();
        assert!(bytes <= GRANTS_BYTES_MAX, "{bytes}");
        assert!(bytes + large(held.len()).bytes() > GRANTS_BYTES_MAX, "there was room: {bytes}");
        assert!(Arc::ptr_eq(&held[7], &grants.share(&large(7)).unwrap()), "a stored grant is shared even so");
        // Without owners they are swept before as many new grants are refused as there were.
        let count = held.len();
        held.clear();
        assert!((0..=count).any(|n| grants.share(&large(count + n)).is_some()));
    }
}
