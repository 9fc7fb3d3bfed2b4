//! The load generator: Debian's `wrk`, and what it says.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ecs_groupd::identities::dev;

use crate::Error;

/// One run of the generator.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Answers in a second.
    pub rate: f64,
    /// Half of the answers came within this time, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers came within this time, in milliseconds.
    pub p99_ms: f64,
    /// Answers other than 2xx, and broken connections.
    pub errors: u64,
}

/// The body of a create.
pub const CREATE_BODY: &str = r#"{"server_group":{"name":"web-tier","policies":["anti-affinity"]}}"#;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Create a group.
    Create,
    /// Show the group with this id.
    Show(String),
    /// List the first 50.
    List50,
    /// Whether it is up.
    Up,
}

impl Ask {
    /// The path and query.
    pub fn path(&self) -> String {
        let groups = format!("/v1/{}/cloudservers/os-server-groups", dev::PROJECT_ID);
        match self {
            Self::Create => groups,
            Self::Show(id) => format!("{groups}/{id}"),
            Self::List50 => format!("{groups}?limit=50"),
            Self::Up => "/healthz".to_owned(),
        }
    }
}

/// Loads a server for some seconds.
pub fn run(
    address: SocketAddr,
    ask: &Ask,
    connections: u32,
    seconds: u32,
    folder: &Path,
) -> Result<Load, Error> {
    run_with_headers(address, ask, &[], connections, seconds, folder)
}

/// The same, with more headers in each request.
pub fn run_with_headers(
    address: SocketAddr,
    ask: &Ask,
    headers: &[(String, String)],
    connections: u32,
    seconds: u32,
    folder: &Path,
) -> Result<Load, Error> {
    let script = folder.join("request.lua");
    let request = match ask {
        Ask::Create => format!(
            "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{CREATE_BODY}'\n"
        ),
        Ask::Show(_) | Ask::List50 | Ask::Up => String::new(),
    };
    let headers = headers.iter().map(|(name, value)| format!("wrk.headers['{name}'] = '{value}'\n"));
    std::fs::write(&script, request + &headers.collect::<String>())?;
    let output = Command::new("wrk")
        .args(["-t1", "--latency", "--timeout", "30s"])
        .args([format!("-c{connections}"), format!("-d{seconds}s")])
        .arg("-s")
        .arg(&script)
        .arg(format!("http://{address}{}", ask.path()))
        .output()
        .map_err(|error| format!("cannot run wrk ({error}): install Debian's package `wrk`"))?;
    let text = String::from_utf8(output.stdout)?;
    parse(&text).ok_or_else(|| format!("wrk said something unexpected:\n{text}").into())
}

fn parse(text: &str) -> Option<Load> {
    let after = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let non_2xx = after("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.parse().ok())?;
    let broken: u64 = after("Socket errors:")
        .map_or(0, |counts| counts.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum());
    Some(Load {
        rate: after("Requests/sec:")?.parse().ok()?,
        p50_ms: millis(after("50%")?)?,
        p99_ms: millis(after("99%")?)?,
        errors: non_2xx + broken,
    })
}

/// `1.23ms`, `45.00us` or `1.20s` in milliseconds.
fn millis(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit() || digit == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    match unit {
        "us" => Some(number / 1000.0),
        "ms" => Some(number),
        "s" => Some(number * 1000.0),
        "m" => Some(number * 60_000.0),
        _ => None,
    }
}
