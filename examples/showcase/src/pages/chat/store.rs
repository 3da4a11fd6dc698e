//! What the chat keeps: messages with a search index, pictures' names, and mutes.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use crate::answer::Refusal;
use crate::names::{User, now_ms};

/// The rooms. `tidegate.toml` has a table for all of them.
pub(super) const ROOMS: [&str; 3] = ["chat-lobby", "chat-kitchen", "chat-workshop"];

const PAGE: usize = 30;
const FOUND_MAX: usize = 50;
const TALKS_MAX: usize = 50;
/// Messages that are kept. Beyond that the oldest one goes for each new one.
const MESSAGES_MAX: i64 = 20_000;
/// More than a publish takes, its repeats included.
pub(super) const SENDING_MS: i64 = 20_000;
const QUOTE_CHARACTERS: i64 = 120;

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, -- microseconds since 1970, raised until nobody else has it: says when, and never comes again
    place TEXT NOT NULL,    -- Place::key
    one TEXT,               -- the two sides of a private conversation
    other TEXT,
    sender TEXT NOT NULL,
    text TEXT NOT NULL,
    quotes INTEGER,
    image TEXT,
    key TEXT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (sender, key)
);
CREATE INDEX IF NOT EXISTS messages_by_place ON messages (place, id);
CREATE INDEX IF NOT EXISTS messages_by_one ON messages (one);
CREATE INDEX IF NOT EXISTS messages_by_other ON messages (other);
CREATE INDEX IF NOT EXISTS messages_unsent ON messages (id) WHERE sent = 0;
-- Any three characters in a row: Chinese is written without spaces, so there are no words to look for.
CREATE VIRTUAL TABLE IF NOT EXISTS found USING fts5 (text, content = 'messages', content_rowid = 'id', tokenize = 'trigram');
CREATE TRIGGER IF NOT EXISTS found_add AFTER INSERT ON messages BEGIN
    INSERT INTO found (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER IF NOT EXISTS found_remove AFTER DELETE ON messages BEGIN
    INSERT INTO found (found, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mutes (room TEXT NOT NULL, user TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (room, user));
";

/// Where a message is said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// A room.
    Room(String),
    /// The private conversation with this user.
    With(String),
}

impl Place {
    /// Reads a place as the page names it: a room, or `@` and a user.
    pub(super) fn of(name: &str, me: &User) -> Result<Self, Refusal> {
        match name.strip_prefix('@') {
            Some(other) if other == me.name => Err(Refusal::forbidden("nobody talks to themselves here")),
            Some(other) => Ok(Self::With(other.to_owned())),
            None if ROOMS.contains(&name) => Ok(Self::Room(name.to_owned())),
            None => Err(Refusal::not_found("there is no such room")),
        }
    }

    /// Refuses a conversation with somebody who does not exist.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Refusal> {
        match self {
            Self::With(other) if User::find(connection, other)?.is_none() => {
                Err(Refusal::not_found("there is no such user"))
            }
            _ => Ok(()),
        }
    }

    /// The name by which `Place::of` reads it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Room(room) => room.clone(),
            Self::With(other) => format!("@{other}"),
        }
    }

    /// The place in the database: the same for both sides of a conversation. Names have no colon.
    pub(super) fn key(&self, me: &str) -> String {
        match self {
            Self::Room(room) => room.clone(),
            Self::With(other) => format!("private:{}:{}", me.min(other), me.max(other)),
        }
    }

    /// The reverse of [`Self::key`], as `me` sees it.
    fn from_key(key: &str, me: &str) -> Self {
        let mut parts = key.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("private"), Some(one), Some(other)) => {
                Self::With(if one == me { other } else { one }.to_owned())
            }
            _ => Self::Room(key.to_owned()),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Message {
    pub(super) id: i64,
    /// As the user sees it who asked for the message.
    pub(super) place: Place,
    pub(super) from: String,
    pub(super) text: String,
    pub(super) quote: Option<Quote>,
    pub(super) image: Option<String>,
    #[serde(skip)]
    pub(super) key: String,
    #[serde(skip)]
    pub(super) is_sent: bool,
}

