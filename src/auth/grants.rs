//! Grants that are in use, each once: ten thousand tokens that allow the same share one.

use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::Mutex;

use super::grant::Grant;

/// Grants in use. Those that nobody has any more are forgotten in time.
#[derive(Debug, Default)]
pub struct Grants {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    grants: HashSet<Arc<Grant>>,
    sweep_at: usize,
}

/// Grants from which on those that nobody has any more are looked for.
const SWEEP_MIN: usize = 1024;

impl Grants {
    /// The one that is equal to `grant`: another's, or from now on this one.
    #[must_use]
    pub fn share(&self, grant: &Arc<Grant>) -> Arc<Grant> {
        let mut table = self.table.lock();
        if let Some(same) = table.grants.get(grant) {
            return same.clone();
        }
        table.grants.insert(grant.clone());
        if table.grants.len() >= table.sweep_at.max(SWEEP_MIN) {
            // The table itself is one owner.
            table.grants.retain(|grant| Arc::strong_count(grant) > 1);
            table.sweep_at = 2 * table.grants.len();
            table.grants.shrink_to_fit();
        }
        grant.clone()
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
        let first = grants.share(&grant("vip"));
        assert!(Arc::ptr_eq(&first, &grants.share(&grant("vip"))));
        assert!(!Arc::ptr_eq(&first, &grants.share(&grant("dj"))));
    }

    #[test]
    fn what_nobody_has_is_forgotten() {
        let grants = Grants::default();
        let kept = grants.share(&grant("vip"));
        for n in 0..10 * SWEEP_MIN {
            let _ = grants.share(&grant(&format!("p{n}")));
            assert!(grants.table.lock().grants.len() <= SWEEP_MIN);
        }
        assert!(Arc::ptr_eq(&kept, &grants.share(&grant("vip"))));
    }
}
