//! The benchmark: `cargo bench --profile dist`. Needs Debian's `wrk`, 8 GB of disk and about a quarter of an hour.
//!
//! It prints ratios from one interleaved run, since machines differ and are noisy; absolute rates stand beside them.
//! `cargo bench --profile dist -- creates` runs one section; `--quick` shortens every run.
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a benchmark prints, and rounds")]

mod access;
mod contender;
mod load;
mod naive;
mod refusals;
mod traces;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy;
use ecs_groupd::access::principal::{Origin, Principal};
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::Command;
use ecs_groupd::domain::group::{GroupName, PlacementRule};
use ecs_groupd::domain::id::ProjectId;
use ecs_groupd::identities::Identities;
use ecs_groupd::identities::dev::DevSecrets;
use ecs_groupd::meter::Meter;
use ecs_groupd::settings::{Overrides, Settings};
use ecs_groupd::store;
use tempfile::TempDir;

use crate::contender::{Contender, Running, mean_batch};
use crate::load::{Ask, Load};

/// The product's allocator, for the servers that it is measured against.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong; the benchmark stops at the first.
type Error = Box<dyn std::error::Error + Send + Sync>;

const SECTIONS: [&str; 8] =
    ["creates", "reads", "access", "refusals", "million", "traces", "verify", "footprint"];

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [verb, address, database] = &arguments[..] {
        match verb.as_str() {
            "serve-naive" => return naive::serve_naive(address.parse()?, Path::new(database)),
            "serve-static" => return naive::serve_static(address.parse()?, Path::new(database)),
            _ => {}
        }
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| *argument != "--quick").collect();
    if let Some(unknown) = wanted.iter().find(|section| !SECTIONS.contains(section)) {
        return Err(format!("no section {unknown:?}; there are {SECTIONS:?}").into());
    }
    let is_wanted = |section| wanted.is_empty() || wanted.contains(&section);
    // On the disk that the build is on, not on a /tmp that may be memory.
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let bench = Bench { folder, rounds: if is_quick { 1 } else { 3 }, seconds: if is_quick { 2 } else { 5 } };
    if is_wanted("creates") {
        bench.creates()?;
    }
    if is_wanted("reads") {
        bench.reads()?;
    }
    if is_wanted("access") {
        bench.access()?;
    }
    if is_wanted("refusals") {
        bench.refusals()?;
    }
    if is_wanted("million") {
        bench.million()?;
    }
    if is_wanted("traces") {
        bench.traces(if is_quick { 50 } else { 300 })?;
    }
    if is_wanted("footprint") {
        bench.footprint(if is_quick { 5 } else { 60 })?;
    }
    if is_wanted("verify") {
        verify::verify(&bench.database("verify"), if is_quick { 100_000 } else { 1_000_000 }, bench.rounds)?;
    }
    Ok(())
}

struct Bench {
    folder: TempDir,
    rounds: u32,
    /// Of each run.
    seconds: u32,
}

impl Bench {
    /// Durable creates, against (a) and (b).
    fn creates(&self) -> Result<(), Error> {
        println!(
            "durable creates, synchronous=FULL, {} rounds of {} s each, interleaved",
            self.rounds, self.seconds
        );
        println!(
            "  (a) two inserts, a transaction a request, pool of 10; (b) bare SQLite at the product's mean batch\n"
        );
        println!(
            "{:>11} {:>8} {:>8} {:>8} {:>7} {:>7}   {:>16} {:>16}  {:>6}  {:>6}",
            "connections",
            "product",
            "(a)",
            "(b)",
            "÷ (a)",
            "÷ (b)",
            "product p50/p99",
            "(a) p50/p99",
            "batch",
            "errors"
        );
        for connections in [1, 64, 256] {
            let (mut product, mut naive, mut bare, mut batches) = (vec![], vec![], vec![], vec![]);
            for round in 0..self.rounds {
                let database = self.database(&format!("product-{connections}-{round}"));
                product.push(self.create_run(Contender::Product, &database, connections)?);
                let batch = mean_batch(&database)?;
                batches.push(batch);
                remove(&database)?;
                let database = self.database(&format!("naive-{connections}-{round}"));
                naive.push(self.create_run(Contender::Naive, &database, connections)?);
                remove(&database)?;
                let database = self.database(&format!("bare-{connections}-{round}"));
                contender::settle()?;
                bare.push(naive::bare_loop(&database, batch, self.seconds)?);
                remove(&database)?;
            }
            let (product, naive) = (median_load(&product), median_load(&naive));
            let (bare, batch) = (median(&bare), median(&batches));
            println!(
                "{connections:>11} {:>6.0}/s {:>6.0}/s {bare:>6.0}/s {:>6.2}x {:>6.2}x   {:>13}ms {:>13}ms  {batch:>6.1}  {:>2}/{:<3}",
                product.rate,
                naive.rate,
                product.rate / naive.rate,
                product.rate / bare,
                percentiles(&product),
                percentiles(&naive),
                product.errors,
                naive.errors,
            );
        }
        println!();
        Ok(())
    }

