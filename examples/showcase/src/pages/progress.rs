//! Progress: uploads and a task with steps, seen in all of a user's tabs while they run.
//!
//! Each user has a room. An event there is the state of one job, with the job's id as its key, and the room begins with the
//! newest event of each key (`replay = "latest"` in `tidegate.toml`). So a tab that comes later, or is loaded again, has the
//! bars where they are. What is over is in the database, because a room forgets.

mod report;

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use http_body_util::BodyExt as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower_http::services::ServeFile;

use crate::answer::{Params, Refusal};
use crate::app::App;
use crate::names::{User, now_ms, random_name};
use crate::running::{Place, Running};

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    kind TEXT NOT NULL,      -- upload, report
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,  -- of its file, in the folder `files`
    state TEXT NOT NULL,     -- running, done, failed
    error TEXT,              -- why it failed: a key of the page's texts
    since INTEGER NOT NULL   -- milliseconds since 1970
);";

static RUNNING: Running = Running::at_most(3, 20);

const FILE_BYTES_MAX: i64 = 64_000_000;
/// Of all files together. The oldest go first.
const FILES_BYTES_MAX: i64 = 1_000_000_000;
/// Jobs of one user in the list.
const JOBS_MAX: i64 = 20;
const NAME_CHARACTERS_MAX: usize = 120;
/// How long the next part of a file may take.
const UPLOAD_IDLE: Duration = Duration::from_secs(30);
const UPLOAD_TIME_MAX: Duration = Duration::from_mins(15);
/// What the server reads if the page asks for a slow line. Otherwise nobody would see a bar move on their own machine.
const SLOW_BYTES_PER_S: f64 = 2e6;
/// Between two events of a job. A bar moves well with that.
const TELL_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/app/progress", get(list))
        .route("/app/progress/uploads", post(upload))
        .route("/app/progress/reports", post(begin_report))
        .route("/app/progress/files/{id}", get(file))
        .route("/app/progress/{id}", delete(stop))
}

/// Jobs that ran when the process ended have failed. If Tidegate lived on, its rooms still say that they run.
pub(crate) async fn begin(app: &App) -> Result<(), Refusal> {
    tokio::fs::create_dir_all(app.folder.join("files")).await?;
    let lost: Vec<(String, Job)> = app
        .database
        .run(|connection| {
            let lose =
                "UPDATE jobs SET state = 'failed', error = 'restarted' WHERE state = 'running' RETURNING *";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get("user")?, Job::of(row)?));
            Ok(connection.prepare(lose)?.query_map([], row)?.collect::<Result<_, _>>()?)
        })
        .await?;
    for (user, job) in lost {
        remove(app, &job.id).await?;
        // A page that is not told loads the list when its stream opens.
        let _ = app.push.tell(&job.event(&user)).await;
    }
    Ok(())
}

/// A job as the page gets it: from [`list`], and as the data of an event.
#[derive(Serialize)]
struct Job {
    id: String,
    kind: String,
    name: String,
    state: String,
    done: i64,
    total: i64,
    /// What it is at, if it has steps: a key of the page's texts, and its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<(&'static str, usize)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    since: i64,
}

impl Job {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            kind: row.get("kind")?,
            name: row.get("name")?,
            state: row.get("state")?,
            // How far a running job is, the room knows.
            done: 0,
            total: row.get("bytes")?,
            step: None,
            error: row.get("error")?,
            since: row.get("since")?,
        })
    }

    fn event(&self, user: &str) -> Value {
        json!({ "room": format!("progress-{user}"), "event": "job", "key": self.id, "data": self })
    }
}

/// A job while it runs.
struct Work {
    app: App,
    user: String,
    job: Job,
    path: PathBuf,
    place: Place,
    told: Instant,
    /// How far it was then.
    told_done: i64,
}

impl Work {
    /// Takes a place, and room on the disk.
    async fn begin(
        app: App,
        user: String,
        kind: &str,
        name: String,
        total: i64,
        bytes: i64,
    ) -> Result<Self, Refusal> {
        let id = random_name();
        let place = RUNNING.begin(&id, &user)?;
        let job = Job {
            id,
            kind: kind.into(),
            name,
            state: "running".into(),
            done: 0,
            total,
            step: None,
            error: None,
            since: now_ms(),
        };
        let row = (job.id.clone(), user.clone(), job.kind.clone(), job.name.clone(), bytes, job.since);
        let forgotten = app.database.run(move |connection| Ok(add(connection, row)?)).await?;
        for old in forgotten {
            remove(&app, &old).await?;
        }
        let path = app.folder.join("files").join(&job.id);
        let mut work = Self { app, user, job, path, place, told: Instant::now(), told_done: 0 };
        work.tell().await;
        Ok(work)
    }

