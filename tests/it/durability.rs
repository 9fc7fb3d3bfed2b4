//! What is on disk when the service ends without a warning, whenever that is.
//!
//! (`kill.rs` has the twenty kills under load.)

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use ecs_groupd::identities::dev;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::{Client, Process, create_body, group_path, groups_path, records};
use crate::one_batch::check_tree;

const DATABASE: &str = "ecs-groupd.db";

fn serve(folder: &Path) -> Process {
    Process::serve(folder, &["--database", DATABASE])
}

/// Checks that the groups in a database are those that its records tell of, one after the other, and that its
/// counters and its tree are right. Returns the records.
fn check_whole(database: &Path) -> Vec<Value> {
    let conn = rusqlite::Connection::open(database).unwrap();
    let strings = |sql: &str| -> Vec<String> {
        let mut select = conn.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let records = records(database);
    let mut told = BTreeSet::new();
    for record in records.iter().filter(|record| record["outcome"] == "done") {
        let id = record["resource"]["id"].as_str().map(|id| id.replace('-', ""));
        let is_new = match record["action"].as_str().unwrap() {
            "ecs:cloudServers:createServerGroup" => told.insert(id.unwrap()),
            "ecs:cloudServers:deleteServerGroup" => told.remove(&id.unwrap()),
            "ecs-groupd:database:reset" => {
                told.clear();
                true
            }
            other => panic!("{other}"),
        };
        assert!(is_new, "a record that tells of what had happened already: {record}");
    }
    let kept = strings("select lower(hex(group_id)) from server_group order by 1");
    assert_eq!(kept, told.into_iter().collect::<Vec<_>>());
    let counted = strings("select cast(group_count as text) from project where group_count > 0");
    assert_eq!(counted, if kept.is_empty() { vec![] } else { vec![kept.len().to_string()] });
    check_tree(&conn);
    records
}

#[test]
fn a_group_is_shown_the_same_after_a_kill_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path());
    let names = ["web", "\u{1f980} é \u{2028}", &"\u{10ffff}".repeat(255)];
    let ids = names.map(|name| process.client.create(name));
    let show = |client: &Client| {
        let list = client.get(&groups_path()).json();
        (list, ids.each_ref().map(|id| client.get(&group_path(id)).json()))
    };
    let before = show(&process.client);
    process.kill();
    let process = serve(folder.path());
    assert_eq!(show(&process.client), before);
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(show(&serve(folder.path()).client), before);
}

#[test]
fn killed_at_any_step_of_its_first_start_it_starts_the_next_time() {
    let exists = |name: &'static str| move |folder: &Path| folder.join(name).exists();
    let has_bytes = |name: &'static str| {
        move |folder: &Path| std::fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0)
    };
    let steps: [(&str, Box<dyn Fn(&Path) -> bool>); 10] = [
        ("its lock", Box::new(exists("ecs-groupd.db.lock"))),
        ("its process id", Box::new(has_bytes("ecs-groupd.db.lock"))),
        ("its file", Box::new(exists("ecs-groupd.db"))),
        ("its first page", Box::new(has_bytes("ecs-groupd.db"))),
        ("its WAL", Box::new(exists("ecs-groupd.db-wal"))),
        ("its first transaction", Box::new(has_bytes("ecs-groupd.db-wal"))),
        ("its key", Box::new(exists("ecs-groupd.db.key"))),
        ("its file of checkpoints", Box::new(exists("ecs-groupd.db.checkpoints"))),
        ("its first checkpoint", Box::new(has_bytes("ecs-groupd.db.checkpoints"))),
        ("its ready file", Box::new(exists("ready.json"))),
    ];
    for (step, is_reached) in steps {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-groupd"));
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--control", "off"]);
        command.args(["--database", DATABASE, "--ready-file", "ready.json"]);
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // A step may go by unseen; then it is killed when it is ready.
        while !is_reached(folder.path()) && !folder.path().join("ready.json").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it had {step}");
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let process = serve(folder.path());
        process.client.create("web");
        assert_eq!(process.terminate(), Some(0), "killed when it had {step}");
        assert_eq!(check_whole(&folder.path().join(DATABASE)).len(), 1, "killed when it had {step}");
    }
}

