//! A read never shows less than what was answered before it began, though answers are kept in memory.

use std::thread;

use crate::harness::{TestApp, group_path};

#[test]
fn every_client_sees_its_own_changes_at_once_while_others_write() {
    let app = TestApp::start();
    thread::scope(|scope| {
        for client in 0..8 {
            let app = &app;
            scope.spawn(move || {
                for nth in 0..40 {
                    let id = app.client.create(&format!("client-{client}-{nth}"));
                    assert_eq!(app.client.get(&group_path(&id)).status, 200, "just created");
                    assert!(app.client.list_ids().contains(&id), "just created");
                    if nth % 2 == 0 {
                        assert_eq!(app.client.delete(&group_path(&id)).status, 204);
                        assert_eq!(app.client.get(&group_path(&id)).status, 404, "just deleted");
                        assert!(!app.client.list_ids().contains(&id), "just deleted");
                    }
                }
            });
        }
    });
    assert_eq!(app.client.list_ids().len(), 8 * 20);
}

#[test]
fn a_group_that_was_looked_for_in_vain_is_found_once_it_is_there() {
    let app = TestApp::start();
    let twin = TestApp::start();
    // Both services have the same clock and the same source of ids, so the first id of one is the first of the other.
    let id = twin.client.create("web");
    assert_eq!(app.client.get(&group_path(&id)).status, 404);
    assert_eq!(app.client.create("web"), id);
    assert_eq!(app.client.get(&group_path(&id)).status, 200);
}
