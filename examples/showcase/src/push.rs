//! The way to Tidegate: plain HTTP with an API key, as every backend would do it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::channel::Channel;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::answer::Refusal;

#[derive(Clone)]
pub(crate) struct Push {
    http: reqwest::Client,
    base: Url,
    key: String,
}

/// What Tidegate says of a request that it refuses.
#[derive(Deserialize)]
struct Problem {
    code: String,
    title: String,
}

/// What Tidegate says of a publish.
#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    subscribers: u64,
}

/// How long a request with lines may last.
const LINES_TIME_MAX: Duration = Duration::from_mins(5);

/// Pauses before a publish is sent again. Whoever waits for the answer has given up after that.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

impl Push {
    pub(crate) fn new(tidegate: SocketAddr, key: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()
            .expect("the default TLS works");
        let base = format!("http://{tidegate}/api/v1/sse").parse().expect("an address makes a URL");
        Self { http, base, key }
    }

    /// Publishes one event, or a list of them, for `user`: who is muted, says the same again or sends too fast is refused.
    ///
    /// `once` names this publish. If no answer comes, nobody knows whether the events went out. With a name they can be
    /// sent again, and go out once. Without one they are sent once, and may be lost.
    pub(crate) async fn publish(
        &self,
        events: &Value,
        user: &str,
        once: Option<&str>,
    ) -> Result<(), Refusal> {
        let mut pauses = if once.is_some() { &AGAIN_AFTER[..] } else { &[] }.iter();
        loop {
            let mut request = self.request(Method::POST, &["publish"], &[]).json(events);
            // A header's bytes may be any UTF-8.
            request = request.header("tidegate-user", user.as_bytes());
            if let Some(once) = once {
                request = request.header("idempotency-key", once);
            }
            match (self.send(request).await, pauses.next()) {
                (Err(refusal), Some(pause)) if refusal.may_pass() => tokio::time::sleep(*pause).await,
                (outcome, _) => return outcome.map(drop),
            }
        }
    }

    /// Sends a request without a body to the path that `segments` make.
    pub(crate) async fn ask(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(), Refusal> {
        self.send(self.request(method, segments, query)).await.map(drop)
    }

    /// Publishes for the application itself, and says how many streams the events are for.
    ///
    /// There is no second try: use it for what will be said anew anyway.
    pub(crate) async fn tell(&self, events: &Value) -> Result<u64, Refusal> {
        let answer = self.send(self.request(Method::POST, &["publish"], &[]).json(events)).await?;
        // Without the member, every event of the batch was older than what is there.
        let published: Published = answer.json().await.map_err(|err| unavailable(&err))?;
        Ok(published.subscribers)
    }

    /// Asks Tidegate for something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Refusal> {
        let answer = self.send(self.request(Method::GET, segments, &[])).await?;
        answer.json().await.map_err(|err| unavailable(&err))
    }

    /// Publishes lines, each as it arrives, until their sender is dropped.
    ///
    /// If the request breaks, all of them are sent again. So each has to have a name of its own (`once`), by which Tidegate
    /// leaves out what it has.
    pub(crate) async fn lines(self, mut lines: mpsc::Receiver<String>) -> Result<(), Refusal> {
        let mut sent: Vec<Bytes> = Vec::new();
        let mut pauses = AGAIN_AFTER.iter();
        loop {
            let (mut sender, body) = Channel::<Bytes>::new(16);
            let request = self.request(Method::POST, &["publish"], &[]);
            let request = request.header("content-type", "application/x-ndjson").timeout(LINES_TIME_MAX);
            let request = self.send(request.body(reqwest::Body::wrap(body)));
            let feed = async {
                let mut next = 0;
                loop {
                    if next == sent.len() {
                        let Some(line) = lines.recv().await else { break };
                        sent.push(line.into());
                    }
                    if sender.send_data(sent[next].clone()).await.is_err() {
                        break;
                    }
                    next += 1;
                }
                drop(sender);
            };
            let ((), outcome) = tokio::join!(feed, request);
            match (outcome, pauses.next()) {
                (Err(refusal), Some(pause)) if refusal.may_pass() => tokio::time::sleep(*pause).await,
                (outcome, _) => return outcome.map(drop),
            }
        }
    }

    fn request(&self, method: Method, segments: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        // This percent-encodes names, and an integrator who formats the path by hand would forget that.
        url.path_segments_mut().expect("http has paths").extend(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url).bearer_auth(&self.key)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Refusal> {
        let answer = request.send().await.map_err(|err| unavailable(&err))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        // These are about the user, who has to be told. Everything else is between Tidegate and us.
        let is_of_the_user = matches!(
            status,
            StatusCode::FORBIDDEN
                | StatusCode::CONFLICT
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::TOO_MANY_REQUESTS
        );
        match answer.json::<Problem>().await {
            // The same publish is under way from elsewhere. Its answer will do for this one, too.
            Ok(problem) if problem.code == "idempotency_busy" => Err(unavailable(&problem.code)),
            Ok(problem) if is_of_the_user => Err(Refusal::new(status, problem.code, problem.title)),
            Ok(problem) => Err(unavailable(&format_args!("{status} {}", problem.code))),
            Err(err) => Err(unavailable(&err)),
        }
    }
}

fn unavailable(why: &dyn std::fmt::Display) -> Refusal {
    tracing::warn!("Tidegate: {why}");
    let title = "this cannot be delivered at the moment";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "push_unavailable", title)
}
