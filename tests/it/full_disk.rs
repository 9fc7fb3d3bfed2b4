//! A full disk: 503 while it lasts, nothing lost, and no restart when there is space again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ecs_groupd::identities::dev;
use serde_json::Value;

use crate::harness::{Answer, Client, Process, TestApp, create_body, group_path, groups_path, records};

const DATABASE: &str = "ecs-groupd.db";

/// A command that runs on a small disk of its own, after `prepare` was done with that as `$0`. The mount is in a
/// namespace that ends with the command.
fn on_a_small_disk(disk: &Path, prepare: &str) -> Command {
    std::fs::create_dir(disk).unwrap();
    let mut command = Command::new("unshare");
    // Root may mount as it is; everybody else is root in a user namespace of their own.
    command.args(["--mount", "--map-root-user", "sh", "-c"]);
    command.arg(format!("mount -t tmpfs -o size=3m tmpfs \"$0\" && {prepare} && exec \"$@\"")).arg(disk);
    command.arg(env!("CARGO_BIN_EXE_ecs-groupd")).args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
    command.arg("--database").arg(disk.join(DATABASE));
    command
}

/// The disk as it can be reached from outside of its namespace: through the process that is inside.
fn reached_through(process: &Process, disk: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", process.id(), disk.display()))
}

/// What clients were told: the groups that were made, by request, and the requests that were turned away.
#[derive(Default)]
struct Told {
    created: BTreeMap<String, String>,
    turned_away: BTreeSet<String>,
}

/// One create, and what came of it: whether there was room.
fn create(client: &Client, told: &mut Told) -> bool {
    let answer = client.post_json(&groups_path(), &create_body(&"n".repeat(255)));
    let request_id = answer.request_id().to_owned();
    if answer.status == 200 {
        let id = answer.json()["server_group"]["id"].as_str().unwrap().to_owned();
        told.created.insert(request_id, id);
        return true;
    }
    assert!(answer.ecs_error(503, "Common.1503").contains("the disk is full"), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), Some("1"));
    told.turned_away.insert(request_id);
    false
}

/// Creates from several clients, each until it was turned away five times.
fn create_until_full(client: &Client, told: &mut Told) {
    thread::scope(|scope| {
        let create_some = || {
            let mut told = Told::default();
            while told.turned_away.len() < 5 {
                create(client, &mut told);
            }
            told
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(create_some)).collect();
        for client in clients {
            let mut one = client.join().unwrap();
            told.created.append(&mut one.created);
            told.turned_away.append(&mut one.turned_away);
        }
    });
}

/// Creates groups until there is no space, and returns those that were acknowledged, in order.
fn fill(client: &Client) -> Vec<String> {
    let mut told = Told::default();
    while create(client, &mut told) {}
    let mut made: Vec<String> = told.created.into_values().collect();
    made.sort();
    made
}

fn reset(operator: &Client) -> Answer {
    let bearer = format!("Bearer {}", dev::CONTROL_TOKEN);
    operator.send("POST", "/control/reset", &[("authorization", &bearer)], &[])
}

fn check_told(client: &Client, database: &Path, told: &Told) {
    let listed = client.list_ids();
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), told.created.values().collect());
    assert_eq!(listed.len(), told.created.len());
    let records = records(database);
    let recorded: BTreeMap<String, String> = records
        .iter()
        .map(|record| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&record["request_id"]), text(&record["resource"]["id"]))
        })
        .collect();
    assert_eq!(recorded, told.created, "a record for each, and none for what was turned away");
    assert_eq!(records.len(), told.created.len(), "and only one");
}

/// The database inside, as it is now, where a test may read it.
fn copy_of(inside: &Path, folder: &Path) -> PathBuf {
    for suffix in ["", "-wal"] {
        let name = format!("{DATABASE}{suffix}");
        std::fs::copy(inside.join(&name), folder.join(&name)).unwrap();
    }
    folder.join(DATABASE)
}

