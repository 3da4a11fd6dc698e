//! The model: that of `OpenAI` with `OPENAI_API_KEY` (and `OPENAI_BASE_URL`, `OPENAI_MODEL`), of Ollama with `OLLAMA_URL`
//! (and `OLLAMA_MODEL`), else a stand-in that knows one thing.

use std::env;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Of one line of a model's stream.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How long a model may think before it says something, and between two words.
const IDLE: Duration = Duration::from_mins(1);

/// Which model answers. `None` is the stand-in.
pub(super) fn name() -> Option<String> {
    if env::var("OPENAI_API_KEY").is_ok() {
        return Some(env::var("OPENAI_MODEL").unwrap_or_else(|_| "gpt-4o-mini".into()));
    }
    env::var("OLLAMA_URL").is_ok().then(|| env::var("OLLAMA_MODEL").unwrap_or_else(|_| "llama3.2".into()))
}

/// Sends an answer word by word. It ends early if nobody takes the words.
pub(super) async fn answer(question: &str, words: &Sender<String>) -> Result<(), Failure> {
    let Some(model) = name() else {
        return stand_in(question, words).await;
    };
    let http = Client::builder().read_timeout(IDLE).build()?;
    let body =
        json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": question }] });
    if let Ok(key) = env::var("OPENAI_API_KEY") {
        let base = env::var("OPENAI_BASE_URL").unwrap_or_else(|_| "https://api.openai.com/v1".into());
        let request = http.post(format!("{}/chat/completions", base.trim_end_matches('/'))).bearer_auth(key);
        // Server-sent events, each with one line of data.
        read(request.json(&body), words, |line| match line.strip_prefix("data:")?.trim() {
            "[DONE]" => Some(Piece::End),
            data => piece(data, "/choices/0/delta/content", "/choices/0/finish_reason"),
        })
        .await
    } else {
        let base = env::var("OLLAMA_URL")?;
        let request = http.post(format!("{}/api/chat", base.trim_end_matches('/')));
        // Lines of JSON.
        read(request.json(&body), words, |line| piece(line, "/message/content", "/done")).await
    }
}

enum Piece {
    Words(String),
    /// The last words. Without this, the answer was cut.
    Last(String),
    End,
}

fn piece(json: &str, words_at: &str, end_at: &str) -> Option<Piece> {
    let value: Value = serde_json::from_str(json).ok()?;
    let words = value.pointer(words_at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_last = value.pointer(end_at).is_some_and(|end| !end.is_null() && *end != json!(false));
    Some(if is_last { Piece::Last(words) } else { Piece::Words(words) })
}

async fn read(
    request: RequestBuilder,
    words: &Sender<String>,
    parse: impl Fn(&str) -> Option<Piece>,
) -> Result<(), Failure> {
    let mut answer = request.send().await?.error_for_status()?;
    let mut held = Vec::new();
    while let Some(part) = answer.chunk().await? {
        held.extend_from_slice(&part);
        // A part ends anywhere, also within a character. A line does not.
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            match parse(str::from_utf8(&line)?.trim()) {
                Some(Piece::Words(text)) => words.send(text).await?,
                Some(Piece::Last(text)) => return Ok(words.send(text).await?),
                Some(Piece::End) => return Ok(()),
                None => {}
            }
        }
        if held.len() > LINE_BYTES_MAX {
            return Err("the model sent a line that is too long".into());
        }
    }
    Err("the model's answer was cut".into())
}

/// What the page can do without any model, told by itself.
const STORY: &str = "You asked: “{question}”\n\nI am a stand-in: I know only how this page works, and I tell it in any case.\n\n\
    Each word that you read has left the server a moment ago. The application asked a model, and the model speaks in pieces. \
    The application passes them on as lines of one request that stays open, and each line becomes an event in the room of this \
    answer. Whoever is in the room gets it at once.\n\n\
    Try three things while I write. Reload the page: the room begins with everything that I have said, and then I go on, in the \
    middle of a sentence if need be. Open the same address in another window, under another name: that reader sees the answer \
    from its first word, however late it is. Then press “Stop”: the model is told to be silent, and both of you see the same \
    last word.\n\n\
    With OPENAI_API_KEY or OLLAMA_URL in its environment, the application asks a real model instead of me. Nothing else \
    changes.";
const WORD: Duration = Duration::from_millis(60);

async fn stand_in(question: &str, words: &Sender<String>) -> Result<(), Failure> {
    let story = STORY.replace("{question}", question);
    for word in story.split_inclusive(' ') {
        words.send(word.into()).await?;
        tokio::time::sleep(WORD).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_words_and_perhaps_the_last() {
        let openai = |data| piece(data, "/choices/0/delta/content", "/choices/0/finish_reason");
        assert!(matches!(openai(r#"{"choices":[{"delta":{"content":"hi"},"finish_reason":null}]}"#),
            Some(Piece::Words(text)) if text == "hi"));
        assert!(matches!(openai(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
            Some(Piece::Last(text)) if text.is_empty()));
        let ollama = |data| piece(data, "/message/content", "/done");
        assert!(matches!(ollama(r#"{"message":{"content":"hi"},"done":false}"#), Some(Piece::Words(_))));
        assert!(matches!(ollama(r#"{"message":{"content":""},"done":true}"#), Some(Piece::Last(_))));
        assert!(piece("no JSON", "/a", "/b").is_none());
    }
}
