//! What every request may use.

use std::path::Path;
use std::sync::Arc;

use crate::database::Database;
use crate::names::Keys;
use crate::push::Push;

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) database: Database,
    /// The way to Tidegate.
    pub(crate) push: Push,
    pub(crate) keys: Keys,
    /// Where pages keep files.
    pub(crate) folder: Arc<Path>,
}
