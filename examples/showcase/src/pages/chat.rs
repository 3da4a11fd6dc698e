//! The chat: rooms, private messages, pictures, search, and an admin who can mute.
//!
//! The way of a message. It is stored as *not sent*, published, and marked as *sent*. If that stops half-way, it is published
//! again: with the same id, so nobody gets it twice.
//!
//! The page opens its stream and then loads the newest messages from here. A message is in one of the two, or in both and
//! then with the same id.

mod images;
mod store;

use std::time::Duration;

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use reqwest::Method;
use rusqlite::params;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Body, Params, Refusal};
use crate::app::App;
use crate::names::{User, now_ms, random_name};

use self::store::{Message, Place};

pub(crate) use self::store::SCHEMA;

const TEXT_CHARACTERS_MAX: usize = 2000;
const KEY_CHARACTERS_MAX: usize = 64;
/// People in the list of a room, present or not.
const PEOPLE_MAX: usize = 100;
/// How long a page waits for messages that are being published.
const SETTLE_LOOK: Duration = Duration::from_millis(20);
const SETTLE_LOOKS: usize = 100;
/// How often messages are looked for that could not be published.
const SEND_AGAIN: Duration = Duration::from_secs(30);
const MUTE_MINUTES_MAX: i64 = 24 * 60;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/app/chat", get(overview))
        .route("/app/chat/search", get(search))
        .route("/app/chat/images", post(images::upload))
        .route("/app/chat/images/{image}", get(images::show))
        .route("/app/chat/{place}", get(page).post(send))
        .route("/app/chat/{place}/typing", post(typing))
        .route("/app/chat/{place}/mute/{user}", put(mute).delete(unmute))
}

/// What a start has to make up for: Tidegate forgets mutes when it ends, and messages may wait to be sent.
pub(crate) async fn begin(app: &App) -> Result<(), Refusal> {
    let now = now_ms();
    let mutes = app.database.run(move |connection| Ok(store::mutes(connection, now)?)).await?;
    for (room, user, until) in mutes {
        tell_mute(app, &room, &user, (until - now) / 1000).await?;
    }
    send_again(app, now).await?;
    let app = app.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SEND_AGAIN).await;
            // Without a database there is nothing to send, and the log has the reason.
            let _ = send_again(&app, now_ms() - store::SENDING_MS).await;
        }
    });
    Ok(())
}

/// Publishes messages from before `until` that are stored and not sent.
async fn send_again(app: &App, until: i64) -> Result<(), Refusal> {
    for message in app.database.run(move |connection| Ok(store::unsent(connection, until)?)).await? {
        // `publish` stores the outcome.
        let _ = publish(app, message).await;
    }
    Ok(())
}

/// The rooms, the people, and with whom the user has private conversations.
async fn overview(State(app): State<App>, user: User) -> Result<Json<Value>, Refusal> {
    let is_admin = user.is_admin;
    let name = user.name.clone();
    let (people, talks) = app
        .database
        .run(move |connection| Ok((store::people(connection, PEOPLE_MAX)?, store::talks(connection, &name)?)))
        .await?;
    let rooms = store::ROOMS;
    Ok(Json(
        json!({ "user": user.name, "is_admin": is_admin, "rooms": rooms, "people": people, "talks": talks }),
    ))
}

#[derive(Deserialize)]
struct Before {
    /// The oldest message that the page has.
    before: Option<i64>,
}

/// A page of messages, the oldest first.
async fn page(
    State(app): State<App>,
    user: User,
    Path(place): Path<String>,
    Params(Before { before }): Params<Before>,
) -> Result<Json<Value>, Refusal> {
    let place = Place::of(&place, &user)?;
    // A message that is just being published may have passed before the page's stream was open, and is not sent as far as the
    // database knows. What becomes of it is known in a moment.
    for _ in 0..SETTLE_LOOKS {
        let key = place.key(&user.name);
        if !app.database.run(move |connection| Ok(store::is_sending(connection, &key, now_ms())?)).await? {
            break;
        }
        tokio::time::sleep(SETTLE_LOOK).await;
    }
    app.database
        .run(move |connection| {
            place.check(connection)?;
            let (messages, has_more) = store::page(connection, &place.key(&user.name), before)?;
            let muted_until = store::muted_until(connection, &place.key(&user.name), &user.name, now_ms())?;
            Ok(Json(json!({ "messages": messages, "has_more": has_more, "muted_until": muted_until })))
        })
        .await
}

#[derive(Deserialize)]
struct Sent {
    text: String,
    /// The message that this one answers.
    quotes: Option<i64>,
    /// What `POST /app/chat/images` answered.
    image: Option<String>,
    /// The page's own name for this message. A double click, or a try after a lost answer, has the same.
    key: String,
}

