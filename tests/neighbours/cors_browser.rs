//! Promise: a real browser lets pages see what `cors_origins` allows and no more, with and without cookies, whether
//! they `fetch` or use `EventSource`; and a page whose name was made to resolve to this server gets nothing.

use crate::common::{
    browser::{chromium, proxy},
    neighbours,
};

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use self::chromium::Chromium;
use self::neighbours::Server;
use self::proxy::Proxy;

/// Runs in a page: returns the result of each request below `urls`, with cookies or without. In a frame that may only
/// run scripts, the origin is `null`.
const ASK: &str = r#"
const [base, credentials, sandboxed] = arguments;
async function ask(base, credentials) {
  const json = { "content-type": "application/json" };
  const good = '{"room":"a","data":1}';
  const requests = {
    read: ["/info"],
    missing: ["/nothing"],
    publish: ["/publish", { method: "POST", headers: json, body: good }],
    simple: ["/publish", { method: "POST", body: good }],
    wrong: ["/publish", { method: "POST", headers: json, body: "{}" }],
  };
  const found = {};
  for (const [name, [path, options]] of Object.entries(requests)) {
    try {
      const answer = await fetch(base + path, { ...options, credentials });
      const body = await answer.json();
      found[name] = body.code ?? answer.status;
    } catch (error) {
      found[name] = error.name;
    }
  }
  found.listen = await new Promise((resolve) => {
    const source = new EventSource(base + "/stream/a/me", { withCredentials: credentials === "include" });
    source.addEventListener("connected", () => { source.close(); resolve("connected"); });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve("closed"); };
  });
  return found;
}
if (!sandboxed) return ask(base, credentials);
return new Promise((resolve) => {
  addEventListener("message", ({ data, origin }) => resolve({ ...data, origin }), { once: true });
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  const call = `ask(${JSON.stringify(base)}, ${JSON.stringify(credentials)})`;
  frame.srcdoc = `<script>${ask}; ${call}.then((found) => parent.postMessage(found, "*"))<` + "/script>";
  document.body.append(frame);
});
"#;

/// The results in a page that may see everything.
fn everything() -> Value {
    json!({
        "read": 200,
        "missing": "not_found",
        "publish": 200,
        "simple": 200,
        "wrong": "target_missing",
        "listen": "connected",
    })
}

/// The results in a page that may see nothing, not even the reason.
fn nothing() -> Value {
    let fetched = ["read", "missing", "publish", "simple", "wrong"];
    let mut found: Value = fetched.map(|name| (name.to_owned(), json!("TypeError"))).into_iter().collect();
    found["listen"] = "closed".into();
    found
}

async fn ask(browser: &Chromium, base: &str, credentials: &str, sandboxed: bool) -> Value {
    browser.run(ASK, vec![json!(base), json!(credentials), json!(sandboxed)]).await
}

