//! A site with one page, at an origin of its own. `/download` is a file to save, and `/nothing` a 204.

#![allow(dead_code, reason = "each test uses its part of this")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A site that lives as long as the test's runtime.
pub(crate) struct Pages {
    address: SocketAddr,
    html: Arc<Mutex<String>>,
    left: Arc<AtomicUsize>,
}

impl Pages {
    /// Serves a site with an empty page at every other path.
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let html = Arc::new(Mutex::new("<!doctype html><title>A page</title>".to_owned()));
        let left = Arc::new(AtomicUsize::new(0));
        let (page, count) = (html.clone(), left.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, page.clone(), count.clone()));
            }
        });
        Self { address, html, left }
    }

    /// Makes `html` the page.
    pub(crate) fn put(&self, html: String) {
        *self.html.lock().expect("nothing panics while it is held") = html;
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how often a browser went to `/download` or `/nothing`.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

/// Answers one request. A browser that leaves early does not matter.
async fn answer(mut socket: TcpStream, html: Arc<Mutex<String>>, left: Arc<AtomicUsize>) {
    let mut request = [0; 4096];
    let Ok(count @ 1..) = socket.read(&mut request).await else { return };
    let request = String::from_utf8_lossy(&request[..count]).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let html = html.lock().expect("nothing panics while it is held").clone();
    let file = "content-type: application/octet-stream\r\ncontent-disposition: attachment; filename=x.bin";
    let (status, head, body) = match path {
        "/download" => ("200 OK", file, "x"),
        "/nothing" => ("204 No Content", "x-nothing: here", ""),
        _ => ("200 OK", "content-type: text/html; charset=utf-8", &*html),
    };
    let length =
        if status.starts_with("204") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let answer = format!("HTTP/1.1 {status}\r\n{head}\r\n{length}connection: close\r\n\r\n{body}");
    let _ = socket.write_all(answer.as_bytes()).await;
    if matches!(path, "/download" | "/nothing") {
        left.fetch_add(1, Ordering::SeqCst);
    }
}
