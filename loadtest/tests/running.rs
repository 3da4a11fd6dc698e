//! A server that runs already (`--url`): it is shown what it asks for, and what keeps it from being measured is told with its
//! address.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// What the server's tokens are signed with, and the same as a setting.
const SECRET: &[u8] = b"a secret of these tests, 32 bytes or more";
const KEY: &str = "HS256:base64:YSBzZWNyZXQgb2YgdGhlc2UgdGVzdHMsIDMyIGJ5dGVzIG9yIG1vcmU=";

/// `tidegate` as it ships, or as it was built beside the load test.
fn program() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_tidegate-loadtest")).parent().expect("it is in a folder");
    let candidates = [folder.with_file_name("release").join("tidegate"), folder.join("tidegate")];
    let found = candidates.iter().find(|path| path.exists());
    found.expect("cargo build --release --workspace comes first, as in scripts/test").clone()
}

/// A server that asks for tokens and API keys.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(api_keys: &Path) -> Self {
        let mut child = Command::new(program())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "off", "--publish-rate-per-user", "off"])
            .args(["--token-keys", KEY, "--log-level", "off", "--api-keys-file"])
            .arg(api_keys)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut welcome = String::new();
        // Its first line, which it says once it listens.
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut welcome).expect("it speaks UTF-8");
        let (_, rest) = welcome.split_once(" is listening on ").expect("it says where");
        let addr = rest.split(',').next().expect("an address").to_owned();
        Self { child, url: format!("http://{addr}/api/v1/sse") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures `url` for a second with 20 subscribers.
fn measure(url: &str, more: &[&str]) -> Output {
    let numbers = ["fanout", "--connections", "20", "--seconds", "1", "--rate", "20", "--url", url];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"));
    command.args(numbers).args(more).output().expect("the load test was built")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn token(sub: Option<&str>, permissions: &[&str]) -> String {
    let mut claims = json!({"exp": 4_102_444_800_u64, "permissions": permissions});
    if let Some(sub) = sub {
        claims["sub"] = Value::from(sub);
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).expect("HS256 takes any key")
}

/// There was no way to show a server given by `--url` anything: all that could be measured was how it refuses.
#[test]
fn a_server_that_asks_who_it_is_can_be_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new(program()).args(["key", "backend", "--allow", "sse:publish"]).output();
    let made = made.expect("it runs");
    let keys = folder.path().join("keys.toml");
    fs::write(&keys, &made.stdout).expect("the folder takes files");
    let told = String::from_utf8(made.stderr).expect("text");
    let api_key = told.lines().last().expect("the key is the last line").to_owned();
    let (secret, api_key_file) = (folder.path().join("secret"), folder.path().join("api-key"));
    fs::write(&secret, SECRET).expect("the folder takes files");
    fs::write(&api_key_file, format!("{api_key}\n")).expect("the folder takes files");
    let server = Server::start(&keys);

    let by_file = format!("HS256:file:{}", secret.display());
    let everything = token(Some("load"), &["sse:read", "sse:user", "sse:publish"]);
    let listening = token(Some("load"), &["sse:read", "sse:user"]);
    let api_key_file = format!("file:{}", api_key_file.display());
    let good: [&[&str]; 4] = [
        &["--token-key", KEY],
        &["--token-key", &by_file, "--api-key", &api_key],
        &["--token", &everything],
        &["--token", &listening, "--api-key", &api_key_file],
    ];
    for shown in good {
        let output = measure(&server.url, shown);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("PASSED") && said.contains("800 deliveries of 40 events to 20"), "{said}");
        assert!(
            !said.contains(&api_key) && !said.contains(&listening) && !said.contains(&everything),
            "{said}"
        );
    }

    // Nothing to show, and something that is no good.
    let stranger = token(None, &["sse:publish"]);
    for shown in [&[][..], &["--token", &stranger]] {
        let output = measure(&server.url, shown);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&server.url) && said.contains("--token-key"), "{said}");
    }
    // A token that may subscribe and not publish: the run is a failure with the server's answer.
    let output = measure(&server.url, &["--token", &listening]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("publish requests refused"), "{}", said(&output));
}

/// It said `Connection refused`, without the address.
#[test]
fn a_server_that_can_not_be_reached_is_named() {
    let output = measure("http://127.0.0.1:1/api/v1/sse", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let told = "tidegate-loadtest: http://127.0.0.1:1/api/v1/sse: Connection refused";
    assert!(said(&output).starts_with(told), "{}", said(&output));
    let output = measure("http://127.0.0.1:1/api/v1/sse", &["--admin-url", "http://127.0.0.1:2"]);
    assert!(said(&output).contains("http://127.0.0.1:"), "{}", said(&output));
    for wrong in ["127.0.0.1:1/x", "http://127.0.0.1/x", "http://127.0.0.1:1", "https://127.0.0.1:1/x"] {
        let output = measure(wrong, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("wanted http://host:port/base"), "{wrong}: {}", said(&output));
    }
}

#[test]
fn what_is_shown_goes_with_a_url_only() {
    for wrong in [&["--token-key", KEY][..], &["--token", "t"], &["--api-key", "k"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
            .arg("fanout")
            .args(wrong)
            .output()
            .expect("the load test was built");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("--url"), "{}", said(&output));
    }
    let output = measure("http://127.0.0.1:1/x", &["--token-key", "RS256:file:/a.pem"]);
    assert!(said(&output).contains("--token-key: wanted a secret"), "{}", said(&output));
}
