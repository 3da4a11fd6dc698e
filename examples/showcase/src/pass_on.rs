//! Passes `/api/v1/sse/…` on to Tidegate, so that pages and streams have one origin. In production nginx does this:
//! `deploy/nginx-site.conf`.
//!
//! The client comes this way, too: a page imports `/api/v1/sse/client.js`. Nothing is buffered: a request and its answer flow
//! while they come.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

type Way = (Client<HttpConnector, Body>, SocketAddr);

pub(crate) fn routes(tidegate: SocketAddr) -> Router {
    let client = Client::builder(TokioExecutor::new()).build_http();
    Router::new().route("/api/v1/sse/{*path}", any(pass_on)).with_state((client, tidegate))
}

async fn pass_on(State((client, tidegate)): State<Way>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("http://{tidegate}{path}").parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    // This is about one connection, and there are two here.
    request.headers_mut().remove(header::CONNECTION);
    match client.request(request).await {
        Ok(mut answer) => {
            answer.headers_mut().remove(header::CONNECTION);
            answer.map(Body::new)
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
