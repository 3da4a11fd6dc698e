//! AI: an answer appears while it is written, for whoever looks.
//!
//! Each answer has a room. What the model says is published as lines, in one request that lasts as long as the answer. The
//! room gives everybody who joins all of it from the beginning (`replay` in `tidegate.toml`): a reload and a late reader see
//! the same. An answer that is over is in the database, because a room forgets.

mod model;

use std::time::Duration;

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use rusqlite::{OptionalExtension as _, params};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::answer::{Body, Refusal};
use crate::app::App;
use crate::names::{User, now_ms, random_name};
use crate::running::{Place, Running};

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS answers (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    question TEXT NOT NULL,
    state TEXT NOT NULL,     -- running, done, or why it ended before: stopped, too_long, model_failed, restarted
    text TEXT,               -- once it is over
    since INTEGER NOT NULL   -- milliseconds since 1970
);";

static RUNNING: Running = Running::at_most(2, 16);

const QUESTION_CHARACTERS_MAX: usize = 2000;
const ANSWERS_MAX: i64 = 100;
const ANSWER_BYTES_MAX: usize = 32 * 1024;
const ANSWER_TIME_MAX: Duration = Duration::from_mins(2);
/// Words that come within this time make one event. Then an answer of two minutes has at most 1,500, and all of them fit into
/// what a room gives to a newcomer: 256 KiB.
const GATHER: Duration = Duration::from_millis(80);

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/app/ai", get(list).post(ask))
        .route("/app/ai/{id}", get(show))
        .route("/app/ai/{id}/running", delete(stop))
}

/// An answer that was being written when the process ended stays as it is in nobody's memory.
pub(crate) async fn begin(app: &App) -> Result<(), Refusal> {
    let end = "UPDATE answers SET state = 'restarted', text = '' WHERE state = 'running'";
    app.database.run(move |connection| Ok(connection.execute(end, []).map(drop)?)).await
}

/// The newest questions of all, and which model answers.
async fn list(State(app): State<App>, _user: User) -> Result<Json<Value>, Refusal> {
    let answers: Vec<Value> = app
        .database
        .run(|connection| {
            let query =
                "SELECT id, user, question, state, since, NULL FROM answers ORDER BY since DESC LIMIT 10";
            Ok(connection.prepare(query)?.query_map([], json_of)?.collect::<Result<_, _>>()?)
        })
        .await?;
    Ok(Json(json!({ "model": model::name(), "answers": answers })))
}

fn json_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Value> {
    let (id, user, question): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (state, since, text): (String, i64, Option<String>) = (row.get(3)?, row.get(4)?, row.get(5)?);
    Ok(json!({ "id": id, "user": user, "question": question, "state": state, "since": since, "text": text }))
}

async fn show(State(app): State<App>, _user: User, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    app.database
        .run(move |connection| {
            let query = "SELECT id, user, question, state, since, text FROM answers WHERE id = ?";
            let found = connection.query_row(query, [id], json_of).optional()?;
            found.map(Json).ok_or_else(|| Refusal::not_found("there is no such answer"))
        })
        .await
}

#[derive(Deserialize)]
struct Ask {
    question: String,
}

async fn ask(
    State(app): State<App>,
    user: User,
    Body(Ask { question }): Body<Ask>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let question = question.trim().to_owned();
    if !(1..=QUESTION_CHARACTERS_MAX).contains(&question.chars().count()) {
        return Err(Refusal::invalid("question_invalid", "a question has 1 to 2,000 characters"));
    }
    let id = random_name();
    let place = RUNNING.begin(&id, &user.name)?;
    let row = (id.clone(), user.name, question.clone(), now_ms());
    app.database
        .run(move |connection| {
            let add = "INSERT INTO answers VALUES (?, ?, ?, 'running', NULL, ?)";
            connection.execute(add, row)?;
            let forget = "DELETE FROM answers WHERE state != 'running' AND id IN
                          (SELECT id FROM answers ORDER BY since DESC LIMIT -1 OFFSET ?)";
            connection.execute(forget, [ANSWERS_MAX])?;
            Ok(())
        })
        .await?;
    // The answer goes on without this request, and without the page.
    tokio::spawn(write(app, id.clone(), question, place));
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn stop(user: User, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    RUNNING.stop(&id, &user.name)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Writes an answer to its end: publishes what comes, and stores what it was.
async fn write(app: App, id: String, question: String, place: Place) {
    // A model that is faster than its answer can be published waits.
    let (words, spoken) = mpsc::channel(64);
    let asked = tokio::spawn(async move { model::answer(&question, &words).await });
    let (lines, to_publish) = mpsc::channel(64);
    let sender = tokio::spawn(app.push.clone().lines(to_publish));
    let (text, state) = gather(&id, spoken, &lines, &place).await;
    // Does nothing to a model that has ended by itself.
    let state = match state {
        Some(state) => {
            asked.abort();
            state
        }
        None if matches!(asked.await, Ok(Ok(()))) => "done",
        None => "model_failed",
    };
    let stored = id.clone();
    let end = move |connection: &mut rusqlite::Connection| {
        let end = "UPDATE answers SET state = ?, text = ? WHERE id = ?";
        Ok(connection.execute(end, params![state, text, stored]).map(drop)?)
    };
    // Stored first: whoever hears of the end finds it there.
    if let Err(refusal) = app.database.run(end).await {
        tracing::error!("an answer is lost: {refusal}");
    }
    let _ = lines.send(line(&id, "end", &json!({ "state": state }), 0)).await;
    drop(lines);
    if let Ok(Err(refusal)) = sender.await {
        tracing::warn!("not all of an answer was published: {refusal}");
    }
}

/// Makes lines of what the model says. Returns all of it, and why it ends before the model does.
async fn gather(
    id: &str,
    mut spoken: mpsc::Receiver<String>,
    lines: &mpsc::Sender<String>,
    place: &Place,
) -> (String, Option<&'static str>) {
    let end = Instant::now() + ANSWER_TIME_MAX;
    let mut text = String::new();
    loop {
        let from = text.len();
        tokio::select! {
            next = spoken.recv() => match next {
                Some(words) => text.push_str(&words),
                None => return (text, None),
            },
            () = place.stopped() => return (text, Some("stopped")),
            () = sleep_until(end) => return (text, Some("too_long")),
        }
        let until = Instant::now() + GATHER;
        while let Ok(Some(words)) = timeout_at(until, spoken.recv()).await {
            text.push_str(&words);
        }
        let too_long = text.len() > ANSWER_BYTES_MAX;
        text.truncate(text.floor_char_boundary(ANSWER_BYTES_MAX));
        let piece = json!({ "from": from, "text": &text[from..] });
        // Nobody takes lines any more: then the database has the answer in the end.
        let _ = lines.send(line(id, "words", &piece, from)).await;
        if too_long {
            return (text, Some("too_long"));
        }
    }
}

/// A line of `POST /publish`. `once` is its name: if the request breaks, all lines are sent again, and nothing goes out twice.
fn line(id: &str, event: &str, data: &Value, from: usize) -> String {
    let line = json!({ "room": format!("ai-{id}"), "event": event, "data": data, "once": format!("{id}-{event}-{from}") });
    format!("{line}\n")
}