/// The beginning of a message that another one answers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Quote {
    id: i64,
    from: String,
    text: String,
}

/// The columns that [`message`] reads. A quoted message that is gone is no quote.
const COLUMNS: &str =
    "m.id, m.place, m.sender, m.text, m.image, m.key, m.sent, q.id, q.sender, substr(q.text, 1, ?1)
    FROM messages m LEFT JOIN messages q ON q.id = m.quotes";

/// Reads [`COLUMNS`]. `me` is who looks at it; without one, it is the sender.
fn message(row: &Row<'_>, me: Option<&str>) -> rusqlite::Result<Message> {
    let (place, from): (String, String) = (row.get(1)?, row.get(2)?);
    let quote = match row.get::<_, Option<i64>>(7)? {
        Some(id) => Some(Quote { id, from: row.get(8)?, text: row.get(9)? }),
        None => None,
    };
    Ok(Message {
        id: row.get(0)?,
        place: Place::from_key(&place, me.unwrap_or(&from)),
        from,
        text: row.get(3)?,
        quote,
        image: row.get(4)?,
        key: row.get(5)?,
        is_sent: row.get(6)?,
    })
}

/// Stores a message that is not sent yet. If the sender's `key` came before, that message is returned.
pub(super) fn add(
    connection: &mut Connection,
    place: &Place,
    from: &str,
    text: &str,
    quotes: Option<i64>,
    image: Option<&str>,
    key: &str,
) -> Result<Message, Refusal> {
    let transaction = connection.transaction()?;
    let place_key = place.key(from);
    if let Some(quotes) = quotes {
        let is_here = "SELECT 1 FROM messages WHERE id = ? AND place = ? AND sent";
        let found = transaction.query_row(is_here, params![quotes, place_key], |_| Ok(())).optional()?;
        found.ok_or_else(|| Refusal::not_found("the quoted message is not here"))?;
    }
    if let Some(image) = image {
        let is_own = "SELECT 1 FROM images WHERE id = ? AND owner = ?";
        let found = transaction.query_row(is_own, [image, from], |_| Ok(())).optional()?;
        found.ok_or_else(|| Refusal::not_found("there is no such image of yours"))?;
    }
    let other = match place {
        Place::Room(_) => None,
        Place::With(other) => Some(other),
    };
    transaction.execute(
        "INSERT INTO messages (id, place, one, other, sender, text, quotes, image, key)
         VALUES (max(?, ifnull((SELECT max(id) FROM messages), 0) + 1), ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (sender, key) DO NOTHING",
        params![now_ms() * 1000, place_key, other.map(|_| from), other, from, text, quotes, image, key],
    )?;
    let query = format!("SELECT {COLUMNS} WHERE m.sender = ?2 AND m.key = ?3");
    let stored =
        transaction.query_row(&query, params![QUOTE_CHARACTERS, from, key], |row| message(row, None))?;
    transaction.commit()?;
    Ok(stored)
}

/// Lets readers have it, and forgets what is too old.
pub(super) fn mark_sent(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.execute("UPDATE messages SET sent = 1 WHERE id = ?", [id])?;
    connection.execute(
        "DELETE FROM messages WHERE id <= (SELECT id FROM messages ORDER BY id DESC LIMIT 1 OFFSET ?)",
        [MESSAGES_MAX],
    )?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM messages WHERE id = ? AND NOT sent", [id])?;
    Ok(())
}

/// Messages from before `until` that are not marked as sent.
pub(super) fn unsent(connection: &Connection, until: i64) -> rusqlite::Result<Vec<Message>> {
    let query = format!("SELECT {COLUMNS} WHERE NOT m.sent AND m.id < ?2 ORDER BY m.id");
    let bounds = params![QUOTE_CHARACTERS, until * 1000];
    connection.prepare(&query)?.query_map(bounds, |row| message(row, None))?.collect()
}

/// Whether a message of this place is on its way. What has waited for longer than a publish takes waits for a start.
pub(super) fn is_sending(connection: &Connection, place_key: &str, now: i64) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM messages WHERE NOT sent AND place = ? AND id > ?)";
    connection.query_row(query, params![place_key, (now - SENDING_MS) * 1000], |row| row.get(0))
}