    fn create_run(&self, contender: Contender, database: &Path, connections: u32) -> Result<Load, Error> {
        let running = Running::start(contender, database)?;
        let load = load::run(running.address, &Ask::Create, connections, self.seconds, self.folder.path())?;
        running.stop()?;
        Ok(load)
    }

    /// Show and list-50, against a handler with no database.
    fn reads(&self) -> Result<(), Error> {
        let database = self.database("reads");
        let ids = fill(&database, 1_000)?;
        let show = Ask::Show(ids[ids.len() / 2].clone());
        println!("reads at 64 connections over 1,000 groups, against the same bytes with no database\n");
        println!("{:>11} {:>10} {:>10} {:>8}   {:>16}", "", "product", "static", "ratio", "product p50/p99");
        for (name, ask) in [("show", &show), ("list-50", &Ask::List50)] {
            let (mut product, mut constant) = (vec![], vec![]);
            for _ in 0..self.rounds {
                let running = Running::start(Contender::Product, &database)?;
                Self::keep_answers(&running, &show, &database)?;
                product.push(load::run(running.address, ask, 64, self.seconds, self.folder.path())?);
                running.stop()?;
                let running = Running::start(Contender::Static, &database)?;
                constant.push(load::run(running.address, ask, 64, self.seconds, self.folder.path())?);
                running.stop()?;
            }
            let (product, constant) = (median_load(&product), median_load(&constant));
            println!(
                "{name:>11} {:>8.0}/s {:>8.0}/s {:>7.0}%   {:>13}ms   errors {}/{}",
                product.rate,
                constant.rate,
                100.0 * product.rate / constant.rate,
                percentiles(&product),
                product.errors,
                constant.errors,
            );
        }
        println!();
        Ok(())
    }

    /// What it costs to know a caller and to decide.
    fn access(&self) -> Result<(), Error> {
        access::decisions(self.seconds)?;
        println!("CPU of the service for a create at 64 connections\n");
        let (mut anonymous, mut signed, mut errors) = (vec![], vec![], 0);
        for round in 0..self.rounds {
            for (contender, cpus) in
                [(Contender::Product, &mut anonymous), (Contender::ProductWithAccounts, &mut signed)]
            {
                let database = self.database(&format!("access-{round}"));
                access::identities(&database.with_extension("identities"))?;
                let headers = match contender {
                    Contender::ProductWithAccounts => access::signed_headers(access::ALICE)?,
                    _ => vec![],
                };
                let running = Running::start(contender, &database)?;
                let before = running.cpu()?;
                let folder = self.folder.path();
                let load = load::run_with_headers(
                    running.address,
                    &Ask::Create,
                    &headers,
                    64,
                    self.seconds,
                    folder,
                )?;
                let micros = running.cpu()?.saturating_sub(before).as_secs_f64() * 1e6;
                cpus.push(micros / (load.rate * f64::from(self.seconds)));
                errors += load.errors;
                running.stop()?;
                remove(&database)?;
            }
        }
        let (anonymous, signed) = (median(&anonymous), median(&signed));
        println!("  --dev, without credentials                {anonymous:>6.1} us");
        println!("  signed, and permitted by the policies     {signed:>6.1} us");
        println!(
            "  more                                      {:>6.1} %   errors {errors}\n",
            100.0 * (signed / anonymous - 1.0)
        );
        Ok(())
    }

    /// Creates, alone and beside somebody who is turned down at full speed.
    fn refusals(&self) -> Result<(), Error> {
        println!("creates at 64 connections, alone and beside 64 of another user\n");
        println!("{:>42} {:>9} {:>7} {:>11} {:>9}", "", "creates", "", "the other's", "records");
        let mut alone = 0.0;
        for other in [refusals::Other::Nobody, refusals::Other::Reader, refusals::Other::Mallory] {
            let (mut rates, mut runs) = (vec![], vec![]);
            for round in 0..self.rounds {
                let database = self.database(&format!("refusals-{round}"));
                let run = refusals::run(&database, other, self.seconds, self.folder.path())?;
                rates.push(run.creates);
                runs.push(run);
                remove(&database)?;
            }
            let rate = median(&rates);
            alone = if matches!(other, refusals::Other::Nobody) { rate } else { alone };
            let others = median(&runs.iter().map(|run| run.others).collect::<Vec<_>>());
            let records = runs.iter().map(|run| run.records).max().unwrap_or_default();
            println!(
                "{:>42} {rate:>7.0}/s {:>6.0}% {others:>9.0}/s {records:>9}",
                other.name(),
                100.0 * rate / alone
            );
        }
        println!();
        Ok(())
    }

