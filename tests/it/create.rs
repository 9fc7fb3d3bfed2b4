//! "Creating an ECS Group".

use crate::harness::{TestApp, create_body, group_path, groups_path};

#[test]
fn a_created_group_is_answered_shown_and_listed_with_exactly_the_five_keys() {
    let app = TestApp::start();
    let created = app.client.post_json(&groups_path(), &create_body("web"));
    assert_eq!(created.status, 200);
    let group = created.json()["server_group"].clone();
    let id = group["id"].as_str().unwrap();
    let expected = serde_json::json!({
        "id": id, "name": "web", "policies": ["anti-affinity"], "members": [], "metadata": {},
    });
    assert_eq!(group, expected);
    assert_eq!(app.client.get(&group_path(id)).json()["server_group"], expected);
    assert_eq!(app.client.get(&groups_path()).json(), serde_json::json!({ "server_groups": [expected] }));
}