/// The newest messages of a place that are older than `before`, the oldest first, and whether there are more.
pub(super) fn page(
    connection: &Connection,
    place_key: &str,
    before: Option<i64>,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let query = format!(
        "SELECT {COLUMNS} WHERE m.place = ?2 AND m.sent AND m.id < ?3 ORDER BY m.id DESC LIMIT {}",
        PAGE + 1
    );
    let mut statement = connection.prepare(&query)?;
    let rows = statement
        .query_map(params![QUOTE_CHARACTERS, place_key, before.unwrap_or(i64::MAX)], |row| {
            message(row, None)
        })?;
    let mut messages: Vec<Message> = rows.collect::<Result<_, _>>()?;
    let has_more = messages.len() > PAGE;
    messages.truncate(PAGE);
    messages.reverse();
    Ok((messages, has_more))
}

/// Messages with `wanted` somewhere in their text, the newest first.
pub(super) fn search(connection: &Connection, me: &str, wanted: &str) -> rusqlite::Result<Vec<Message>> {
    // As one string of FTS5 it has no operators. The index knows three characters and more; for fewer, all are read.
    let (condition, pattern) = if wanted.chars().count() >= 3 {
        (
            "m.id IN (SELECT rowid FROM found WHERE found MATCH ?2)",
            format!("\"{}\"", wanted.replace('"', "\"\"")),
        )
    } else {
        ("instr(lower(m.text), ?2) > 0", wanted.to_lowercase())
    };
    let query = format!(
        "SELECT {COLUMNS} WHERE {condition} AND m.sent AND (m.one IS NULL OR m.one = ?3 OR m.other = ?3)
         ORDER BY m.id DESC LIMIT {FOUND_MAX}"
    );
    let mut statement = connection.prepare(&query)?;
    statement.query_map(params![QUOTE_CHARACTERS, pattern, me], |row| message(row, Some(me)))?.collect()
}

/// Names, those who came last first.
pub(super) fn people(connection: &Connection, most: usize) -> rusqlite::Result<Vec<String>> {
    let query = format!("SELECT name FROM users ORDER BY since DESC LIMIT {most}");
    connection.prepare(&query)?.query_map([], |row| row.get(0))?.collect()
}

/// A private conversation of a user.
#[derive(Debug, Serialize)]
pub(super) struct Talk {
    with: String,
    /// The newest message of the other one, or 0.
    newest: i64,
}

/// With whom `me` has private conversations, the newest first.
pub(super) fn talks(connection: &Connection, me: &str) -> rusqlite::Result<Vec<Talk>> {
    let query = format!(
        "SELECT iif(one = ?1, other, one) AS name, max(iif(sender = ?1, 0, id)) FROM messages
         WHERE sent AND (one = ?1 OR other = ?1) GROUP BY name ORDER BY max(id) DESC LIMIT {TALKS_MAX}"
    );
    let talk = |row: &Row<'_>| Ok(Talk { with: row.get(0)?, newest: row.get(1)? });
    connection.prepare(&query)?.query_map([me], talk)?.collect()
}

/// Until when `user` is muted in a room, in milliseconds since 1970.
pub(super) fn muted_until(
    connection: &Connection,
    room: &str,
    user: &str,
    now: i64,
) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT until FROM mutes WHERE room = ? AND user = ? AND until > ?";
    connection.query_row(query, params![room, user, now], |row| row.get(0)).optional()
}

