//! Notifications: an inbox for each user, messages to one, to several, to everyone, and to those with a permission.
//!
//! The database is the truth, and Tidegate says at once what is new. If a push is lost, the notice is late and not lost: the
//! page has it when it loads its inbox the next time.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Body, Refusal};
use crate::app::App;
use crate::names::{User, now_ms, random_name};

/// A notice to everyone is one row, not one for each user. Who has read it is in `reads`.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    audience TEXT NOT NULL, -- Audience::key
    sender TEXT NOT NULL,
    text TEXT NOT NULL,
    since INTEGER NOT NULL, -- milliseconds since 1970
    key TEXT NOT NULL,
    UNIQUE (sender, key, audience)
);
CREATE INDEX IF NOT EXISTS notices_by_audience ON notices (audience, id);
CREATE TABLE IF NOT EXISTS reads (
    user TEXT NOT NULL,
    notice INTEGER NOT NULL REFERENCES notices ON DELETE CASCADE,
    PRIMARY KEY (user, notice)
);
CREATE INDEX IF NOT EXISTS reads_by_notice ON reads (notice);
";

const TEXT_CHARACTERS_MAX: usize = 280;
const KEY_CHARACTERS_MAX: usize = 64;
const RECIPIENTS_MAX: usize = 50;
/// Notices in an inbox. Older ones are not shown any more.
const INBOX_MAX: usize = 100;
/// Notices that are kept for one audience.
const KEPT_MAX: i64 = 200;
/// People to choose from.
const PEOPLE_MAX: usize = 200;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/app/notifications", get(inbox).post(send))
        .route("/app/notifications/read", post(read))
        .route("/app/notifications/staff", put(set_staff))
}

/// For whom a notice is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Audience {
    All,
    /// Who holds the permission `staff`.
    Staff,
    Users(BTreeSet<String>),
}

/// What stands in the column `audience`. Names have no colon.
const ALL: &str = ":all";
const STAFF: &str = ":staff";

#[derive(Clone, Debug, Serialize)]
struct Notice {
    id: i64,
    from: String,
    text: String,
    since: i64,
    /// `all`, `staff` or `you`.
    to: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_read: bool,
    #[serde(skip)]
    audience: String,
}

/// The columns of a [`Notice`], as the user `?1` sees it.
const COLUMNS: &str = "n.id, n.sender, n.text, n.since, n.audience,
    EXISTS (SELECT 1 FROM reads r WHERE r.user = ?1 AND r.notice = n.id) FROM notices n";

fn notice(row: &rusqlite::Row<'_>) -> rusqlite::Result<Notice> {
    let audience: String = row.get(4)?;
    let to = match &*audience {
        ALL => "all",
        STAFF => "staff",
        _ => "you",
    };
    Ok(Notice {
        id: row.get(0)?,
        from: row.get(1)?,
        text: row.get(2)?,
        since: row.get(3)?,
        to,
        is_read: row.get(5)?,
        audience,
    })
}

async fn inbox(State(app): State<App>, user: User) -> Result<Json<Value>, Refusal> {
    let (name, is_staff) = (user.name.clone(), user.is_staff);
    let (notices, people) =
        app.database.run(move |connection| Ok((notices_of(connection, &user)?, people(connection)?))).await?;
    Ok(Json(json!({ "user": name, "is_staff": is_staff, "notices": notices, "people": people })))
}

/// The newest notices for a user, the newest first. What was said to all before the user came is not among them.
fn notices_of(connection: &Connection, user: &User) -> rusqlite::Result<Vec<Notice>> {
    let query = format!(
        "SELECT {COLUMNS}
         WHERE n.audience IN (?1, ?2, ?3) AND n.since >= (SELECT since FROM users WHERE name = ?1)
         ORDER BY n.id DESC LIMIT {INBOX_MAX}"
    );
    let staff = user.is_staff.then_some(STAFF);
    connection.prepare(&query)?.query_map(params![user.name, ALL, staff], notice)?.collect()
}

fn people(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let query = format!("SELECT name FROM users ORDER BY since DESC LIMIT {PEOPLE_MAX}");
    connection.prepare(&query)?.query_map([], |row| row.get(0))?.collect()
}

#[derive(Deserialize)]
struct Draft {
    to: Audience,
    text: String,
    /// The page's own name for this notice. A double click, or a try after a lost answer, has the same.
    key: String,
}

/// Here everybody may write to everyone. In your application this is where that is decided.
async fn send(
    State(app): State<App>,
    user: User,
    Body(draft): Body<Draft>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let text = draft.text.trim().to_owned();
    if !(1..=TEXT_CHARACTERS_MAX).contains(&text.chars().count()) {
        return Err(Refusal::invalid("notice_invalid", "a notice has 1 to 280 characters"));
    }
    if !(1..=KEY_CHARACTERS_MAX).contains(&draft.key.chars().count()) {
        return Err(Refusal::invalid("key_invalid", "a key has 1 to 64 characters"));
    }
    let sender = user.name.clone();
    let notices =
        app.database.run(move |connection| add(connection, &sender, &draft.to, &text, &draft.key)).await?;
    let events: Vec<Value> = notices.iter().map(event).collect();
    // All in one request: they go out together or not at all.
    let once = format!("notices-{}", notices.first().map_or(0, |notice| notice.id));
    app.push.publish(&json!(events), &user.name, Some(&once)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "notices": notices.len() }))))
}

/// The event of a notice. Tidegate knows who has a stream, and who holds a permission.
fn event(notice: &Notice) -> Value {
    match notice.to {
        "all" => json!({ "all": true, "event": "notice", "data": notice }),
        "staff" => json!({ "all": true, "require": "staff", "event": "notice", "data": notice }),
        _ => json!({ "user": notice.audience, "event": "notice", "data": notice }),
    }
}