    /// Keeps what the product answers, for `serve-static` to send.
    fn keep_answers(running: &Running, show: &Ask, database: &Path) -> Result<(), Error> {
        let get = |ask: &Ask| -> Result<String, Error> {
            let mut answer = ureq::get(format!("http://{}{}", running.address, ask.path())).call()?;
            Ok(answer.body_mut().read_to_string()?)
        };
        let answers = naive::Answers { show: get(show)?, list: get(&Ask::List50)? };
        std::fs::write(database.with_extension("answers"), serde_json::to_vec(&answers)?)?;
        Ok(())
    }

    /// The same with 1,000 and with 1,000,000 groups.
    fn million(&self) -> Result<(), Error> {
        let (small, large) = (self.database("thousand"), self.database("million"));
        let small_ids = fill(&small, 1_000)?;
        let large_ids = fill(&large, 1_000_000)?;
        println!("at 64 connections, with 1,000 and with 1,000,000 groups\n");
        println!("{:>11} {:>10} {:>10} {:>8}", "", "1,000", "1,000,000", "ratio");
        let middle = |ids: &[String]| Ask::Show(ids[ids.len() / 2].clone());
        for (name, small_ask, large_ask) in [
            ("show", middle(&small_ids), middle(&large_ids)),
            ("list-50", Ask::List50, Ask::List50),
            ("create", Ask::Create, Ask::Create),
        ] {
            let (mut at_small, mut at_large) = (vec![], vec![]);
            for round in 0..self.rounds {
                for (database, ask, loads) in
                    [(&small, &small_ask, &mut at_small), (&large, &large_ask, &mut at_large)]
                {
                    // Each run on a copy, so that neither grows from round to round.
                    let copy = self.database(&format!("copy-{round}"));
                    copy_database(database, &copy)?;
                    let running = Running::start(Contender::Product, &copy)?;
                    loads.push(load::run(running.address, ask, 64, self.seconds, self.folder.path())?);
                    running.stop()?;
                    remove(&copy)?;
                }
            }
            let (at_small, at_large) = (median_load(&at_small), median_load(&at_large));
            println!(
                "{name:>11} {:>8.0}/s {:>8.0}/s {:>7.0}%   errors {}/{}",
                at_small.rate,
                at_large.rate,
                100.0 * at_large.rate / at_small.rate,
                at_small.errors,
                at_large.errors,
            );
        }
        println!();
        Ok(())
    }

    /// The audit log listed, with 10,000 records and with 10,000,000.
    fn traces(&self, times: u32) -> Result<(), Error> {
        println!("the audit log, with 10,000 and with 10,000,000 records, {times} times each, interleaved\n");
        let (small, large) = (self.database("few-records"), self.database("many-records"));
        traces::compare(&small, &large, times)?;
        remove(&small)?;
        remove(&large)
    }

    /// Start-up, memory and size.
    fn footprint(&self, load_seconds: u32) -> Result<(), Error> {
        println!("start-up, memory and size\n");
        let (mut empty, mut idle_stop) = (vec![], vec![]);
        for round in 0..10 {
            let database = self.database(&format!("start-{round}"));
            let running = Running::start(Contender::Product, &database)?;
            empty.push(running.first_answer.as_secs_f64() * 1000.0);
            let stopping = Instant::now();
            running.stop()?;
            idle_stop.push(stopping.elapsed().as_secs_f64() * 1000.0);
            remove(&database)?;
        }
        println!("  start to first 200, no database yet:                    {:>6.1} ms", median(&empty));

        println!("  SIGTERM to exit, idle:                                  {:>6.1} ms", median(&idle_stop));

        let database = self.database("start-large");
        // 550,000 made, and 450,000 of them deleted again: 100,000 groups and 1,000,000 records.
        let ids = fill(&database, 550_000)?;
        delete(&database, &ids[..450_000])?;
        let mut large = vec![];
        for _ in 0..10 {
            let running = Running::start(Contender::Product, &database)?;
            large.push(running.first_answer.as_secs_f64() * 1000.0);
            running.stop()?;
        }
        println!("  start to first 200, 100,000 groups, 1,000,000 records:  {:>6.1} ms", median(&large));

        let database = self.database("memory");
        let running = Running::start(Contender::Product, &database)?;
        std::thread::sleep(Duration::from_secs(5));
        println!(
            "  resident 5 s after ready:                               {:>6.1} MiB",
            running.resident_mib()?
        );
        let load = load::run(running.address, &Ask::Create, 64, load_seconds, self.folder.path())?;
        std::thread::sleep(Duration::from_secs(5));
        println!(
            "  resident 5 s after {load_seconds} s of creates at 64 connections:    {:>6.1} MiB  ({:.0}/s, {} errors)",
            running.resident_mib()?,
            load.rate,
            load.errors
        );
        running.stop()?;
        let bytes = std::fs::metadata(env!("CARGO_BIN_EXE_ecs-groupd"))?.len();
        println!(
            "  the program, in this profile:                           {:>6.1} MB\n",
            bytes as f64 / 1e6
        );
        Ok(())
    }

