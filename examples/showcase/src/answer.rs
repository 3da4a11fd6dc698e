//! Refusals, which all look the same, and what a request may bring.
//!
//! A refusal is JSON: `code` is for the page, which has a text for it in each language (`pages/i18n.js`), and `title` is for
//! whoever reads the answer.

use std::fmt;

use axum::extract::{FromRequest, FromRequestParts, Json, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: String,
    title: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: impl Into<String>, title: impl Into<String>) -> Self {
        Self { status, code: code.into(), title: title.into() }
    }

    /// Something in the request is not as it has to be.
    pub(crate) fn invalid(code: &str, title: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, title)
    }

    /// The user may not do this.
    pub(crate) fn forbidden(title: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", title)
    }

    pub(crate) fn not_found(title: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", title)
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// Whether a later try may succeed: then nothing is decided.
    pub(crate) fn may_pass(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl std::error::Error for Refusal {}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "status": self.status.as_u16(), "code": self.code, "title": self.title });
        (self.status, Json(body)).into_response()
    }
}

/// A failure of our own. What it was is for the log alone.
fn broken(what: &str, err: &dyn std::error::Error) -> Refusal {
    tracing::error!("{what}: {err}");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something is broken here")
}

impl From<rusqlite::Error> for Refusal {
    fn from(err: rusqlite::Error) -> Self {
        broken("database", &err)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(err: std::io::Error) -> Self {
        broken("files", &err)
    }
}

/// The body of a request, as JSON. axum takes 2 MiB at most.
///
/// It insists on `content-type: application/json`, which a form of a foreign page cannot send.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(err) => Err(Refusal::new(err.status(), "body_invalid", err.body_text())),
        }
    }
}

/// What follows `?` in the URL of a request.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(err) => Err(Refusal::new(err.status(), "query_invalid", err.body_text())),
        }
    }
}
