//! Debian's Prometheus, with the files of `dashboards/`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::load::get;
use crate::common::neighbours::{Folder, PATIENCE, find, until};

/// Returns the folder of the shipped files.
pub(crate) fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// Returns the text of a shipped file.
pub(crate) fn shipped(file: &str) -> String {
    fs::read_to_string(dashboards().join(file)).unwrap_or_else(|err| panic!("{file}: {err}"))
}

/// A running Prometheus. Ends, and removes its files, when dropped.
pub(crate) struct Prometheus {
    address: SocketAddr,
    _child: Child,
    _folder: Folder,
}

impl Prometheus {
    /// Starts it with the shipped configuration and rules, changed only in the targets, `admins`, and the interval.
    /// `None` if this machine has no Prometheus.
    pub(crate) async fn start(admins: &[SocketAddr]) -> Option<Self> {
        let program = find("prometheus")?;
        let folder = Folder::new();
        let config = shipped("prometheus.yml");
        for part in ["\"127.0.0.1:9180\"", "_interval: 15s"] {
            assert!(config.contains(part), "{part} is no longer in prometheus.yml");
        }
        let targets: Vec<String> = admins.iter().map(|admin| format!("\"{admin}\"")).collect();
        let config = config.replace("\"127.0.0.1:9180\"", &targets.join(", "));
        fs::write(folder.file("prometheus.yml"), config.replace("_interval: 15s", "_interval: 500ms"))
            .expect("a file");
        fs::write(folder.file("rules.yml"), shipped("rules.yml")).expect("a file");
        let mut child = Command::new(program)
            .current_dir(folder.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            // It logs to standard error, its port included.
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=logfmt"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Prometheus starts");
        let address = announced(&mut child).await;
        let prometheus = Self { address, _child: child, _folder: folder };
        // It listens before it is ready.
        until("Prometheus with its rules", async || match prometheus.api("rules", "").await {
            Ok(rules) if rules["groups"].as_array().is_some_and(|groups| !groups.is_empty()) => Ok(()),
            other => Err(other),
        })
        .await;
        Some(prometheus)
    }

    /// Returns `data` of the API's answer.
    async fn api(&self, path: &str, query: &str) -> Result<Value, String> {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let body = get(self.address, &format!("/api/v1/{path}?query={query}")).await;
        let mut answer: Value = serde_json::from_str(&body).map_err(|err| format!("{err}: {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(body) }
    }

    /// Returns the values `expr` has now, one a series. Some may be no number.
    pub(crate) async fn query(&self, expr: &str) -> Result<Vec<f64>, String> {
        let data = self.api("query", expr).await?;
        let vector = data["result"].as_array().filter(|_| data["resultType"] == "vector");
        let vector = vector.ok_or_else(|| format!("no vector: {data}"))?;
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|value| value.parse().ok());
        Ok(vector.iter().map(|sample| value(sample).expect("a number")).collect())
    }

    /// Returns every rule it has loaded.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let groups = self.api("rules", "").await.expect("an answer");
        let groups = groups["groups"].as_array().expect("groups").clone();
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }
}

/// Returns its address from its log. The rest of the log is read on; otherwise a full pipe would block it.
async fn announced(child: &mut Child) -> SocketAddr {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let log = child.stderr.take().expect("piped");
    let mut lines = BufReader::new(log).lines();
    let mut seen = Vec::new();
    let found = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let address = line.contains("\"Listening on\"").then(|| line.split("address=").nth(1)).flatten();
            if let Some(address) = address.and_then(|address| address.trim().parse().ok()) {
                return Some(address);
            }
            seen.push(line);
        }
        None
    };
    let address = tokio::time::timeout(PATIENCE, found).await.ok().flatten();
    let address = address.unwrap_or_else(|| panic!("Prometheus did not start: {seen:#?}"));
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    address
}