    fn database(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.db"))
    }
}

/// The project of somebody who is in one.
fn project(who: &Principal) -> ProjectId {
    who.project_id().unwrap_or(ProjectId::from_bytes([0; 16]))
}

/// Makes groups through the product's own store, and returns their ids in order.
fn fill(database: &Path, count: usize) -> Result<Vec<String>, Error> {
    let placement_rule = PlacementRule::AntiAffinity;
    let name = GroupName::try_from("web-tier".to_owned())?;
    apply_all(database, Clock::System, Action::CreateServerGroup, count, move |principal, _| {
        Command::CreateGroup {
            project_id: project(principal),
            name: name.clone(),
            placement_rule,
            created_by: principal.user.user_id,
        }
    })?;
    let conn = rusqlite::Connection::open(database)?;
    let mut select = conn.prepare("select group_id from server_group order by group_id")?;
    let ids = select.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
    ids.map(|id| Ok(ecs_groupd::domain::id::GroupId::from_bytes(id?).to_string())).collect()
}

/// Deletes groups through the product's own store.
fn delete(database: &Path, ids: &[String]) -> Result<(), Error> {
    let ids: Vec<_> = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    apply_all(database, Clock::System, Action::DeleteServerGroup, ids.len(), move |principal, nth| {
        Command::DeleteGroup { project_id: project(principal), group_id: ids[nth] }
    })
}

fn apply_all(
    database: &Path,
    clock: Clock,
    action: Action,
    count: usize,
    command: impl Fn(&Principal, usize) -> Command,
) -> Result<(), Error> {
    let mut options = Settings::load(None, &Overrides::default())?.store_options();
    options.database = PathBuf::from(database);
    options.limits.groups_per_project = u32::MAX;
    let batch = options.batch_max;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let (store, writer) = store::open(options, clock, Ids::random()?, Arc::new(Meter::default())).await?;
        let store = Arc::new(store);
        let principal = Identities::dev(&DevSecrets::well_known(), true)?.anonymous().ok_or("nobody")?;
        let origin = Origin { request_id: Ids::random()?.request_id(), source_ip: None, door: "bench" };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let work = async {
            let mut nth = 0;
            while nth < count {
                let mut waiting = tokio::task::JoinSet::new();
                for _ in 0..batch.min(count - nth) {
                    let permit = policy::permit(
                        &principal,
                        origin,
                        action,
                        principal.project_id(),
                        Clock::System.now(),
                    )
                    .map_err(|denied| format!("{denied:?}"))?;
                    let (store, command) = (Arc::clone(&store), command(&principal, nth));
                    waiting.spawn(async move { store.apply(permit, command).await });
                    nth += 1;
                }
                while let Some(done) = waiting.join_next().await {
                    done??;
                }
            }
            drop(stop);
            Ok::<_, Error>(())
        };
        let (ended, done) = tokio::join!(writer.run(async { drop(stopped.await) }), work);
        ended?;
        done
    })
}

/// What stands beside a database has its name, and more.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// With its key and its checkpoints, without which no service goes on with it.
fn copy_database(from: &Path, to: &Path) -> Result<(), Error> {
    for suffix in ["", ".key", ".checkpoints"] {
        std::fs::copy(beside(from, suffix), beside(to, suffix))?;
    }
    Ok(())
}

fn remove(database: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm", ".lock", ".key", ".checkpoints"] {
        let path = beside(database, suffix);
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn percentiles(load: &Load) -> String {
    format!("{:.1}/{:.1}", load.p50_ms, load.p99_ms)
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The run with the median rate; its errors are those of all runs.
fn median_load(loads: &[Load]) -> Load {
    let mut sorted = loads.to_vec();
    sorted.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    Load { errors: loads.iter().map(|load| load.errors).sum(), ..sorted[sorted.len() / 2] }
}
