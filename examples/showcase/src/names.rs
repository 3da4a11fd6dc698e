//! Who somebody is: names without a password, the session in a cookie, and tokens for Tidegate.
//!
//! A name belongs to the browser that took it first. Your application has its own accounts instead, and keeps the second
//! half of this file.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{FromRequestParts, Json, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Body, Refusal};
use crate::app::App;
use crate::pages;

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY,
    folded TEXT NOT NULL UNIQUE, -- Ann and ann are one
    is_admin INTEGER NOT NULL,
    is_staff INTEGER NOT NULL,
    since INTEGER NOT NULL       -- milliseconds since 1970
);";

/// The secret with which tokens are signed. Tidegate has it too.
pub(crate) const TOKEN_KEY_FILE: &str = "token.key";
/// Another secret, so that no session is ever taken for a token.
const SESSION_KEY_FILE: &str = "session.key";

const COOKIE: &str = "showcase";
const SESSION_TIME: Duration = Duration::from_hours(30 * 24);
/// Short, because a token cannot be taken back as easily as a session. The client renews it.
const TOKEN_TIME: Duration = Duration::from_mins(5);
const NAME_CHARACTERS_MAX: usize = 24;
const USERS_MAX: i64 = 1000;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/app/session", get(show).post(sign_in).delete(sign_out))
        .route("/app/token", post(token))
}

/// The signed-in user. As a parameter of a handler it refuses everybody else.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) is_admin: bool,
    /// Has the permission `staff`.
    pub(crate) is_staff: bool,
}

impl User {
    /// The user of this name, if there is one.
    pub(crate) fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let query = "SELECT name, is_admin, is_staff FROM users WHERE name = ?";
        let user = |row: &rusqlite::Row<'_>| {
            Ok(Self { name: row.get(0)?, is_admin: row.get(1)?, is_staff: row.get(2)? })
        };
        connection.query_row(query, [name], user).optional()
    }

    fn json(&self) -> Value {
        json!({ "user": self.name, "is_admin": self.is_admin, "is_staff": self.is_staff })
    }
}

impl FromRequestParts<App> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let refusal = || Refusal::new(StatusCode::UNAUTHORIZED, "signed_out", "sign in first");
        let name = app.keys.session_of(&parts.headers).ok_or_else(refusal)?;
        let found = app.database.run(move |connection| Ok(Self::find(connection, &name)?)).await?;
        found.ok_or_else(refusal)
    }
}

/// Says who is signed in. Nobody is no error here: the page asks before it shows the form.
async fn show(user: Result<User, Refusal>) -> Json<Value> {
    Json(user.map_or(json!({ "user": null }), |user| user.json()))
}

#[derive(Deserialize)]
struct SignIn {
    name: String,
}

async fn sign_in(State(app): State<App>, Body(SignIn { name }): Body<SignIn>) -> Result<Response, Refusal> {
    let name = checked(&name)?;
    let user = app.database.run(move |connection| register(connection, &name)).await?;
    let session = sign(&app.keys.session, &Claims::new(&user.name, SESSION_TIME, vec![]));
    let cookie = cookie(&session, SESSION_TIME);
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(user.json())).into_response())
}

async fn sign_out() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie("", Duration::ZERO))])
}

/// Letters, digits, spaces, `-` and `_`: what needs no escaping anywhere, and cannot look like an address.
fn checked(name: &str) -> Result<String, Refusal> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_valid = (1..=NAME_CHARACTERS_MAX).contains(&name.chars().count())
        && name.chars().all(|c| c.is_alphanumeric() || " -_".contains(c));
    let title = "a name has 1 to 24 letters, digits, spaces, hyphens and underscores";
    if is_valid { Ok(name) } else { Err(Refusal::invalid("name_invalid", title)) }
}

/// Takes the name. The first user of all runs the place.
fn register(connection: &Connection, name: &str) -> Result<User, Refusal> {
    let count: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    if count >= USERS_MAX {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "names_full", "there are no more names"));
    }
    let is_first = count == 0;
    let taken = connection.execute(
        "INSERT INTO users VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        params![name, name.to_lowercase(), is_first, is_first, now_ms()],
    )?;
    if taken == 0 {
        return Err(Refusal::new(StatusCode::CONFLICT, "name_taken", "somebody else has this name"));
    }
    Ok(User { name: name.into(), is_admin: is_first, is_staff: is_first })
}

