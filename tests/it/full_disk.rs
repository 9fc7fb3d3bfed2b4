//! A full disk: 503 while it lasts, nothing lost, and no restart when there is space again.

use std::process::Command;

use crate::harness::{ControlAddress, Process, TestApp, create_body, groups_path, records};

/// A file system of its own for the service, in a mount namespace that ends with it.
const ON_A_SMALL_DISK: &str = "mount -t tmpfs -o size=3m tmpfs \"$0\" && \
    head -c 1000000 /dev/zero > \"$0/ballast\" && exec \"$@\"";

#[test]
fn on_a_full_disk_writes_get_503_reads_go_on_and_writes_go_on_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mut command = Command::new("unshare");
    // Root may mount as it is; everybody else is root in a user namespace of their own.
    command.args(["--mount", "--map-root-user"]).args(["sh", "-c", ON_A_SMALL_DISK]).arg(&disk);
    command.arg(env!("CARGO_BIN_EXE_ecs-groupd")).args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
    command.arg("--database").arg(disk.join("ecs-groupd.db"));
    let process = Process::spawn(command, folder.path());

    let mut acknowledged = fill(&process.client);
    for _ in 0..20 {
        let refused = process.client.post_json(&groups_path(), &create_body("while full"));
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(process.client.list_ids(), acknowledged, "reads go on");
    }

    // Somebody else takes what little the service gave back.
    let inside = format!("/proc/{}/root{}", process.id(), disk.display());
    let mut greedy = std::fs::File::create(format!("{inside}/greedy")).unwrap();
    while std::io::Write::write(&mut greedy, &[0; 4096]).is_ok_and(|written| written > 0) {}
    for _ in 0..20 {
        let refused = process.client.post_json(&groups_path(), &create_body("while full"));
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(process.client.get("/readyz").status, 200, "it only waits for space");
        assert_eq!(process.client.list_ids(), acknowledged, "reads go on");
    }

    // The test is outside of the service's namespace, and reaches its disk through the service itself.
    std::fs::remove_file(format!("{inside}/ballast")).unwrap();
    for _ in 0..50 {
        acknowledged.push(process.client.create("again"));
    }
    assert_eq!(process.client.list_ids(), acknowledged);
    let copy = folder.path().join("copy.db");
    copy_database(&format!("{inside}/ecs-groupd.db"), &copy);
    assert_eq!(
        records(&copy).len(),
        acknowledged.len(),
        "a record for each, and none for what was turned away"
    );
    assert_eq!(process.client.get("/readyz").status, 200);
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn a_database_as_large_as_it_may_be_gets_503_and_a_reset_makes_room() {
    let app = TestApp::start_with(|settings| settings.database.size_bytes_max = 400_000);
    let acknowledged = fill(&app.client);
    assert_eq!(app.client.post_json(&groups_path(), &create_body(&long_name())).status, 503);
    assert_eq!(app.client.list_ids(), acknowledged, "reads go on");
    let Some(ControlAddress::Tcp(control)) = app.control else { panic!("no control listener") };
    let operator = crate::harness::Client::new(control);
    let headers = [("authorization", "Bearer dev-control-token")];
    let reset = operator.send("POST", "/control/reset", &headers, &[]);
    assert_eq!(reset.status, 204, "{}", reset.text);
    let id = app.client.create("again");
    assert_eq!(app.client.list_ids(), [id]);
    assert_eq!(records(&app.database()).len(), acknowledged.len() + 2);
}

/// The longest there is, so that the disk is full soon; what it has no room for, a short name might still fit in.
fn long_name() -> String {
    "n".repeat(255)
}

/// Creates groups until there is no space, and returns those that were acknowledged.
fn fill(client: &crate::harness::Client) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let answer = client.post_json(&groups_path(), &create_body(&long_name()));
        if answer.status == 200 {
            acknowledged.push(answer.json()["server_group"]["id"].as_str().unwrap().to_owned());
            continue;
        }
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.json()["error"]["code"], "Common.1503");
        assert!(answer.text.contains("the disk is full: nothing was changed"), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), Some("1"));
        return acknowledged;
    }
}

fn copy_database(from: &str, to: &std::path::Path) {
    for suffix in ["", "-wal"] {
        let mut target = to.as_os_str().to_owned();
        target.push(suffix);
        std::fs::copy(format!("{from}{suffix}"), target).unwrap();
    }
}
