//! Single-flight for token checks: each token is verified by one thread. Other threads with the same token wait and
//! share the result, good or bad: verifying it themselves would take as long, and much longer one after the other.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::token_error::TokenError;
use crate::rights::identity::Identity;

/// The result of a verification.
pub type Verified = Result<Arc<Identity>, TokenError>;

/// Verifications under way, by the token's SHA-256. At most one per thread.
#[derive(Debug, Default)]
pub struct SingleFlight {
    under_way: Mutex<HashMap<[u8; 32], Arc<OnceLock<Verified>>>>,
}

impl SingleFlight {
    /// Calls `verify`, or waits for another thread that verifies the token with this `hash`. Returns the result, and
    /// whether this call computed it.
    pub fn once(&self, hash: [u8; 32], verify: impl FnOnce() -> Verified) -> (Verified, bool) {
        let place = self.under_way.lock().entry(hash).or_default().clone();
        let mut is_own = false;
        let verified = place.get_or_init(|| {
            is_own = true;
            verify()
        });
        if is_own {
            self.under_way.lock().remove(&hash);
        }
        (verified.clone(), is_own)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    const HASH: [u8; 32] = [7; 32];

    #[test]
    fn who_comes_while_a_token_is_looked_at_shares_what_comes_of_it() {
        let flights = SingleFlight::default();
        let (begin, begun) = channel();
        let (end, ended) = channel::<()>();
        thread::scope(|scope| {
            let flights = &flights;
            let first = scope.spawn(move || {
                flights.once(HASH, || {
                    begin.send(()).expect("the test waits");
                    ended.recv().expect("the test sends");
                    Err(TokenError::Signature)
                })
            });
            begun.recv().expect("it begins");
            let second = scope.spawn(|| flights.once(HASH, || unreachable!("the first verifies it")));
            // References: the table, the first and the second.
            while flights.under_way.lock().get(&HASH).is_some_and(|place| Arc::strong_count(place) < 3) {
                thread::yield_now();
            }
            end.send(()).expect("the first waits");
            assert_eq!(first.join().expect("it is done"), (Err(TokenError::Signature), true));
            assert_eq!(second.join().expect("it is done"), (Err(TokenError::Signature), false));
        });
        assert!(flights.under_way.lock().is_empty(), "nothing is remembered");
        assert!(flights.once(HASH, || Err(TokenError::Expired)) == (Err(TokenError::Expired), true));
    }
}
