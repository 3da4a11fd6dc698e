//! The source of the server's CPU and memory: its process, its metrics, or nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::plan::source::Source;
use crate::target::usage::{self, Cpu};

/// A way to know what a server uses.
#[derive(Clone, Copy, Debug)]
pub enum Meter {
    /// Its process on this machine.
    Process(u32),
    /// Its `/metrics`, by the names every Prometheus client library uses (`process_*`).
    Metrics(SocketAddr),
    /// It runs elsewhere, without `--pid` or `--admin-url`.
    Nothing,
}

impl Meter {
    /// For `source`, whose process is `pid` if it was started here.
    ///
    /// # Errors
    ///
    /// The address of its metrics can't be resolved.
    pub fn new(source: &Source, pid: u32) -> io::Result<Self> {
        match source {
            Source::Running { pid: Some(pid), .. } => Ok(Self::Process(*pid)),
            Source::Running { admin: Some(admin), .. } => {
                let addr = admin.to_socket_addrs()?.next();
                Ok(Self::Metrics(addr.ok_or_else(|| io::Error::other(format!("{admin}: no address")))?))
            }
            Source::Running { .. } => Ok(Self::Nothing),
            Source::Server { .. } | Source::Peer(_) => Ok(Self::Process(pid)),
        }
    }

    /// What it is, for reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Metrics(_) => "metrics",
            Self::Nothing => "nothing",
        }
    }

    /// CPU used so far; of [`Meter::Metrics`] only the total.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn cpu(&self) -> io::Result<Option<Cpu>> {
        match self {
            Self::Process(pid) => Cpu::of(*pid).map(Some),
            Self::Metrics(addr) => {
                let seconds = metric(&scrape(*addr)?, "process_cpu_seconds_total")?;
                let total_ns = u64::try_from(Duration::from_secs_f64(seconds).as_nanos()).unwrap_or(0);
                Ok(Some(Cpu { total_ns, ..Cpu::default() }))
            }
            Self::Nothing => Ok(None),
        }
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn resident_kib(&self) -> io::Result<Option<u64>> {
        match self {
            Self::Process(pid) => usage::resident_kib(*pid).map(Some),
            Self::Metrics(addr) => {
                let bytes = metric(&scrape(*addr)?, "process_resident_memory_bytes")?;
                Ok(Some(whole(bytes / 1024.0)))
            }
            Self::Nothing => Ok(None),
        }
    }

    /// Highest resident memory since [`Meter::reset_peak`], in KiB, where the kernel can be asked.
    #[must_use]
    pub fn peak_kib(&self) -> Option<u64> {
        match self {
            Self::Process(pid) => usage::peak_kib(*pid).ok(),
            Self::Metrics(_) | Self::Nothing => None,
        }
    }

    /// Starts the peak anew.
    pub fn reset_peak(&self) {
        if let Self::Process(pid) = self {
            usage::reset_peak(*pid);
        }
    }
}

/// The value of a metric without labels that the server at `admin` shows.
///
/// # Errors
///
/// It shows none of that name.
pub fn shown(admin: SocketAddr, name: &str) -> io::Result<u64> {
    metric(&scrape(admin)?, name).map(whole)
}

/// `GET /metrics`.
fn scrape(addr: SocketAddr) -> io::Result<String> {
    let refused = |err: io::Error| io::Error::new(err.kind(), format!("metrics of http://{addr}: {err}"));
    let mut socket = TcpStream::connect_timeout(&addr, SCRAPE_MAX).map_err(refused)?;
    socket.set_read_timeout(Some(SCRAPE_MAX))?;
    socket.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    socket.take(SCRAPE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a metric without labels (Prometheus text format).
fn metric(text: &str, name: &str) -> io::Result<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok();
    let value = text.lines().find_map(value).filter(|value| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| io::Error::other(format!("the server's metrics have no {name}")))
}

/// Never negative, and far below 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> u64 {
    value as u64
}

const SCRAPE_MAX: Duration = Duration::from_secs(5);
const SCRAPE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE a_b gauge\na_bc 7\na_b{x=\"y\"} 8\na_b 1.5e3\n";
        assert!((metric(text, "a_b").expect("it is there") - 1_500.0).abs() < f64::EPSILON);
        assert!(metric(text, "a").is_err());
        assert!(metric("a NaN\n", "a").is_err());
    }
}
