//! Tokens that are being looked at, each by one thread however many have it: those who come with it meanwhile share what
//! comes of it, good or bad. Looking themselves would take them as long, and one after the other much longer.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::token_error::TokenError;
use crate::rights::identity::Identity;

/// What came of a look.
pub type Verified = Result<Arc<Identity>, TokenError>;

/// Verifications under way, by the token's SHA-256. At most one a thread.
#[derive(Debug, Default)]
pub struct SingleFlight {
    under_way: Mutex<HashMap<[u8; 32], Arc<OnceLock<Verified>>>>,
}

impl SingleFlight {
    /// What comes of `look`, or of another thread's look at the token with that `hash`, which is waited for. Whether it
    /// was one's own is the second.
    pub fn once(&self, hash: [u8; 32], look: impl FnOnce() -> Verified) -> (Verified, bool) {
        let place = self.under_way.lock().entry(hash).or_default().clone();
        let mut is_own = false;
        let looked = place.get_or_init(|| {
            is_own = true;
            look()
        });
        if is_own {
            self.under_way.lock().remove(&hash);
        }
        (looked.clone(), is_own)
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
        let looks = SingleFlight::default();
        let (begin, begun) = channel();
        let (end, ended) = channel::<()>();
        thread::scope(|scope| {
            let looks = &looks;
            let first = scope.spawn(move || {
                looks.once(HASH, || {
                    begin.send(()).expect("somebody waits");
                    ended.recv().expect("somebody says so");
                    Err(TokenError::Signature)
                })
            });
            begun.recv().expect("it begins");
            let second = scope.spawn(|| looks.once(HASH, || unreachable!("the first is at it")));
            // The table, the first and the second.
            while looks.under_way.lock().get(&HASH).is_some_and(|place| Arc::strong_count(place) < 3) {
                thread::yield_now();
            }
            end.send(()).expect("the first waits");
            assert_eq!(first.join().expect("it is done"), (Err(TokenError::Signature), true));
            assert_eq!(second.join().expect("it is done"), (Err(TokenError::Signature), false));
        });
        assert!(looks.under_way.lock().is_empty(), "nothing is remembered");
        assert!(looks.once(HASH, || Err(TokenError::Expired)) == (Err(TokenError::Expired), true));
    }
}
