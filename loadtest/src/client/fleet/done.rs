//! What the subscribers ended with.

use serde::{Deserialize, Serialize};

use super::subscriber::Account;
use super::tally::Tally;

/// What the subscribers ended with.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Done {
    /// Sums and histograms.
    pub tally: Tally,
    /// Every subscriber, for checks against what was published.
    pub subscribers: Vec<Account>,
}
