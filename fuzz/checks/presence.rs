//! What members show.

use serde_json::value::{RawValue, Value};
use tidegate::http::api::presence::body;
use tidegate::hub::presence::data::PRESENCE_DATA_BYTES_MAX;

/// A body is read without panic. What a member shows is JSON within its bound, and the same when it is read again.
pub(crate) fn presence_body(bytes: &[u8]) {
    let data = match body::parse(bytes) {
        Ok(Some(data)) => data,
        Ok(None) => return,
        Err(problem) => {
            assert!(problem.to_json().len() < 1024);
            return;
        }
    };
    assert!(data.as_str().len() <= PRESENCE_DATA_BYTES_MAX);
    assert!(serde_json::from_str::<&RawValue>(data.as_str()).is_ok(), "{}", data.as_str());
    // It goes out among others of one line.
    assert!(!data.as_str().contains(['\r', '\n']), "{}", data.as_str());
    assert!(serde_json::from_str::<Value>(data.as_str()).is_ok(), "every reader can take it");
    let again = body::parse(format!("{{\"data\":{}}}", data.as_str()).as_bytes());
    assert_eq!(again, Ok(Some(data)));
}
