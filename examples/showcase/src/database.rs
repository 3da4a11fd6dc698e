//! What the application keeps: one `SQLite` file. Tidegate keeps nothing for it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::answer::Refusal;

/// One connection is enough for a showcase: `SQLite` writes one at a time anyway.
#[derive(Clone)]
pub(crate) struct Database(Arc<Mutex<Connection>>);

impl Database {
    /// Opens the file in `folder`, and makes the tables of `schemas` that are not there yet.
    pub(crate) fn open(folder: &Path, schemas: &[&str]) -> rusqlite::Result<Self> {
        let connection = Connection::open(folder.join("showcase.sqlite"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON",
        )?;
        for schema in schemas {
            connection.execute_batch(schema)?;
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Runs `work` where waiting for the disk holds up no other request.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = self.0.clone();
        let run = move || {
            // After a panic SQLite has rolled back what was begun.
            let mut connection = shared.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        };
        tokio::task::spawn_blocking(run).await.expect("no work panics")
    }
}
