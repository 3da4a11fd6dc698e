//! Pictures in the chat: files next to the database, whose names nobody can guess.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Json, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::{OptionalExtension as _, params};
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::app::App;
use crate::names::{User, now_ms, random_name};

/// Pictures that are kept. A message whose picture is gone says so.
const IMAGES_MAX: i64 = 200;

/// How the files of each kind begin. What the browser calls the file does not count.
const KINDS: [(&[u8], &str); 4] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
];

/// Stores a picture of at most 2 MiB, which is axum's own bound for a body.
pub(super) async fn upload(
    State(app): State<App>,
    user: User,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let bytes = bytes.unwrap_or_default();
    let kind = KINDS.iter().find(|(beginning, _)| bytes.starts_with(beginning)).map(|(_, kind)| *kind);
    let refusal =
        || Refusal::invalid("image_invalid", "an image is a PNG, JPEG, GIF or WebP file of at most 2 MiB");
    let kind = kind.ok_or_else(refusal)?;
    let id = random_name();
    let images = app.folder.join("images");
    tokio::fs::write(images.join(&id), bytes).await?;
    let name = id.clone();
    let forgotten: Vec<String> = app
        .database
        .run(move |connection| {
            let add = "INSERT INTO images VALUES (?, ?, ?, ?)";
            connection.execute(add, params![name, user.name, kind, now_ms()])?;
            let oldest =
                "DELETE FROM images WHERE id IN (SELECT id FROM images ORDER BY since DESC LIMIT -1 OFFSET ?)
                          RETURNING id";
            Ok(connection
                .prepare(oldest)?
                .query_map([IMAGES_MAX], |row| row.get(0))?
                .collect::<Result<_, _>>()?)
        })
        .await?;
    for old in forgotten {
        tokio::fs::remove_file(images.join(old)).await?;
    }
    Ok((StatusCode::CREATED, Json(json!({ "image": id }))))
}

pub(super) async fn show(
    State(app): State<App>,
    _user: User,
    Path(image): Path<String>,
) -> Result<Response, Refusal> {
    let id = image.clone();
    let kind: Option<String> = app
        .database
        .run(move |connection| {
            let query = "SELECT kind FROM images WHERE id = ?";
            Ok(connection.query_row(query, [id], |row| row.get(0)).optional()?)
        })
        .await?;
    let kind = kind.ok_or_else(|| Refusal::not_found("this image is not there any more"))?;
    // Only names of the table come this far, so this is no path to somewhere else.
    let bytes = tokio::fs::read(app.folder.join("images").join(image)).await?;
    let headers = [
        (header::CONTENT_TYPE, &*kind),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
        // Opened by itself, it is a picture and nothing else.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    Ok((headers, bytes).into_response())
}
