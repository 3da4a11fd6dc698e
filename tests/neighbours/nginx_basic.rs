//! Promise: behind nginx with `auth_basic`, which passes its checked credential on, tokens in a cookie or the query
//! count as they do without it, and public rooms are open to every visitor that nginx lets through.

use crate::common::{self, neighbours};

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use self::common::BASE;
use self::common::bearer::{SECRET, bearer, expired, key_text, token};
use self::common::conn::{Conn, request};
use self::neighbours::{Folder, Port, Server, find, until};

/// The user `ann` with the password `secret`.
const BASIC: (&str, &str) = ("authorization", "Basic YW5uOnNlY3JldA==");

/// nginx with a password in front of one server. Ends when dropped.
struct Nginx {
    child: Child,
    port: Port,
    _folder: Folder,
}

impl Nginx {
    async fn start(program: &Path, server: &Server) -> Self {
        let (folder, port) = (Folder::new(), Port::new());
        fs::write(folder.file("users"), "ann:{PLAIN}secret\n").expect("a file");
        fs::write(folder.file("nginx.conf"), configuration(&folder, &port, server)).expect("a file");
        let child = Command::new(program)
            .args(["-c", &folder.file("nginx.conf"), "-e", &folder.file("errors")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was just found");
        let nginx = Self { child, port, _folder: folder };
        until("nginx", async || TcpStream::connect(nginx.port.address).await.map(drop)).await;
        nginx
    }

    /// Returns the status of a stream, and its first event if it begins.
    fn listen(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut conn = Conn::tcp(self.port.address);
        conn.send(request("GET", &format!("{BASE}{path}"), headers, b""));
        let status = conn.head().status();
        if status != 200 {
            return (status, String::new());
        }
        conn.take_until(b"event: connected\n").expect("it begins");
        let event = conn.take_until(b"\n\n").expect("its first event");
        (status, String::from_utf8(event).expect("streams are UTF-8"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // If it were killed, its workers would stay behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Folder, port: &Port, server: &Server) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", folder.file(kind)))
        .concat();
    let (pid, users) = (folder.file("pid"), folder.file("users"));
    let (own, upstream) = (port.address, server.address);
    format!(
        "daemon off; user root; worker_processes 1; pid {pid};
         events {{}}
         http {{
             access_log off; {temporary}
             server {{
                 listen {own} reuseport;
                 auth_basic inside;
                 auth_basic_user_file {users};
                 location / {{
                     proxy_pass http://{upstream};
                     proxy_http_version 1.1;
                     proxy_set_header Connection \"\";
                     proxy_buffering off;
                 }}
             }}
         }}"
    )
}

/// The password once counted as a second credential beside the token, 400, and as a bad one in a public room, 401.
#[tokio::test]
async fn a_password_of_nginx_is_in_nobodys_way() {
    let Some(program) = find("nginx") else { return };
    let server = Server::start(&[
        ("TOKEN_KEYS", &key_text(SECRET)),
        ("TOKEN_COOKIE", "t"),
        ("TOKEN_QUERY", "on"),
        ("PUBLIC_ROOMS", "lobby"),
    ])
    .await;
    let nginx = Nginx::start(&program, &server).await;
    let token = token("me", &["sse:read"]);
    let cookie = format!("t={token}");
    let two = format!("t={}; t={token}", expired("me", &["sse:read"]));

    assert_eq!(nginx.listen("/stream?room=lobby", &[]).0, 401, "nginx wants the password");
    let (status, anyone) = nginx.listen("/stream?room=lobby", &[BASIC]);
    assert!(status == 200 && !anyone.contains("\"user\""), "{status} {anyone}");
    let by_query = format!("/stream?room=vip&token={token}");
    for (path, headers) in [
        ("/stream?room=vip", &[BASIC, ("cookie", &*cookie)][..]),
        ("/stream?room=vip", &[BASIC, ("cookie", &*two)]),
        (&by_query, &[BASIC]),
    ] {
        let (status, connected) = nginx.listen(path, headers);
        assert_eq!(status, 200, "{path}");
        assert!(connected.contains("\"user\":\"me\""), "{connected}");
    }
    // The password is no token, and a token no password.
    assert_eq!(nginx.listen("/stream?room=vip", &[BASIC]).0, 401);
    assert_eq!(nginx.listen("/stream?room=vip", &[("authorization", &bearer(&token))]).0, 401);
}
