//! Logs a refused request at `debug`: why, what it asked for, and its client.
//!
//! Never the query, the headers or the body, which may contain secrets.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::{Method, Uri};

use crate::answer::problem::Problem;
use crate::rights::identity::Identity;
use crate::types::name::UserName;

/// Bytes of a path that are logged. A path with a room and a user of the longest names, fully percent-encoded, is
/// longer; this many suffice to recognise it.
pub const PATH_BYTES_MAX: usize = 256;

/// What is known about the requester of a request.
#[derive(Debug, Default)]
pub struct Requester {
    /// Its verified identity.
    pub identity: Option<Arc<Identity>>,
    /// The user name it asks for.
    pub user: Option<UserName>,
}

/// Logs that a request is refused for `problem`.
pub fn log(problem: &Problem, method: &Method, uri: &Uri, requester: &Requester, client: Option<IpAddr>) {
    let identity = requester.identity.as_deref();
    let key = identity.and_then(|identity| identity.api_key.as_ref()).map(|key| &*key.name);
    let user = identity.and_then(|identity| identity.user.as_ref()).or(requester.user.as_ref());
    tracing::debug!(
        code = problem.code.as_str(),
        detail = problem.detail,
        %method,
        path = short(uri.path()),
        user = user.map(UserName::as_str),
        key,
        client = client.map(tracing::field::display),
        "request refused"
    );
}

/// Returns the beginning of `path`.
pub(crate) fn short(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES_MAX)]
}
