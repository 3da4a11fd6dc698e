//! What the log says of a request that is refused, at `debug`: why, what it asked for, and from whom it came.
//!
//! Never the query, the headers or the body, which may have secrets in them.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::{Method, Uri};

use crate::answer::problem::Problem;
use crate::rights::identity::Identity;
use crate::types::name::UserName;

/// Bytes of a path that are logged. One with a room and a user whose names are as long as names may be has more, if each
/// byte of them is encoded; all that is needed to recognise it is in these.
pub const PATH_BYTES_MAX: usize = 256;

/// What has been found out about who sent a request.
#[derive(Debug, Default)]
pub struct Sender {
    /// Who it is, if that is proved.
    pub identity: Option<Arc<Identity>>,
    /// As whom it wants to listen.
    pub user: Option<UserName>,
}

/// Logs that a request is refused for `problem`.
pub fn log(problem: &Problem, method: &Method, uri: &Uri, sender: &Sender, client: Option<IpAddr>) {
    let identity = sender.identity.as_deref();
    let key = identity.and_then(|identity| identity.api_key.as_ref()).map(|key| &*key.name);
    let user = identity.and_then(|identity| identity.user.as_ref()).or(sender.user.as_ref());
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

/// The beginning of `path`.
pub(crate) fn short(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES_MAX)]
}