    /// Goes on by so much, and says so now and then.
    async fn advance(&mut self, by: i64) {
        self.job.done += by;
        if self.told.elapsed() >= TELL_EVERY {
            self.tell().await;
        }
    }

    async fn tell(&mut self) {
        (self.told, self.told_done) = (Instant::now(), self.job.done);
        // If it is lost, the next one says more.
        let _ = self.app.push.tell(&self.job.event(&self.user)).await;
    }

    /// Stores and says how it went.
    async fn end(mut self, outcome: Result<(), Refusal>) -> Result<String, Refusal> {
        match &outcome {
            Ok(()) => self.job.state = "done".into(),
            Err(refusal) => {
                self.job.state = "failed".into();
                self.job.error = Some(refusal.code().into());
                remove(&self.app, &self.job.id).await?;
            }
        }
        let (id, state, error) = (self.job.id.clone(), self.job.state.clone(), self.job.error.clone());
        self.app
            .database
            .run(move |connection| {
                let end = "UPDATE jobs SET state = ?, error = ? WHERE id = ?";
                connection.execute(end, params![state, error, id])?;
                Ok(())
            })
            .await?;
        // This is worth another try. The name of the publish keeps it from going out twice.
        let once = format!("job-{}", self.job.id);
        let _ = self.app.push.publish(&self.job.event(&self.user), &self.user, Some(&once)).await;
        outcome.map(|()| self.job.id)
    }
}

type Row = (String, String, String, String, i64, i64);

/// Adds a job, and forgets old ones: their ids are returned, because each has a file.
fn add(connection: &Connection, row: Row) -> rusqlite::Result<Vec<String>> {
    connection.execute(
        "INSERT INTO jobs (id, user, kind, name, bytes, state, since) VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6)",
        row,
    )?;
    let forget = "DELETE FROM jobs WHERE state != 'running' AND id IN (
        SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY since DESC) AS bytes_so_far,
                               row_number() OVER (PARTITION BY user ORDER BY since DESC) AS nth FROM jobs)
        WHERE bytes_so_far > ? OR nth > ?) RETURNING id";
    connection.prepare(forget)?.query_map([FILES_BYTES_MAX, JOBS_MAX], |row| row.get(0))?.collect()
}

async fn remove(app: &App, id: &str) -> Result<(), Refusal> {
    match tokio::fs::remove_file(app.folder.join("files").join(id)).await {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err.into()),
        _ => Ok(()),
    }
}

async fn list(State(app): State<App>, user: User) -> Result<Json<Value>, Refusal> {
    let name = user.name.clone();
    let jobs: Vec<Job> = app
        .database
        .run(move |connection| {
            let query = "SELECT * FROM jobs WHERE user = ? ORDER BY since DESC LIMIT ?";
            let mut query = connection.prepare(query)?;
            Ok(query.query_map(params![name, JOBS_MAX], Job::of)?.collect::<Result<_, _>>()?)
        })
        .await?;
    let room = format!("progress-{}", user.name);
    Ok(Json(json!({ "room": room, "jobs": jobs, "bytes_max": FILE_BYTES_MAX, "steps": report::STEPS.len() })))
}

#[derive(Deserialize)]
struct Upload {
    name: String,
    #[serde(default)]
    is_slow: bool,
}

