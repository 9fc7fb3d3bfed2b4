//! What was acknowledged is there after a power cut, and nothing is there by half.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::{Client, Process, TestApp, create_body, group_path, groups_path, records};
use crate::one_batch::check_tree;

const ROUNDS: usize = 20;
const CLIENTS: usize = 8;
const ACKNOWLEDGED_MIN: usize = 100;

/// What clients were told, over all rounds.
#[derive(Default)]
struct Told {
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// A delete that was sent and never answered: the group may be there or not.
    unanswered: BTreeSet<String>,
}

#[test]
fn groups_survive_a_restart() {
    let app = TestApp::start();
    let ids = [app.client.create("one"), app.client.create("two")];
    let folder = app.stop();
    let app = TestApp::start_in(folder, |_| {});
    assert_eq!(app.client.list_ids(), ids);
}

#[test]
fn twenty_times_killed_under_load_it_keeps_all_that_it_acknowledged_and_nothing_by_half() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("ecs-groupd.db");
    let told = Mutex::new(Told::default());
    for round in 0..ROUNDS {
        let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
        check(&process.client, &database, &told.lock().unwrap(), round);
        let deadly = ACKNOWLEDGED_MIN + random.random_range(0..100);
        load_until_killed(process, deadly, &told, &mut random);
    }
    let process = Process::serve(folder.path(), &["--database", "ecs-groupd.db"]);
    check(&process.client, &database, &told.lock().unwrap(), ROUNDS);
    assert_eq!(process.terminate(), Some(0));
}

/// Creates and deletes from several clients; kills the service once `deadly` changes were acknowledged.
fn load_until_killed(process: Process, deadly: usize, told: &Mutex<Told>, random: &mut StdRng) {
    let acknowledged = AtomicUsize::new(0);
    let (is_deadly, reached) = (Mutex::new(false), Condvar::new());
    let seeds: [u64; CLIENTS] = random.random();
    let client = &process.client.clone();
    thread::scope(|scope| {
        for seed in seeds {
            let (acknowledged, is_deadly, reached) = (&acknowledged, &is_deadly, &reached);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed);
                let mut mine: Vec<String> = Vec::new();
                // Until the service is gone.
                while change_something(client, &mut mine, told, &mut random).is_some() {
                    if acknowledged.fetch_add(1, Ordering::SeqCst) + 1 == deadly {
                        *is_deadly.lock().unwrap() = true;
                        reached.notify_one();
                    }
                }
            });
        }
        drop(reached.wait_while(is_deadly.lock().unwrap(), |is_deadly| !*is_deadly).unwrap());
        process.kill();
    });
    assert!(acknowledged.into_inner() >= ACKNOWLEDGED_MIN);
}

/// One create or delete; `None` when the service did not answer.
fn change_something(
    client: &Client,
    mine: &mut Vec<String>,
    told: &Mutex<Told>,
    random: &mut StdRng,
) -> Option<()> {
    if !mine.is_empty() && random.random_ratio(1, 3) {
        let id = mine.swap_remove(random.random_range(0..mine.len()));
        told.lock().unwrap().unanswered.insert(id.clone());
        let answer = client.try_send("DELETE", &group_path(&id), &[], &[]).ok()?;
        assert_eq!(answer.status, 204, "{}", answer.text);
        let mut told = told.lock().unwrap();
        told.unanswered.remove(&id);
        told.deleted.insert(id);
    } else {
        let headers = [("content-type", "application/json")];
        let body = create_body("web");
        let answer = client.try_send("POST", &groups_path(), &headers, body.as_bytes()).ok()?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let id = answer.json()["server_group"]["id"].as_str().unwrap().to_owned();
        told.lock().unwrap().created.insert(id.clone());
        mine.push(id);
    }
    Some(())
}

/// Compares what is listed with what clients were told, and the records with both.
fn check(client: &Client, database: &Path, told: &Told, round: usize) {
    let listed = client.list_ids();
    let is_listed: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), is_listed.len(), "each group once, round {round}");
    for id in &told.created {
        let is_gone = told.deleted.contains(id);
        if !told.unanswered.contains(id) {
            assert_eq!(is_listed.contains(id), !is_gone, "group {id}, deleted: {is_gone}, round {round}");
        }
    }

    let records = records(database);
    let mut created: BTreeMap<&str, usize> = BTreeMap::new();
    let mut deleted: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        assert_eq!(record["outcome"], "done", "nothing here can be refused");
        let id = record["resource"]["id"].as_str().unwrap();
        let counts = if is_create(record) { &mut created } else { &mut deleted };
        *counts.entry(id).or_default() += 1;
    }
    assert!(created.values().chain(deleted.values()).all(|count| *count == 1), "one record for each change");
    for id in &told.created {
        assert!(created.contains_key(id.as_str()), "no record for group {id}, round {round}");
    }
    for id in &told.deleted {
        assert!(deleted.contains_key(id.as_str()), "no record for the end of {id}, round {round}");
    }
    // No record without its change, and no change without its record.
    let alive: BTreeSet<String> =
        created.keys().filter(|id| !deleted.contains_key(*id)).map(|id| (*id).to_owned()).collect();
    assert_eq!(alive, is_listed, "round {round}");

    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    check_tree(&rusqlite::Connection::open_with_flags(database, flags).unwrap());
}

fn is_create(record: &Value) -> bool {
    record["action"] == "ecs:cloudServers:createServerGroup"
}
