//! Starts Tidegate in this process. In production it is a program of its own: `tidegate --config tidegate.toml`.
//!
//! Nothing else in the showcase depends on the crate. What the application needs is an address and an API key.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use ::tidegate::auth::api_keys;
use ::tidegate::cli::{self, Invocation, logs};
use ::tidegate::config::ListenAddr;
use ::tidegate::server::Server;

use crate::names::TOKEN_KEY_FILE;

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tidegate.toml");

/// What the API key of the application may do. `tidegate key app --allow …` makes the same.
const PERMISSIONS: &str = r#"["sse:publish", "sse:read", "sse:members", "sse:user", "admin"]"#;

/// Every system lets a process open so many files. The program itself asks for more.
const OPEN_FILES: u64 = 1024;

pub(crate) struct Tidegate {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    /// The application's API key.
    pub(crate) key: String,
}

/// Starts it with the settings of `tidegate.toml`, and with secrets in `folder`.
pub(crate) fn start(folder: &Path) -> Result<Tidegate, Box<dyn Error>> {
    let key = api_keys::generate();
    let keys_file = folder.join("api-keys.toml");
    let entry = format!("[app]\nhash = \"{}\"\npermissions = {PERMISSIONS}\n", api_keys::hash(&key));
    fs::write(&keys_file, entry)?;

    let token_keys = format!("HS256:file:{}", folder.join(TOKEN_KEY_FILE).display());
    let arguments: [OsString; 7] = [
        "tidegate".into(),
        "--config".into(),
        SETTINGS.into(),
        "--token-keys".into(),
        token_keys.into(),
        "--api-keys-file".into(),
        keys_file.into(),
    ];
    // No environment: what else is set on this machine is for another Tidegate.
    let Invocation::Run(config) = cli::load(arguments, |_| None, OPEN_FILES)? else {
        unreachable!("the arguments ask for nothing else");
    };
    let (dispatch, _) = logs::dispatch(config.log_level, config.log_format, std::io::stderr);
    tracing::dispatcher::set_global_default(dispatch)?;
    let server = Server::start(*config)?;
    let address =
        server.addresses().first().and_then(tcp).ok_or("tidegate.toml: wanted an address to listen on")?;
    let admin = server.admin_address().and_then(tcp).ok_or("tidegate.toml: wanted an admin address")?;
    Ok(Tidegate { server, address, admin, key })
}

fn tcp(address: &ListenAddr) -> Option<SocketAddr> {
    match address {
        ListenAddr::Tcp(address) => Some(*address),
        ListenAddr::Unix(_) => None,
    }
}