async fn send(
    State(app): State<App>,
    user: User,
    Path(place): Path<String>,
    Body(sent): Body<Sent>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let place = Place::of(&place, &user)?;
    let text = sent.text.trim().to_owned();
    if text.is_empty() && sent.image.is_none() || text.chars().count() > TEXT_CHARACTERS_MAX {
        return Err(Refusal::invalid("text_invalid", "a message has 1 to 2,000 characters, or an image"));
    }
    if !(1..=KEY_CHARACTERS_MAX).contains(&sent.key.chars().count()) {
        return Err(Refusal::invalid("key_invalid", "a key has 1 to 64 characters"));
    }
    let message = app
        .database
        .run(move |connection| {
            place.check(connection)?;
            store::add(connection, &place, &user.name, &text, sent.quotes, sent.image.as_deref(), &sent.key)
        })
        .await?;
    let id = message.id;
    if !message.is_sent {
        // In a task of its own: who closes the page now would otherwise end it half-way.
        tokio::spawn(async move { publish(&app, message).await }).await.expect("it does not panic")?;
    }
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

/// Publishes a stored message, and stores what became of it.
async fn publish(app: &App, message: Message) -> Result<(), Refusal> {
    let id = message.id;
    let outcome = app.push.publish(&events(&message), &message.from, Some(&format!("chat-{id}"))).await;
    let outcome = match outcome {
        // It went out longer ago than Tidegate remembers the name of the publish, and was not marked.
        Err(refusal) if refusal.code() == "event_id_repeated" => Ok(()),
        outcome => outcome,
    };
    match &outcome {
        Ok(()) => app.database.run(move |connection| Ok(store::mark_sent(connection, id)?)).await?,
        // Nobody knows whether it went out. The page may try again with its key, and `send_again` does.
        Err(refusal) if refusal.may_pass() => {}
        // Muted, or the same again: it was never said.
        Err(_) => app.database.run(move |connection| Ok(store::remove(connection, id)?)).await?,
    }
    outcome
}

/// The events of a message: one for the others, and one for the sender's own tabs and devices.
///
/// The sender's page shows a message at once, so the room's event excludes the sender. The other event says which message of
/// the page it was (`key`); nobody else needs to know that.
fn events(message: &Message) -> Value {
    // `refuse_repeats` compares data. So what is never the same twice, the id and with it the time, is not in there: it is the
    // event's own id on the wire.
    let data =
        json!({ "from": message.from, "text": message.text, "quote": message.quote, "image": message.image });
    let wire_id = format!("m.{}", message.id);
    let mut own = json!({ "id": message.id, "key": message.key, "place": message.place.name() });
    own.as_object_mut().expect("an object").extend(data.as_object().cloned().unwrap_or_default());
    let own = json!({ "user": message.from, "event": "own", "data": own });
    let others = match &message.place {
        Place::Room(room) => {
            json!({ "room": room, "event": "said", "id": wire_id, "data": data, "exclude": message.from })
        }
        Place::With(user) => json!({ "user": user, "event": "private", "id": wire_id, "data": data }),
    };
    json!([others, own])
}

/// Says that the user is writing. Nobody needs to know that later, so it is not stored.
async fn typing(
    State(app): State<App>,
    user: User,
    Path(place): Path<String>,
) -> Result<StatusCode, Refusal> {
    let place = Place::of(&place, &user)?;
    let checked = place.clone();
    app.database.run(move |connection| checked.check(connection)).await?;
    let data = json!({ "from": user.name });
    let event = match &place {
        Place::Room(room) => {
            json!({ "room": room, "event": "typing", "data": data, "store": false, "exclude": user.name })
        }
        Place::With(other) => json!({ "user": other, "event": "typing", "data": data, "store": false }),
    };
    app.push.publish(&event, &user.name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Mute {
    minutes: i64,
}

async fn mute(
    State(app): State<App>,
    admin: User,
    Path((place, user)): Path<(String, String)>,
    Body(Mute { minutes }): Body<Mute>,
) -> Result<Json<Value>, Refusal> {
    let room = muted_room(&admin, &place, &user)?;
    if !(1..=MUTE_MINUTES_MAX).contains(&minutes) {
        return Err(Refusal::invalid("minutes_invalid", "a mute lasts 1 to 1,440 minutes"));
    }
    let until = now_ms() + minutes * 60_000;
    let (for_room, for_user) = (room.clone(), user.clone());
    app.database
        .run(move |connection| {
            if User::find(connection, &for_user)?.is_none() {
                return Err(Refusal::not_found("there is no such user"));
            }
            let set = "INSERT INTO mutes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until";
            connection.execute(set, params![for_room, for_user, until])?;
            Ok(())
        })
        .await?;
    // From here on Tidegate refuses what the user publishes, and tells the user's page.
    tell_mute(&app, &room, &user, minutes * 60).await?;
    Ok(Json(json!({ "until": until })))
}

async fn unmute(
    State(app): State<App>,
    admin: User,
    Path((place, user)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let room = muted_room(&admin, &place, &user)?;
    app.push.ask(Method::DELETE, &["rooms", &room, "mute", &user], &[]).await?;
    // Tidegate tells a page that its user is muted, but not that this is over.
    let event = json!({ "user": user, "event": "unmuted", "data": { "room": room } });
    app.push.publish(&event, &admin.name, Some(&random_name())).await?;
    app.database
        .run(move |connection| {
            connection.execute("DELETE FROM mutes WHERE room = ? AND user = ?", params![room, user])?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

fn muted_room(admin: &User, place: &str, user: &str) -> Result<String, Refusal> {
    match Place::of(place, admin)? {
        Place::Room(room) if admin.is_admin && user != admin.name => Ok(room),
        _ => Err(Refusal::forbidden("an admin mutes others, in rooms")),
    }
}

async fn tell_mute(app: &App, room: &str, user: &str, seconds: i64) -> Result<(), Refusal> {
    app.push.ask(Method::POST, &["rooms", room, "mute", user], &[("for", &seconds.max(1).to_string())]).await
}

#[derive(Deserialize)]
struct Search {
    q: String,
}

/// Finds messages in the rooms and in the user's own private conversations, the newest first.
async fn search(
    State(app): State<App>,
    user: User,
    Params(Search { q }): Params<Search>,
) -> Result<Json<Value>, Refusal> {
    let wanted = q.trim().to_owned();
    if !(1..=100).contains(&wanted.chars().count()) {
        return Err(Refusal::invalid("search_invalid", "a search has 1 to 100 characters"));
    }
    app.database
        .run(move |connection| {
            Ok(Json(json!({ "messages": store::search(connection, &user.name, &wanted)? })))
        })
        .await
}
