//! How fast a log is verified, on one core.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use ecs_groupd::audit::checkpoint::Checkpoint;
use ecs_groupd::audit::note::SigningKey;
use ecs_groupd::audit::record::TraceId;
use ecs_groupd::audit::tree::{self, Edge};
use rusqlite::{Connection, params};

use crate::{Error, median};

/// A checkpoint stands after so many records.
const CHECKPOINT_EVERY: u64 = 10_000;
const PROJECT: &str = "11111111111111111111111111111111";

/// Verifies a log of `count` records, as a database with and without its state, and as an export.
pub fn verify(database: &Path, count: u64, rounds: u32) -> Result<(), Error> {
    println!("`audit verify` over {count} records with a checkpoint every {CHECKPOINT_EVERY}, on one core\n");
    make(database, count)?;
    let path = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    let (key, export) = (path(".key"), path(".ndjson"));
    let database = database.as_os_str();
    run(&[
        "audit".as_ref(),
        "export".as_ref(),
        "--database".as_ref(),
        database,
        "--output".as_ref(),
        export.as_ref(),
    ])?;
    for (name, arguments) in [
        ("a database", vec!["--database".as_ref(), database]),
        ("a database and its state", vec!["--state".as_ref(), "--database".as_ref(), database]),
        ("an export", vec!["--export".as_ref(), export.as_os_str(), "--key".as_ref(), key.as_ref()]),
    ] {
        let (mut rates, mut cpu_rates) = (vec![], vec![]);
        for _ in 0..rounds {
            let (started, cpu) = (Instant::now(), children_cpu()?);
            run(&[&["audit".as_ref(), "verify".as_ref()], &arguments[..]].concat())?;
            rates.push(count as f64 / started.elapsed().as_secs_f64());
            cpu_rates.push(count as f64 / (children_cpu()? - cpu));
        }
        let (rate, cpu_rate) = (median(&rates), median(&cpu_rates));
        println!("  {name:<26} {rate:>9.0} records/s   {cpu_rate:>9.0} per second of CPU");
    }
    println!();
    Ok(())
}

/// How many seconds of CPU the processes took that have ended (`cutime` and `cstime` of proc(5), 100 a second): what
/// counts where the core is shared.
fn children_cpu() -> Result<f64, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().ok_or("no stat")?.split_whitespace();
    let ticks = fields.skip(13).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

fn run(arguments: &[&std::ffi::OsStr]) -> Result<(), Error> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_ecs-groupd")]).args(arguments).stdout(Stdio::null());
    if command.status()?.success() { Ok(()) } else { Err("the program failed".into()) }
}

/// Makes groups, as a service would have recorded it.
fn make(database: &Path, count: u64) -> Result<(), Error> {
    let key = SigningKey::new("ecs-groupd/bench", [1; 32])?;
    std::fs::write(format!("{}.key", database.display()), key.to_secret_text())?;
    let mut conn = Connection::open(database)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let mut files =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, Error>>()?;
    files.sort();
    for file in files {
        conn.execute_batch(&std::fs::read_to_string(file)?)?;
    }
    conn.execute_batch("pragma journal_mode = wal; pragma synchronous = off")?;
    let tx = conn.transaction()?;
    let mut edge = Edge::default();
    {
        let mut insert = tx.prepare(
            "insert into audit_record (seq, project_id, group_id, record_time, bytes, leaf)
             values (?, unhex(?), unhex(?), ?, ?, ?)",
        )?;
        let mut group = tx.prepare(
            "insert into server_group (project_id, group_id, name, placement_rule, created_by)
             values (unhex(?), unhex(?), 'web-tier', 'anti-affinity', unhex('33333333333333333333333333333333'))",
        )?;
        let mut note = tx.prepare("insert into audit_checkpoint (size, hashes, note) values (?, ?, ?)")?;
        for seq in 1..=count {
            let (time, number) = (1_767_323_045_000 + seq, i64::try_from(seq)?);
            let id = format!("019b7c5a-0000-7000-8000-{seq:012x}");
            let bytes = record(seq, time, &id);
            let leaf = tree::leaf(bytes.as_bytes());
            edge.push(leaf);
            let hex = id.replace('-', "");
            insert.execute(params![number, PROJECT, hex, i64::try_from(time)?, bytes.as_bytes(), leaf])?;
            group.execute(params![PROJECT, hex])?;
            if seq.is_multiple_of(CHECKPOINT_EVERY) {
                let checkpoint = Checkpoint {
                    origin: key.verifying_key().name().to_owned(),
                    size: seq,
                    root: edge.root(),
                };
                note.execute(params![number, edge.to_bytes(), checkpoint.sign(&key)])?;
            }
        }
    }
    tx.execute(
        "update audit_edge set size = ?, hashes = ?",
        params![i64::try_from(count)?, edge.to_bytes()],
    )?;
    let project =
        "insert into project (project_id, group_count, newest_group_id) values (unhex(?), ?, zeroblob(16))";
    tx.execute(project, params![PROJECT, i64::try_from(count)?])?;
    tx.commit()?;
    conn.execute_batch("pragma wal_checkpoint(truncate)")?;
    Ok(())
}

/// As long as the record of a create is.
fn record(seq: u64, time: u64, id: &str) -> String {
    let trace_id = TraceId::new(seq, u128::from(seq).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    format!(
        r#"{{"v":1,"seq":{seq},"trace_id":"{trace_id}","time":{time},"record_time":{time},"request_id":"{seq:032x}","source_ip":"198.51.100.7","door":"v1","actor":{{"type":"user","user_id":"33333333333333333333333333333333","user_name":"alice","domain_id":"55555555555555555555555555555555","domain_name":"acct1","is_root":true,"credential":"token"}},"action":"ecs:cloudServers:createServerGroup","project_id":"{PROJECT}","resource":{{"type":"server_group","id":"{id}","name":"web-tier"}},"asked":{{"name":"web-tier","placement_rule":"anti-affinity"}},"outcome":"done","reason":null}}"#
    )
}