/// All mutes that are not over. The others are forgotten.
pub(super) fn mutes(connection: &Connection, now: i64) -> rusqlite::Result<Vec<(String, String, i64)>> {
    connection.execute("DELETE FROM mutes WHERE until <= ?", [now])?;
    let mut statement = connection.prepare("SELECT room, user, until FROM mutes")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    fn new() -> Connection {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(names::SCHEMA).expect("tables");
        connection.execute_batch(SCHEMA).expect("tables");
        connection
    }

    fn say(connection: &mut Connection, place: &Place, from: &str, text: &str) -> i64 {
        let key = names::random_name();
        let message = add(connection, place, from, text, None, None, &key).expect("it is stored");
        mark_sent(connection, message.id).expect("it is there");
        message.id
    }

    fn texts(found: &[Message]) -> Vec<&str> {
        found.iter().map(|message| &*message.text).collect()
    }

    fn lobby() -> Place {
        Place::Room("chat-lobby".into())
    }

    #[test]
    fn pages_go_back_to_the_first_message_and_have_each_once() {
        let mut connection = new();
        let ids: Vec<i64> = (0..70).map(|n| say(&mut connection, &lobby(), "ann", &n.to_string())).collect();
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let (messages, has_more) = page(&connection, "chat-lobby", before).expect("a page");
            before = messages.first().map(|message| message.id);
            seen.splice(0..0, messages.iter().map(|message| message.id));
            if !has_more {
                break;
            }
        }
        assert_eq!(seen, ids);
    }

    #[test]
    fn a_key_stores_one_message() {
        let mut connection = new();
        let first = add(&mut connection, &lobby(), "ann", "hi", None, None, "k").expect("it is stored");
        let again = add(&mut connection, &lobby(), "ann", "hi", None, None, "k").expect("it is there");
        let other = add(&mut connection, &lobby(), "bob", "hi", None, None, "k").expect("it is stored");
        assert_eq!(first.id, again.id);
        assert_ne!(first.id, other.id);
        // What is not sent yet is nobody's to read, and waits for the next start.
        assert!(page(&connection, "chat-lobby", None).expect("a page").0.is_empty());
        assert_eq!(unsent(&connection, now_ms() + 1000).expect("a list").len(), 2);
    }

    #[test]
    fn private_messages_are_for_two() {
        let mut connection = new();
        // A name that would match others if it were a pattern.
        let id = say(&mut connection, &Place::With("a_b".into()), "bob", "the secret word");
        say(&mut connection, &lobby(), "bob", "no secret");
        for (me, found) in [("bob", 2), ("a_b", 2), ("axb", 1), ("A_B", 1)] {
            assert_eq!(search(&connection, me, "secret").expect("a search").len(), found, "{me}");
        }
        let [talk] = &talks(&connection, "a_b").expect("a list")[..] else { panic!("one conversation") };
        assert_eq!((&*talk.with, talk.newest), ("bob", id));
        assert_eq!(talks(&connection, "bob").expect("a list")[0].newest, 0);
        assert!(talks(&connection, "axb").expect("a list").is_empty());
    }

    #[test]
    fn search_finds_parts_of_words_chinese_and_what_looks_like_an_operator() {
        let mut connection = new();
        for text in ["High tide at noon", "今天下午三点涨潮", "a \"quoted\" OR b*"] {
            say(&mut connection, &lobby(), "ann", text);
        }
        for (wanted, found) in
            [("IGH TI", 0), ("涨潮", 1), ("下午三点", 1), ("\" OR", 2), ("OR b*", 2), ("NEAR(", 9)]
        {
            let messages = search(&connection, "bob", wanted).expect("a search");
            let expected: &[&str] = match found {
                0 => &["High tide at noon"],
                1 => &["今天下午三点涨潮"],
                2 => &["a \"quoted\" OR b*"],
                _ => &[],
            };
            assert_eq!(texts(&messages), expected, "{wanted}");
        }
    }

    #[test]
    fn a_quote_is_from_the_same_place() {
        let mut connection = new();
        let id = say(&mut connection, &lobby(), "ann", "here");
        let kitchen = Place::Room("chat-kitchen".into());
        let err =
            add(&mut connection, &kitchen, "bob", "what?", Some(id), None, "k").expect_err("it is elsewhere");
        assert_eq!(err.code(), "not_found");
        let quoting =
            add(&mut connection, &lobby(), "bob", "what?", Some(id), None, "k").expect("it is here");
        assert_eq!(quoting.quote.expect("a quote").from, "ann");
    }
}