/// Sends `GET {path}` below the base path, as a program other than a browser.
async fn get(server: &Server, path: &str) -> Value {
    let url = server.url(path);
    let path = &url[url.find("/api").expect("the base path")..];
    let mut socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("the server answers with text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
    serde_json::from_str(body).expect("answers are JSON")
}

/// Returns how many events room `a` has had.
async fn published(server: &Server) -> usize {
    let page = get(server, "/rooms/a/history").await;
    page["events"].as_array().unwrap_or_else(|| panic!("no events in {page}")).len()
}

#[tokio::test]
async fn pages_see_what_the_list_allows() {
    let Some(browser) = Chromium::start().await else { return };
    let listed = browser.origin();
    // The same pages by another name are another origin.
    let unlisted = listed.replace("127.0.0.1", "localhost");
    for with_credentials in ["off", "on"] {
        let settings = [("CORS_ORIGINS", &*listed), ("CORS_CREDENTIALS", with_credentials)];
        let server = Server::start(&settings).await;
        let network = Proxy::start(server.address).await;
        let base = network.url("");

        browser.open(&listed).await;
        let _: Value = browser.run("document.cookie = 'taste=sweet'", vec![]).await;
        assert_eq!(ask(&browser, &base, "omit", false).await, everything());
        let before = network.wires().len();
        let included = ask(&browser, &base, "include", false).await;
        assert_eq!(included, if with_credentials == "on" { everything() } else { nothing() });
        // The cookie was sent, whether or not the page may see the answer.
        assert!(network.wires()[before..].iter().any(|wire| wire.header("cookie") == Some("taste=sweet")));

        let events = published(&server).await;
        for credentials in ["omit", "include"] {
            browser.open(&unlisted).await;
            assert_eq!(ask(&browser, &base, credentials, false).await, nothing(), "{credentials}");
            browser.open(&listed).await;
            let mut sandboxed = nothing();
            sandboxed["origin"] = "null".into();
            assert_eq!(ask(&browser, &base, credentials, true).await, sandboxed, "{credentials}");
        }
        assert_eq!(published(&server).await, events, "nothing was changed by who may not");
    }
}

/// A sandboxed frame could once subscribe only where every page could: the list did not accept `null` as an origin.
#[tokio::test]
async fn a_sandboxed_frame_may_listen_where_null_is_listed() {
    let Some(browser) = Chromium::start().await else { return };
    let server = Server::start(&[("CORS_ORIGINS", "null"), ("CORS_HEADERS", "x-tenant")]).await;
    let base = server.url("");
    let mut wanted = everything();
    wanted["origin"] = "null".into();
    assert_eq!(ask(&browser, &base, "omit", true).await, wanted);
    // With cookies the frame sees nothing. The page around it, which has an origin of its own, sees nothing either.
    wanted = nothing();
    wanted["origin"] = "null".into();
    assert_eq!(ask(&browser, &base, "include", true).await, wanted);
    assert_eq!(ask(&browser, &base, "omit", false).await, nothing());
}

/// Runs in a page: returns whether a `fetch` with each of these headers gets an answer.
const SEND: &str = r#"
const [url, names] = arguments;
return Promise.all(names.map(async (name) => {
  try {
    return (await fetch(url, { headers: { [name]: "x" } })).status;
  } catch (error) {
    return error.name;
  }
}));
"#;

/// Libraries for tracing add headers to all requests of a page, which then failed in the preflight.
#[tokio::test]
async fn headers_that_libraries_add_pass_the_preflight() {
    const ADDED: [&str; 8] = [
        "traceparent",
        "tracestate",
        "baggage",
        "sentry-trace",
        "x-requested-with",
        "idempotency-key",
        "x-tenant",
        "x-other",
    ];
    let Some(browser) = Chromium::start().await else { return };
    let origin = browser.origin();
    let server = Server::start(&[("CORS_ORIGINS", &origin), ("CORS_HEADERS", "X-Tenant")]).await;
    browser.open(&origin).await;
    let found: Value = browser.run(SEND, vec![json!(server.url("/info")), json!(ADDED)]).await;
    assert_eq!(found, json!([200, 200, 200, 200, 200, 200, 200, "TypeError"]));
}

/// A network on which one name resolves first to the attacker's server, which has the page, and then to ours.
async fn rebinding(ours: SocketAddr) -> SocketAddr {
    const PAGE: &str = include_str!("../common/browser/page.html");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let Ok(count @ 1..) = browser.read(&mut head).await else { return };
                let head = &head[..count];
                if head.starts_with(b"GET / ") {
                    let length = PAGE.len();
                    let start = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close";
                    let page = format!("{start}\r\ncontent-length: {length}\r\n\r\n{PAGE}");
                    let _ = browser.write_all(page.as_bytes()).await;
                    return;
                }
                let mut ours = TcpStream::connect(ours).await.expect("it listens");
                if ours.write_all(head).await.is_ok() {
                    let _ = copy_bidirectional(&mut browser, &mut ours).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_name_that_was_rebound_gets_a_page_nothing() {
    let Some(browser) = Chromium::start().await else { return };
    for allowed in ["", "*.rebound.test"] {
        let server = Server::start(&[("ALLOWED_HOSTS", allowed)]).await;
        let network = Proxy::start(server.address).await;
        let own = format!("http://evil.rebound.test:{}", rebinding(network.address).await.port());
        browser.open(&own).await;
        let found = ask(&browser, &format!("{own}/api/v1/sse"), "include", false).await;
        if allowed.is_empty() {
            let fetched = ["read", "missing", "publish", "simple", "wrong"];
            let mut refused: Value =
                fetched.map(|name| (name.to_owned(), json!("host_forbidden"))).into_iter().collect();
            refused["listen"] = "closed".into();
            assert_eq!(found, refused);
            assert_eq!(published(&server).await, 0);
        } else {
            // The page then counts as the server's own.
            assert_eq!(found, everything());
        }
        // This needs a check of its own: to the browser the two are one origin, so its headers do not differ.
        let requests: String =
            network.wires().into_iter().map(|wire| wire.request.to_ascii_lowercase()).collect();
        let (_, read) = requests.split_once("get /api/v1/sse/info ").expect("it was asked for");
        let (read, _) = read.split_once("\r\n\r\n").expect("a whole head");
        assert!(!read.contains("\r\norigin:") && !read.contains("\r\nsec-fetch-site:"), "{read}");
        assert!(read.contains("\r\naccept-language:"), "{read}");
    }
}