#[test]
fn on_a_full_disk_writes_get_503_reads_go_on_and_writes_go_on_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let mut command = on_a_small_disk(&disk, "head -c 1000000 /dev/zero > \"$0/ballast\"");
    command.stderr(Stdio::null());
    let process = Process::spawn(command, folder.path());

    let mut acknowledged = fill(&process.client);
    for _ in 0..20 {
        let refused = process.client.post_json(&groups_path(), &create_body("while full"));
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(process.client.list_ids(), acknowledged, "reads go on");
    }

    // Somebody else takes what little the service gave back.
    let inside = reached_through(&process, &disk);
    let mut greedy = File::create(inside.join("greedy")).unwrap();
    while greedy.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    for _ in 0..20 {
        let refused = process.client.post_json(&groups_path(), &create_body("while full"));
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(process.client.get("/readyz").status, 200, "it only waits for space");
        assert_eq!(process.client.list_ids(), acknowledged, "reads go on");
    }

    std::fs::remove_file(inside.join("ballast")).unwrap();
    for _ in 0..50 {
        acknowledged.push(process.client.create("again"));
    }
    assert_eq!(process.client.list_ids(), acknowledged);
    assert_eq!(
        records(&copy_of(&inside, folder.path())).len(),
        acknowledged.len(),
        "a record for each, and none for what was turned away"
    );
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn under_several_clients_a_disk_may_fill_up_again_and_again_and_each_time_all_goes_on_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let mut command =
        on_a_small_disk(&disk, "for n in 1 2 3; do head -c 500000 /dev/zero > \"$0/ballast-$n\"; done");
    command.stderr(File::create(folder.path().join("log")).unwrap());
    let process = Process::spawn(command, folder.path());
    let inside = reached_through(&process, &disk);
    let mut told = Told::default();
    for ballast in ["ballast-1", "ballast-2", "ballast-3"] {
        create_until_full(&process.client, &mut told);
        assert_eq!(process.client.list_ids().len(), told.created.len(), "reads go on");
        let some = told.created.values().next().unwrap();
        let delete = process.client.delete(&group_path(some));
        assert!(delete.ecs_error(503, "Common.1503").contains("the disk is full"), "{}", delete.text);
        let control = process.ready["control_url"].as_str().unwrap().strip_prefix("http://").unwrap();
        let reset = reset(&Client::new(control.parse().unwrap()));
        assert_eq!((reset.status, reset.json()["error"].is_string()), (503, true), "{}", reset.text);
        assert_eq!(process.client.get("/livez").status, 200);

        std::fs::remove_file(inside.join(ballast)).unwrap();
        let space_returned = Instant::now();
        assert!(create(&process.client, &mut told), "there is space again");
        assert!(space_returned.elapsed() < Duration::from_secs(1), "{:?}", space_returned.elapsed());
        check_told(&process.client, &copy_of(&inside, folder.path()), &told);
    }
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("COMMIT failed"), "the case that matters: {log}");
}

/// A database whose service was stopped or, with more in its WAL than its file has room for, killed.
fn prepare_database(folder: &Path, is_killed: bool) -> Vec<String> {
    let process = Process::serve(folder, &["--database", DATABASE]);
    let ids = (0..50).map(|_| process.client.create("web")).collect();
    if is_killed {
        process.kill();
    } else {
        assert_eq!(process.terminate(), Some(0));
    }
    ids
}

#[test]
fn a_start_on_a_full_disk_says_so_and_the_next_one_with_space_finds_all_there_was() {
    for is_killed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut ids = prepare_database(folder.path(), is_killed);
        let prepare = format!(
            "cp {from}/{DATABASE}* \"$0\" && {{ cat /dev/zero > \"$0/ballast\" 2> {from}/ignored || true; }}",
            from = folder.path().display(),
        );
        let mut command = on_a_small_disk(&folder.path().join("disk"), &prepare);
        // Should it start, it stops at once.
        command.arg("--exit-with-parent").stdin(Stdio::null());
        let refused = command.output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("the disk is full") || said.contains("No space left"), "{said}");

        let with_space = format!("cp {from}/{DATABASE}* \"$0\"", from = folder.path().display());
        let mut command = on_a_small_disk(&folder.path().join("other-disk"), &with_space);
        command.stderr(Stdio::null());
        let process = Process::spawn(command, folder.path());
        assert_eq!(process.client.list_ids(), ids);
        ids.push(process.client.create("one more"));
        assert_eq!(process.client.list_ids(), ids);
        assert_eq!(process.terminate(), Some(0));
    }
}

#[test]
fn a_database_as_large_as_it_may_be_gets_503_and_a_reset_makes_room() {
    let app = TestApp::start_with(|settings| settings.database.size_bytes_max = 400_000);
    let acknowledged = fill(&app.client);
    assert_eq!(app.client.post_json(&groups_path(), &create_body(&"n".repeat(255))).status, 503);
    assert_eq!(app.client.list_ids(), acknowledged, "reads go on");
    let reset = reset(&app.control_client());
    assert_eq!(reset.status, 204, "{}", reset.text);
    let id = app.client.create("again");
    assert_eq!(app.client.list_ids(), [id]);
    assert_eq!(records(&app.database()).len(), acknowledged.len() + 2);
}

#[test]
fn a_database_that_is_larger_than_it_may_be_is_read_and_not_written_until_a_reset() {
    let app = TestApp::start();
    let ids: Vec<String> = (0..300).map(|_| app.client.create(&"n".repeat(255))).collect();
    let folder = app.stop();
    let app = TestApp::start_in(folder, |settings| settings.database.size_bytes_max = 50_000);
    assert!(std::fs::metadata(app.database()).unwrap().len() > 50_000);
    let mut told = Told::default();
    while create(&app.client, &mut told) {}
    let made: Vec<String> = told.created.values().cloned().collect();
    let mut expected = [ids, made].concat();
    expected.sort();
    assert_eq!(app.client.list_ids(), expected);
    let reset = reset(&app.control_client());
    assert_eq!(reset.status, 204, "{}", reset.text);
    let id = app.client.create("again");
    assert_eq!(app.client.list_ids(), [id]);
    let recorded = records(&app.database());
    assert_eq!(recorded.len(), expected.len() + 2);
    // The ids of the requests before the restart are the same ones, since their source is seeded.
    let mut after_restart = recorded[300..].iter().map(|record| record["request_id"].as_str().unwrap());
    assert!(after_restart.all(|request_id| !told.turned_away.contains(request_id)));
}