/// Not for scripts, and not for requests from other sites. Behind https, call it `__Host-showcase` and add `Secure`.
fn cookie(value: &str, time: Duration) -> String {
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", time.as_secs())
}

/// A token for Tidegate: who this is, and which rooms that may read. The client asks for a new one before it ends.
async fn token(State(app): State<App>, user: User) -> Json<Value> {
    let mut permissions: Vec<String> = pages::READS.iter().map(|room| format!("sse:read:{room}")).collect();
    permissions.extend(pages::MEMBERS.iter().map(|room| format!("sse:members:{room}")));
    // An event with `"require":"staff"` reaches only those who hold this.
    permissions.extend(user.is_staff.then(|| "staff".to_owned()));
    let token = sign(&app.keys.token, &Claims::new(&user.name, TOKEN_TIME, permissions));
    Json(json!({ "token": token, "expires_in_s": TOKEN_TIME.as_secs() }))
}

/// What a session and a token say.
#[derive(Deserialize, Serialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<String>,
}

impl Claims {
    fn new(user: &str, time: Duration, permissions: Vec<String>) -> Self {
        let now = since_1970();
        Self { sub: user.into(), iat: now.as_secs(), exp: (now + time).as_secs(), permissions }
    }
}

/// The secrets. Whoever starts again with the same data has the same.
#[derive(Clone)]
pub(crate) struct Keys {
    session: Vec<u8>,
    token: Vec<u8>,
}

impl Keys {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            session: secret(&folder.join(SESSION_KEY_FILE))?,
            token: secret(&folder.join(TOKEN_KEY_FILE))?,
        })
    }

    /// The name in the session's cookie, if the cookie is one of ours.
    fn session_of(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, session) = pairs.find(|(name, _)| *name == COOKIE)?;
        let key = DecodingKey::from_secret(&self.session);
        let claims = decode::<Claims>(session, &key, &Validation::new(Algorithm::HS256)).ok()?.claims;
        Some(claims.sub)
    }
}

fn sign(key: &[u8], claims: &Claims) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key)).expect("claims are JSON")
}

/// The secret at `path`, made if there is none.
fn secret(path: &Path) -> io::Result<Vec<u8>> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = random_name().into_bytes();
            file.write_all(&secret)?;
            Ok(secret)
        }
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => std::fs::read(path),
        Err(err) => Err(err),
    }
}

/// 256 random bits in hexadecimal: nobody guesses that.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random numbers");
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Milliseconds since 1970, as JavaScript counts time.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(since_1970().as_millis()).expect("it is not the year 292 million")
}

fn since_1970() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert_eq!(checked("  Ann   Lee ").expect("valid"), "Ann Lee");
        assert_eq!(checked("小明").expect("valid"), "小明");
        for name in ["", "  ", "a/b", "../x", "a:b", "<b>", "a\u{0}", "a\u{202e}b", &"x".repeat(25)] {
            assert_eq!(checked(name).expect_err(name).code(), "name_invalid");
        }
    }

    #[test]
    fn the_first_runs_the_place_and_nobody_takes_a_name_twice() {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(SCHEMA).expect("a table");
        assert!(register(&connection, "Ann").expect("free").is_admin);
        assert!(!register(&connection, "Bob").expect("free").is_admin);
        assert_eq!(register(&connection, "ann").expect_err("taken").code(), "name_taken");
    }

    #[test]
    fn a_token_is_no_session() {
        let keys = Keys { session: b"a".repeat(32), token: b"b".repeat(32) };
        let claims = Claims::new("ann", TOKEN_TIME, vec![]);
        let with = |session: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, format!("x=y; {COOKIE}={session}").parse().expect("text"));
            keys.session_of(&headers)
        };
        assert_eq!(with(&sign(&keys.session, &claims)).as_deref(), Some("ann"));
        assert_eq!(with(&sign(&keys.token, &claims)), None);
        assert_eq!(with(""), None);
    }
}