/// Stores a notice for each audience, all or none. What came with the same `key` before is returned.
fn add(
    connection: &mut Connection,
    sender: &str,
    to: &Audience,
    text: &str,
    key: &str,
) -> Result<Vec<Notice>, Refusal> {
    let transaction = connection.transaction()?;
    let audiences: Vec<&str> = match to {
        Audience::All => vec![ALL],
        Audience::Staff => vec![STAFF],
        Audience::Users(users) => users.iter().map(String::as_str).collect(),
    };
    if !(1..=RECIPIENTS_MAX).contains(&audiences.len()) {
        return Err(Refusal::invalid(
            "recipients_invalid",
            "a notice is for 1 to 50 people, or for everyone",
        ));
    }
    for audience in audiences {
        if matches!(to, Audience::Users(_)) && User::find(&transaction, audience)?.is_none() {
            return Err(Refusal::not_found("there is no such user"));
        }
        transaction.execute(
            "INSERT INTO notices (audience, sender, text, since, key) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            params![audience, sender, text, now_ms(), key],
        )?;
        transaction.execute(
            "DELETE FROM notices WHERE audience = ?1 AND id <= (
                SELECT id FROM notices WHERE audience = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            params![audience, KEPT_MAX],
        )?;
    }
    let query = format!("SELECT {COLUMNS} WHERE n.sender = ?2 AND n.key = ?3 ORDER BY n.id");
    // To nobody in particular: no reader has read it yet.
    let notices =
        transaction.prepare(&query)?.query_map(["", sender, key], notice)?.collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(notices)
}

#[derive(Deserialize)]
struct Read {
    ids: BTreeSet<i64>,
}

/// Notes that the user has read these, and tells the user's other tabs and devices.
async fn read(
    State(app): State<App>,
    user: User,
    Body(Read { ids }): Body<Read>,
) -> Result<StatusCode, Refusal> {
    if !(1..=INBOX_MAX).contains(&ids.len()) {
        return Err(Refusal::invalid("ids_invalid", "read takes 1 to 100 notices"));
    }
    let event = json!({ "user": user.name, "event": "read", "data": { "ids": ids } });
    let name = user.name.clone();
    app.database
        .run(move |connection| {
            let transaction = connection.transaction()?;
            // Only what is in the user's own inbox.
            let own: BTreeSet<i64> =
                notices_of(&transaction, &user)?.iter().map(|notice| notice.id).collect();
            for id in ids.intersection(&own) {
                transaction.execute("INSERT OR IGNORE INTO reads VALUES (?, ?)", params![user.name, id])?;
            }
            Ok(transaction.commit()?)
        })
        .await?;
    app.push.publish(&event, &name, Some(&random_name())).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Staff {
    is_staff: bool,
}

/// Gives the user the permission `staff`, or takes it away. Here everybody may do that, to try it out; in your application
/// somebody else decides.
///
/// A permission is in the token. One that is held already goes on until it ends.
async fn set_staff(
    State(app): State<App>,
    user: User,
    Body(Staff { is_staff }): Body<Staff>,
) -> Result<StatusCode, Refusal> {
    app.database
        .run(move |connection| {
            connection
                .execute("UPDATE users SET is_staff = ? WHERE name = ?", params![is_staff, user.name])?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    fn new() -> Connection {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch("PRAGMA foreign_keys = ON").expect("SQLite has them");
        for schema in [names::SCHEMA, SCHEMA] {
            connection.execute_batch(schema).expect("tables");
        }
        for name in ["ann", "bob", "cat"] {
            connection.execute("INSERT INTO users VALUES (?1, ?1, 0, 0, 0)", [name]).expect("a user");
        }
        connection
    }

    fn user(name: &str, is_staff: bool) -> User {
        User { name: name.into(), is_admin: false, is_staff }
    }

    fn texts(connection: &Connection, user: &User) -> Vec<String> {
        let notices = notices_of(connection, user).expect("a list");
        notices.into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn an_inbox_has_what_is_for_its_user() {
        let mut connection = new();
        let users = |names: &[&str]| Audience::Users(names.iter().map(ToString::to_string).collect());
        for (to, text) in [
            (Audience::All, "all"),
            (Audience::Staff, "staff"),
            (users(&["bob"]), "one"),
            (users(&["bob", "cat"]), "two"),
        ] {
            add(&mut connection, "ann", &to, text, text).expect("it is stored");
        }
        assert_eq!(texts(&connection, &user("bob", false)), ["two", "one", "all"]);
        assert_eq!(texts(&connection, &user("cat", true)), ["two", "staff", "all"]);
        let err =
            add(&mut connection, "ann", &users(&["bob", "eve"]), "no", "no").expect_err("there is no eve");
        assert_eq!(err.code(), "not_found");
        assert_eq!(texts(&connection, &user("bob", false)).len(), 3);
    }

    #[test]
    fn a_key_is_one_notice_for_each_audience() {
        let mut connection = new();
        let first = add(&mut connection, "ann", &Audience::All, "hi", "k").expect("it is stored");
        let again = add(&mut connection, "ann", &Audience::All, "hi", "k").expect("it is there");
        assert_eq!(first[0].id, again[0].id);
    }

    #[test]
    fn an_audience_keeps_so_many() {
        let mut connection = new();
        for n in 0..KEPT_MAX + 5 {
            add(&mut connection, "ann", &Audience::All, "hi", &n.to_string()).expect("it is stored");
        }
        let count: i64 =
            connection.query_row("SELECT count(*) FROM notices", [], |row| row.get(0)).expect("a count");
        assert_eq!(count, KEPT_MAX);
    }
}
