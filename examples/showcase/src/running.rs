//! What runs in the background for users: how much at once, and how it is stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use tokio::sync::Notify;

use crate::answer::Refusal;

/// A page has one as a `static`, with its own bounds.
pub(crate) struct Running {
    works: Mutex<BTreeMap<String, Work>>,
    per_user: usize,
    in_all: usize,
}

struct Work {
    user: String,
    stop: Arc<Notify>,
}

impl Running {
    pub(crate) const fn at_most(per_user: usize, in_all: usize) -> Self {
        Self { works: Mutex::new(BTreeMap::new()), per_user, in_all }
    }

    /// A place for the work `id` of a user. It is taken until what this returns is dropped.
    pub(crate) fn begin(&'static self, id: &str, user: &str) -> Result<Place, Refusal> {
        let mut works = self.works();
        if works.len() >= self.in_all
            || works.values().filter(|work| work.user == user).count() >= self.per_user
        {
            let title = "too much is running; wait until something has finished";
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_running", title));
        }
        let stop = Arc::new(Notify::new());
        works.insert(id.into(), Work { user: user.into(), stop: stop.clone() });
        Ok(Place { running: self, id: id.into(), stop })
    }

    /// Asks a user's work to stop.
    pub(crate) fn stop(&self, id: &str, user: &str) -> Result<(), Refusal> {
        match self.works().get(id) {
            Some(work) if work.user == user => {
                work.stop.notify_one();
                Ok(())
            }
            _ => Err(Refusal::not_found("nothing of yours with this id is running")),
        }
    }

    fn works(&self) -> MutexGuard<'_, BTreeMap<String, Work>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Place {
    running: &'static Running,
    id: String,
    stop: Arc<Notify>,
}

impl Place {
    /// Waits until the user wants the work to stop, also if that was said before.
    pub(crate) async fn stopped(&self) {
        self.stop.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.works().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_user_has_so_many_and_stops_only_their_own() {
        static RUNNING: Running = Running::at_most(1, 2);
        let ann = RUNNING.begin("1", "ann").expect("free");
        assert_eq!(RUNNING.begin("2", "ann").err().expect("one each").code(), "too_many_running");
        let _bob = RUNNING.begin("2", "bob").expect("free");
        assert_eq!(RUNNING.begin("3", "cat").err().expect("two in all").code(), "too_many_running");
        assert_eq!(RUNNING.stop("1", "bob").expect_err("not his").code(), "not_found");
        RUNNING.stop("1", "ann").expect("hers");
        ann.stopped().await;
        drop(ann);
        let _ann = RUNNING.begin("4", "ann").expect("free again");
    }
}
