//! Pushpin: a proxy that holds connections open because the origin behind it says so.
//!
//! Four processes and the origin, which is a thread of the load test: a user has an application anyway, so it is not
//! counted as Pushpin's.

use crate::target::dialect::Dialect;
use crate::target::error::TargetError;
use crate::target::launch::Launch;
use crate::target::launch::free_address;
use crate::target::origin::Origin;
use crate::target::program::{find, first_line, package_version};

pub(super) fn version() -> Result<String, TargetError> {
    let pushpin = find("pushpin", "pushpin")?;
    find("condure", "condure")?;
    find("zurl", "zurl")?;
    let version = first_line(&pushpin, &["--version"]).unwrap_or_default();
    let condure = package_version("condure").unwrap_or_else(|| "of unknown version".to_owned());
    Ok(format!("{}, condure {condure}", version.replacen("pushpin", "Pushpin", 1)))
}

pub(super) fn launch() -> Result<Launch, TargetError> {
    let mut launch = Launch::new(&find("pushpin", "pushpin")?)?;
    let origin = Origin::start()?;
    launch.publish_addr = free_address()?;
    let folder = launch.folder.path().display().to_string();
    let (listen, publish) = (launch.addr.to_string(), launch.publish_addr.to_string());
    let control_port = free_address()?.port().to_string();
    launch.write(
        "pushpin.conf",
        CONFIG,
        &[("folder", &folder), ("listen", &listen), ("publish", &publish), ("control_port", &control_port)],
    )?;
    launch.write("routes", ROUTES, &[("origin", &origin.addr().to_string())])?;
    launch.command.args(["--merge-output", "--config", &format!("{folder}/pushpin.conf")]);
    launch.dialect = Dialect::Pushpin;
    launch.origin = Some(origin);
    Ok(launch)
}

const CONFIG: &str = include_str!("../../../peers/pushpin/pushpin.conf");
const ROUTES: &str = include_str!("../../../peers/pushpin/routes");
