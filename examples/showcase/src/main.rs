//! The showcase: an application as a team would build it in the first week, with Tidegate behind it.
//!
//! `cargo run --release -p showcase` starts both in one process, and `http://127.0.0.1:3000/` is all there is to open.
//! In production they are two programs with nginx in front. That is why only `tidegate.rs` knows that this is one
//! process: everything else talks to Tidegate by HTTP.

mod answer;
mod app;
mod database;
mod names;
mod pages;
mod pass_on;
mod push;
mod running;
mod static_files;
mod tidegate;

use std::error::Error;
use std::future::IntoFuture as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::serve::ListenerExt as _;
use clap::{Arg, Command, value_parser};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::database::Database;
use crate::names::Keys;
use crate::push::Push;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Command::new("showcase")
        .about("A chat, notifications and more, on Tidegate")
        .args([
            Arg::new("listen")
                .long("listen")
                .value_name("ADDRESS")
                .value_parser(value_parser!(SocketAddr))
                .default_value("127.0.0.1:3000")
                .help("Where browsers connect"),
            Arg::new("data")
                .long("data")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where messages and pictures are kept; a temporary folder unless given"),
        ])
        .get_matches();
    let listen = *arguments.get_one::<SocketAddr>("listen").expect("it has a default");
    let folder = Folder::open(arguments.get_one::<PathBuf>("data").cloned())?;

    let keys = Keys::open(&folder.path)?;
    let tidegate = tidegate::start(&folder.path)?;
    let push = Push::new(tidegate.address, tidegate.key.clone());
    let database = Database::open(&folder.path, &pages::SCHEMAS)?;
    let app = App { database, push, keys, folder: folder.path.clone().into() };
    pages::begin(&app).await?;

    let listener = TcpListener::bind(listen).await.map_err(|err| format!("{listen}: {err}"))?;
    let address = listener.local_addr()?;
    // Otherwise the kernel would hold a small event back until the browser has acknowledged the one before.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    // If standard output was closed, nobody wants to know.
    let _ = writeln!(
        std::io::stdout(),
        "The showcase is at http://{address}/ (Tidegate: http://{}, its metrics: http://{}, data: {})",
        tidegate.address,
        tidegate.admin,
        folder.path.display(),
    );
    let router = Router::new()
        .merge(names::routes())
        .merge(pages::routes())
        .with_state(app)
        .merge(pass_on::routes(tidegate.address));
    tokio::select! {
        served = axum::serve(listener, static_files::with(router)).into_future() => served?,
        ended = told_to_end() => ended?,
    }
    // Streams are told to come back, and those who listen elsewhere would now reach another instance.
    tokio::task::spawn_blocking(move || tidegate.server.drain()).await??;
    Ok(())
}

/// Waits for Ctrl-C, or for the signal by which service managers end a program.
async fn told_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

/// Where data is. A temporary folder goes away with the process.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn open(chosen: Option<PathBuf>) -> std::io::Result<Self> {
        let is_temporary = chosen.is_none();
        let name = format!("tidegate-showcase-{}", std::process::id());
        let path = chosen.unwrap_or_else(|| std::env::temp_dir().join(name));
        std::fs::create_dir_all(path.join("images"))?;
        Ok(Self { path, is_temporary })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
