//! nginx with nchan: an event stream and a publishing location, mapped to our paths.

use std::path::Path;

use rustix::process::{Resource, getrlimit, getuid};

use crate::target::dialect::Dialect;
use crate::target::error::TargetError;
use crate::target::launch::Launch;
use crate::target::program::{find, first_line, package_version};

pub(super) fn version() -> Result<String, TargetError> {
    let nginx = find("nginx", "nginx-light")?;
    module()?;
    let version = first_line(&nginx, &["-v"]).unwrap_or_default();
    let nchan = package_version("libnginx-mod-nchan").unwrap_or_else(|| "of unknown version".to_owned());
    Ok(format!("{}, nchan {nchan}", version.trim_start_matches("nginx version: ")))
}

pub(super) fn launch() -> Result<Launch, TargetError> {
    let mut launch = Launch::new(&find("nginx", "nginx-light")?)?;
    let folder = launch.folder.path().display().to_string();
    let cores = std::thread::available_parallelism()?.to_string();
    let open_files = getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES).to_string();
    // As root, the workers would change to a user that may not enter the folder.
    let user = if getuid().is_root() { "user root;" } else { "" };
    let listen = launch.addr.to_string();
    launch.write(
        "nginx.conf",
        CONFIG,
        &[
            ("module", module()?),
            ("user", user),
            ("cores", &cores),
            ("open_files", &open_files),
            ("folder", &folder),
            ("listen", &listen),
        ],
    )?;
    launch.command.args(["-e", "stderr", "-p", &folder, "-c", &format!("{folder}/nginx.conf")]);
    launch.dialect = Dialect::Nchan;
    launch.is_head_connected = true;
    Ok(launch)
}

fn module() -> Result<&'static str, TargetError> {
    if Path::new(MODULE).is_file() {
        return Ok(MODULE);
    }
    Err(TargetError::Missing { what: MODULE.to_owned(), package: "libnginx-mod-nchan" })
}

const CONFIG: &str = include_str!("../../../peers/nchan/nginx.conf");
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// What any test here needs; more would only cost memory.
const OPEN_FILES: u64 = 20_000;