/// Streams the body to the disk. Nothing of it is held in memory but the part that was just read.
async fn upload(
    State(app): State<App>,
    user: User,
    Params(Upload { name, is_slow }): Params<Upload>,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    if !(1..=NAME_CHARACTERS_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Refusal::invalid("file_name_invalid", "the name of a file has 1 to 120 characters"));
    }
    // Browsers say how large a file is. hyper sees to it that no more comes.
    let total: i64 = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .ok_or_else(|| Refusal::new(StatusCode::LENGTH_REQUIRED, "length_required", "say how long it is"))?;
    if !(0..=FILE_BYTES_MAX).contains(&total) {
        let title = "a file has at most 64 MB";
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", title));
    }
    let mut work = Work::begin(app, user.name, "upload", name, total, total).await?;
    // If the connection breaks, this handler is dropped, wherever it is. A task of its own gets to say that it failed.
    let task = tokio::spawn(async move {
        let saved = timeout(UPLOAD_TIME_MAX, save(&mut work, request.into_body(), is_slow)).await;
        let outcome = saved.unwrap_or_else(|_| Err(broken_off()));
        work.end(outcome).await
    });
    let id = task.await.expect("no work panics")?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn save(work: &mut Work, mut body: Body, is_slow: bool) -> Result<(), Refusal> {
    let mut file = File::create(&work.path).await?;
    loop {
        let next = tokio::select! {
            // Nothing is lost if another branch wins: what has not come yet is still to come.
            next = timeout(UPLOAD_IDLE, body.frame()) => next.map_err(|_| broken_off())?,
            // Nothing comes, and the last thing that was said is behind.
            () = sleep_until(work.told + TELL_EVERY), if work.told_done < work.job.done => {
                work.tell().await;
                continue;
            }
            () = work.place.stopped() => return Err(stopped()),
        };
        let Some(frame) = next else { break };
        let Ok(part) = frame.map_err(|_| broken_off())?.into_data() else { continue };
        file.write_all(&part).await?;
        let bytes = u32::try_from(part.len()).expect("a part is small");
        work.advance(bytes.into()).await;
        if is_slow {
            // The rest waits in the kernel and then in the browser: a slow reader makes a slow line.
            sleep(Duration::from_secs_f64(f64::from(bytes) / SLOW_BYTES_PER_S)).await;
        }
    }
    if work.job.done < work.job.total {
        return Err(broken_off());
    }
    Ok(file.sync_all().await?)
}

fn broken_off() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "upload_broken", "the upload broke off")
}

fn stopped() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "stopped", "it was stopped")
}

/// Begins a task that outlives the request, and the page.
async fn begin_report(State(app): State<App>, user: User) -> Result<(StatusCode, Json<Value>), Refusal> {
    let mut work =
        Work::begin(app, user.name, "report", "primes.txt".into(), report::TOTAL, report::BYTES_MAX).await?;
    let id = work.job.id.clone();
    tokio::spawn(async move {
        let outcome = report::write(&mut work).await;
        work.end(outcome).await
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))))
}

async fn stop(user: User, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    RUNNING.stop(&id, &user.name)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hands a file out, to its owner. What the file is called, the link says (`download`).
async fn file(
    State(app): State<App>,
    user: User,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let wanted = id.clone();
    let found: Option<i64> = app
        .database
        .run(move |connection| {
            let query = "SELECT 1 FROM jobs WHERE id = ? AND user = ? AND state = 'done'";
            Ok(connection.query_row(query, [wanted, user.name], |row| row.get(0)).optional()?)
        })
        .await?;
    found.ok_or_else(|| Refusal::not_found("this file is not there any more"))?;
    // Only ids of the table come this far, so this is no path to somewhere else.
    let mut answer =
        ServeFile::new(app.folder.join("files").join(id)).try_call(request).await?.into_response();
    let headers = answer.headers_mut();
    let set = |value| header::HeaderValue::from_static(value);
    headers.insert(header::CONTENT_TYPE, set("application/octet-stream"));
    // It may be a page with a script: it is saved, and never shown under our own address.
    headers.insert(header::CONTENT_DISPOSITION, set("attachment"));
    headers.insert(header::CACHE_CONTROL, set("private, no-cache"));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_make_room_for_new_ones() {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(SCHEMA).expect("a table");
        let row = |id: &str, bytes, since| {
            (id.to_owned(), "ann".to_owned(), "upload".to_owned(), "a".to_owned(), bytes, since)
        };
        assert!(add(&connection, row("1", FILES_BYTES_MAX / 2, 1)).expect("added").is_empty());
        assert!(add(&connection, row("2", FILES_BYTES_MAX / 2, 2)).expect("added").is_empty());
        connection.execute("UPDATE jobs SET state = 'done' WHERE id = '1'", []).expect("done");
        assert_eq!(add(&connection, row("3", 1, 3)).expect("added"), ["1"]);
        connection.execute("UPDATE jobs SET state = 'done'", []).expect("done");
        for since in 4..4 + JOBS_MAX {
            add(&connection, row(&since.to_string(), 1, since)).expect("added");
        }
        let count: i64 =
            connection.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0)).expect("one");
        assert_eq!(count, JOBS_MAX);
    }
}