#[test]
fn a_start_that_was_cut_short_before_the_first_migration_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    conn.execute_batch(
        "pragma journal_mode = wal;
         create table _sqlx_migrations (
             version bigint primary key, description text not null,
             installed_on timestamp not null default current_timestamp,
             success boolean not null, checksum blob not null, execution_time bigint not null
         )",
    )
    .unwrap();
    drop(conn);
    let process = serve(folder.path());
    process.client.create("web");
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(check_whole(&folder.path().join(DATABASE)).len(), 1);
}

/// Creates, deletes and, now and then, resets; tells `acknowledged` of every answer, until there is none.
fn change_until_killed(process: &Process, client: usize, seed: u64, acknowledged: &mpsc::Sender<()>) {
    let mut random = StdRng::seed_from_u64(seed);
    let control = process.ready["control_url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let control = Client::new(control.parse().unwrap());
    let json = [("content-type", "application/json")];
    let bearer = format!("Bearer {}", dev::CONTROL_TOKEN);
    let mut mine: Vec<String> = Vec::new();
    loop {
        let answer = match random.random_range(0..40) {
            0 => control.try_send("POST", "/control/reset", &[("authorization", &bearer)], &[]),
            1..10 if !mine.is_empty() => {
                // Somebody's reset may have taken it: 404 is an answer too, and is recorded.
                let id = mine.swap_remove(random.random_range(0..mine.len()));
                process.client.try_send("DELETE", &group_path(&id), &[], &[])
            }
            _ => {
                let body = create_body(&format!("client-{client}"));
                process.client.try_send("POST", &groups_path(), &json, body.as_bytes())
            }
        };
        let Ok(answer) = answer else { return };
        assert!(matches!(answer.status, 200 | 204 | 404), "{}", answer.text);
        if answer.status == 200 {
            mine.push(answer.json()["server_group"]["id"].as_str().unwrap().to_owned());
        }
        if acknowledged.send(()).is_err() {
            return;
        }
    }
}

#[test]
fn killed_amid_creates_deletes_and_resets_it_keeps_all_of_each_or_nothing() {
    const ROUNDS: usize = 8;
    const CLIENTS: usize = 8;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut recorded = 0;
    for _ in 0..ROUNDS {
        let process = serve(folder.path());
        let (sender, acknowledged) = mpsc::channel();
        let deadly = random.random_range(50..150);
        let pid = process.id().to_string();
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (process, sender, seed) = (&process, sender.clone(), random.random());
                scope.spawn(move || change_until_killed(process, client, seed, &sender));
            }
            drop(sender);
            assert_eq!(acknowledged.iter().take(deadly).count(), deadly);
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
            recorded += deadly + acknowledged.iter().count();
        });
        process.kill();
        let records = check_whole(&folder.path().join(DATABASE)).len();
        // At most what each client had in flight is recorded and was not answered.
        assert!((recorded..=recorded + CLIENTS).contains(&records), "{records} records, {recorded} answers");
        recorded = records;
    }
    assert_eq!(serve(folder.path()).terminate(), Some(0));
    assert_eq!(check_whole(&folder.path().join(DATABASE)).len(), recorded);
}

#[test]
fn a_wal_that_is_cut_or_damaged_anywhere_leaves_whole_attempts_only() {
    const CASES: usize = 60;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let process = serve(folder.path());
    for nth in 0..40 {
        let id = process.client.create(&"n".repeat(nth + 1));
        if nth % 3 == 0 {
            assert_eq!(process.client.delete(&group_path(&id)).status, 204);
        }
    }
    process.kill();
    let database = std::fs::read(folder.path().join(DATABASE)).unwrap();
    let wal = std::fs::read(folder.path().join("ecs-groupd.db-wal")).unwrap();
    let case = folder.path().join("case.db");
    let write = |wal: &[u8]| {
        std::fs::write(&case, &database).unwrap();
        std::fs::write(folder.path().join("case.db-wal"), wal).unwrap();
    };

    write(&wal);
    let whole = check_whole(&case);
    assert_eq!(whole.len(), 40 + 14);
    for _ in 0..CASES {
        let at = random.random_range(0..wal.len());
        let is_cut = random.random();
        let mut damaged = wal.clone();
        if is_cut {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 1 << random.random_range(0..8);
        }
        write(&damaged);
        let records = check_whole(&case);
        assert_eq!(records, whole[..records.len()], "at {at}, cut: {is_cut}");
        std::fs::remove_file(folder.path().join("case.db-shm")).ok();
    }
}
