//! The server part of each page: one file each, or one file with a folder.

mod ai;
mod chat;
mod monitor;
mod notifications;
mod progress;
mod tickers;
mod tutorial;

use axum::Router;
use axum::routing::any;

use crate::answer::Refusal;
use crate::app::App;
use crate::names;

/// The tables of all pages.
pub(crate) const SCHEMAS: [&str; 5] =
    [names::SCHEMA, chat::SCHEMA, notifications::SCHEMA, progress::SCHEMA, ai::SCHEMA];

/// Rooms that every signed-in user may read. `{user}` is the user's own name, so there each has their own.
pub(crate) const READS: [&str; 4] = ["chat-*", "progress-{user}", "ai-*", "monitor"];

/// Rooms in which every signed-in user may see who is there.
pub(crate) const MEMBERS: [&str; 1] = ["chat-*"];

pub(crate) fn routes() -> Router<App> {
    let nothing = any(async || Refusal::not_found("there is nothing at this path"));
    Router::new()
        .merge(chat::routes())
        .merge(notifications::routes())
        .merge(progress::routes())
        .merge(ai::routes())
        .merge(tutorial::routes())
        .route("/app/{*path}", nothing)
}

/// What has to be done before the first request.
pub(crate) async fn begin(app: &App) -> Result<(), Refusal> {
    tickers::begin(app);
    monitor::begin(app);
    progress::begin(app).await?;
    ai::begin(app).await?;
    chat::begin(app).await
}
