//! Tutorial: how the other pages are built, step by step, in the reader's language.
//!
//! The texts are the Markdown files of `docs/tutorial`: whoever reads the repository reads the same.

use axum::Router;
use axum::extract::Path;
use axum::response::Html;
use axum::routing::get;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

use crate::answer::Refusal;
use crate::app::App;

const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tutorial");
const NAMES: [&str; 5] = ["first-page", "chat", "notifications", "progress", "ai"];

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/app/tutorial/{language}/{name}", get(show))
}

async fn show(Path((language, name)): Path<(String, String)>) -> Result<Html<String>, Refusal> {
    let folder = match &*language {
        "en" => "",
        "zh" => "zh/",
        _ => return Err(Refusal::not_found("the tutorial is in en and zh")),
    };
    if !NAMES.contains(&&*name) {
        return Err(Refusal::not_found("the tutorial has no such page"));
    }
    let text = tokio::fs::read_to_string(format!("{TEXTS}/{folder}{name}.md")).await?;
    // The paragraph below the title leads to the other language. Here the bar does.
    let mut parts = text.splitn(3, "\n\n");
    let (title, text) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    Ok(Html(render(&format!("{title}\n\n{text}"))))
}

/// Makes HTML of a text. Links to the other texts stay links. Those to files of the repository become plain text, because
/// this server does not have them.
fn render(text: &str) -> String {
    let mut is_link = false;
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = target(&dest_url)?.into();
            is_link = true;
            Some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        Event::End(TagEnd::Link) if !std::mem::take(&mut is_link) => None,
        event => Some(event),
    });
    let mut rendered = String::new();
    html::push_html(&mut rendered, events);
    rendered
}

fn target(link: &str) -> Option<String> {
    if link.starts_with("http://") || link.starts_with("https://") {
        return Some(link.to_owned());
    }
    let name = link.split('#').next()?.strip_suffix(".md")?;
    NAMES.contains(&name).then(|| format!("#{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_what_this_server_has() {
        let text = "[a](chat.md#b) [c](../client.md) [d](https://example.org/)";
        let wanted = "<p><a href=\"#chat\">a</a> c <a href=\"https://example.org/\">d</a></p>\n";
        assert_eq!(render(text), wanted);
    }

    #[tokio::test]
    async fn each_text_is_there_in_both_languages() {
        for language in ["en", "zh"] {
            for name in NAMES {
                let Html(text) = show(Path((language.into(), name.into()))).await.expect("it is there");
                assert!(text.starts_with("<h1>"), "{language} {name}");
                assert_eq!(text.contains('的'), language == "zh", "{language} {name}");
            }
        }
        for (language, name) in [("de", "chat"), ("en", "../client"), ("en", "zh/chat")] {
            show(Path((language.into(), name.into()))).await.expect_err("it is not there");
        }
    }
}
