//! The servers that are measured: the product, and two that are this program itself, started with a verb.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;

/// What is started.
#[derive(Clone, Copy, Debug)]
pub enum Contender {
    /// `ecs-groupd serve --dev`.
    Product,
    /// `ecs-groupd serve --identities`, with the file beside the database.
    ProductWithAccounts,
    /// (a): the same two inserts as most people write them, behind the same HTTP stack.
    Naive,
    /// A handler with no database that sends the same bytes through the same middleware.
    Static,
}

/// A server that answers. It is killed when it is dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process to its first 200.
    pub first_answer: Duration,
}

impl Running {
    /// Starts a contender on `database`, and waits for its first 200.
    pub fn start(contender: Contender, database: &Path) -> Result<Self, Error> {
        settle()?;
        let address = free_address()?;
        let mut command = match contender {
            Contender::Product | Contender::ProductWithAccounts => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
                command.arg("serve");
                if matches!(contender, Contender::Product) {
                    command.arg("--dev");
                } else {
                    command.arg("--identities").arg(database.with_extension("identities"));
                }
                command.args(["--control", "off", "--listen", &address.to_string(), "--database"]);
                command
            }
            Contender::Naive | Contender::Static => {
                let verb = if matches!(contender, Contender::Naive) { "serve-naive" } else { "serve-static" };
                let mut command = Command::new(std::env::current_exe()?);
                command.args([verb, &address.to_string()]);
                command
            }
        };
        let log = File::create(database.with_extension("log"))?;
        command.arg(database).env("ECS_GROUPD__QUOTA__GROUPS_PER_PROJECT", "1000000000");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        let child = command.spawn()?;
        let mut running = Self { child, address, first_answer: Duration::ZERO };
        while !running.answers() {
            if started.elapsed() > Duration::from_secs(30) || running.child.try_wait()?.is_some() {
                return Err(format!("{contender:?} does not answer on {address}").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        running.first_answer = started.elapsed();
        Ok(running)
    }

    fn answers(&self) -> bool {
        let agent: ureq::Agent = ureq::Agent::config_builder().max_idle_connections(0).build().into();
        agent.get(format!("http://{}/readyz", self.address)).call().is_ok_and(|answer| answer.status() == 200)
    }

    /// The CPU that it took so far, of all its threads.
    pub fn cpu(&self) -> Result<Duration, Error> {
        // proc(5): times in clock ticks, of which Linux has 100 a second; the name may hold anything but `)`.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields
            .get(11..13)
            .ok_or("no times in stat")?
            .iter()
            .filter_map(|time| time.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Stops it with SIGTERM and waits until it is gone.
    pub fn stop(mut self) -> Result<(), Error> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the disk has what the run before left in memory, which would be this run's burden.
pub fn settle() -> Result<(), Error> {
    Command::new("sync").status()?;
    Ok(())
}

/// How many attempts the product wrote in one transaction on average, from the last line of its log.
pub fn mean_batch(database: &Path) -> Result<f64, Error> {
    let log = std::fs::read_to_string(database.with_extension("log"))?;
    let last = log.lines().last().ok_or("an empty log")?;
    let stopped: serde_json::Value = serde_json::from_str(last)?;
    let number = |name: &str| stopped[name].as_f64().ok_or_else(|| format!("no {name} in {last}"));
    Ok(number("records")? / number("commits")?)
}

fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
