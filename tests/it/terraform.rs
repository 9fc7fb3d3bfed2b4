//! What Terraform's provider `huaweicloud` does, call by call, signed as it signs, with the status codes that it takes
//! and no others: `huaweicloud_compute_servergroup` from creation to deletion, the data sources, and its start.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Signer, TestApp, cheap_hash, log_in, records};
use crate::member::{at_once, ecs};

const PASSWORD: &str = "correct horse battery staple";
const ACCESS_KEY: &str = "AKTERRAFORM000000001";
const SECRET_KEY: &str = "terraform-secret-key-0000000000000000001";
const ACME: &str = "d0000000000000000000000000000001";
const REGION_1: &str = "a0000000000000000000000000000001";
const REGION_2: &str = "a0000000000000000000000000000002";
const USER_AGENT: &str = "HashiCorp Terraform/1.9.8 (+https://www.terraform.io) Terraform Plugin SDK/2.33.0 \
                          terraform-provider-huaweicloud/1.80.0";

/// An account whose user `terraform` has the vendor's own policy for ECS, and nothing else.
fn accounts() -> String {
    let hash = cheap_hash(PASSWORD);
    let key = format!("{{ access = '{ACCESS_KEY}', secret = '{SECRET_KEY}' }}");
    format!(
        "[[domain]]
         name = 'acme'
         id = '{ACME}'
         root = {{ password_hash = '{hash}' }}
         project = [
             {{ name = 'region-1', id = '{REGION_1}', groups = 20, members_per_group = 4 }},
             {{ name = 'region-2', id = '{REGION_2}' }},
         ]
         user = [{{ name = 'terraform', password_hash = '{hash}', access_key = [{key}] }}]
         user_group = [{{ name = 'automation', users = ['terraform'] }}]
         grant = [{{ user_group = 'automation', policies = ['ECS FullAccess'], scope = 'all_projects' }}]
        "
    )
}

fn start() -> TestApp {
    TestApp::start_with_identities(&accounts(), |_| {})
}

/// An error that ends a run of Terraform: the status that the provider did not count on.
struct Unexpected(Box<Answer>);

impl fmt::Debug for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status, self.0.text)
    }
}

/// How the provider shows who it is.
#[derive(Clone)]
enum Credentials {
    /// Access key and secret key.
    Keys { secret_key: &'static str },
    /// By password; this is the token that it got.
    Token(String),
}

/// The provider, once it is started: it works in one project.
#[derive(Clone)]
struct Provider {
    client: Client,
    credentials: Credentials,
    project_id: &'static str,
}

/// What Terraform keeps of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    id: String,
    name: String,
    policies: Vec<String>,
    members: BTreeSet<String>,
    /// Not in the resource's schema, but read.
    fault_domains: Option<Value>,
}

impl Provider {
    fn of(app: &TestApp) -> Self {
        let credentials = Credentials::Keys { secret_key: SECRET_KEY };
        Self { client: Client::new(app.api), credentials, project_id: REGION_1 }
    }

    /// One call. With keys, `accept`, `content-type`, `user-agent` and `x-sdk-date` are signed, the host is not, and
    /// the project stands in a header that is not signed.
    fn send(&self, method: &str, path_and_query: &str, scope: (&str, &str), body: Option<&Value>) -> Answer {
        let body = body.map_or(String::new(), Value::to_string);
        let plain = [
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("user-agent", USER_AGENT),
        ];
        let mut headers: Vec<(String, String)> = match &self.credentials {
            Credentials::Token(token) => {
                let all = plain.into_iter().chain([("x-auth-token", &**token)]);
                all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            }
            Credentials::Keys { secret_key } => {
                let signer = Signer { access_key: ACCESS_KEY, secret_key, date: "20260102T030405Z" };
                let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
                signer.sign(method, path, query, &plain, body.as_bytes())
            }
        };
        if !scope.0.is_empty() {
            headers.push((scope.0.to_owned(), scope.1.to_owned()));
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.client.send(method, path_and_query, &headers, body.as_bytes())
    }

    /// A call of a resource, which counts on these statuses.
    fn call(
        &self,
        method: &str,
        rest: &str,
        body: Option<&Value>,
        taken: &[u16],
    ) -> Result<Answer, Unexpected> {
        let path = format!("/v1/{}/cloudservers/{rest}", self.project_id);
        let answer = self.send(method, &path, ("x-project-id", self.project_id), body);
        // It reads the request's id of every answer, for its log.
        answer.request_id();
        if taken.contains(&answer.status) { Ok(answer) } else { Err(Unexpected(Box::new(answer))) }
    }

    fn change_member(&self, id: &str, verb: &str, server_id: &str) -> Result<(), Unexpected> {
        let body = json!({ verb: { "instance_uuid": server_id } });
        self.call("POST", &format!("os-server-groups/{id}/action"), Some(&body), &[200, 202]).map(drop)
    }

    /// Creates the group, then adds each member, then reads. What fails after the group is there leaves a tainted
    /// resource, of which the id is known.
    fn create(&self, name: &str, members: &[String]) -> Result<State, (Option<String>, Unexpected)> {
        let body = json!({ "server_group": { "name": name, "policies": ["anti-affinity"] } });
        let created =
            self.call("POST", "os-server-groups", Some(&body), &[200]).map_err(|error| (None, error))?;
        let id = created.json()["server_group"]["id"].as_str().unwrap().to_owned();
        for server_id in members {
            self.change_member(&id, "add_member", server_id).map_err(|error| (Some(id.clone()), error))?;
        }
        let state = self.read(&id).map_err(|error| (Some(id.clone()), error))?;
        Ok(state.expect("a group that was just created is there"))
    }

    /// `None` takes it out of Terraform's state: 404, and nothing else.
    fn read(&self, id: &str) -> Result<Option<State>, Unexpected> {
        let answer = match self.call("GET", &format!("os-server-groups/{id}"), None, &[200]) {
            Err(Unexpected(answer)) if answer.status == 404 => return Ok(None),
            other => other?,
        };
        let group = &answer.json()["server_group"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let texts = |value: &Value| value.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
        Ok(Some(State {
            id: text(&group["id"]),
            name: text(&group["name"]),
            policies: texts(&group["policies"]),
            members: texts(&group["members"]).into_iter().collect(),
            fault_domains: group.get("fault_domain").cloned(),
        }))
    }

    /// Looks at each ECS that is to leave, and takes it out unless it is gone; then adds the new ones, then reads.
    fn update(&self, state: &State, members: &[String]) -> Result<State, Unexpected> {
        let wanted: BTreeSet<String> = members.iter().cloned().collect();
        for server_id in state.members.difference(&wanted) {
            match self.call("GET", server_id, None, &[200, 203]) {
                Err(Unexpected(answer)) if answer.status == 404 => continue,
                Ok(answer) => {
                    let status = &answer.json()["server"]["status"];
                    if *status == "DELETED" || *status == "SOFT_DELETED" {
                        continue;
                    }
                }
                Err(_logged) => {}
            }
            self.change_member(&state.id, "remove_member", server_id)?;
        }
        for server_id in wanted.difference(&state.members) {
            self.change_member(&state.id, "add_member", server_id)?;
        }
        Ok(self.read(&state.id)?.expect("a group that was just changed is there"))
    }

    /// Members are not taken out first.
    fn delete(&self, id: &str) -> Result<(), Unexpected> {
        self.call("DELETE", &format!("os-server-groups/{id}"), None, &[200, 202, 204]).map(drop)
    }

    /// Data source `huaweicloud_compute_servergroups`: one page, without a query; names are looked at here.
    fn groups_named(&self, name: Option<&str>) -> Vec<String> {
        let body = self.call("GET", "os-server-groups", None, &[200]).unwrap().json();
        let groups = body["server_groups"].as_array().unwrap().iter();
        let named = groups.filter(|group| name.is_none_or(|name| group["name"] == name));
        named.map(|group| group["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn set(members: &[String]) -> BTreeSet<String> {
    members.iter().cloned().collect()
}

#[test]
fn a_group_is_created_read_updated_and_deleted_with_its_members() {
    let app = start();
    let provider = Provider::of(&app);
    let created = provider.create("web", &[1, 2, 3].map(ecs)).unwrap();
    let policies = vec!["anti-affinity".to_owned()];
    let expected = State {
        id: created.id.clone(),
        name: "web".to_owned(),
        policies,
        members: set(&[1, 2, 3].map(ecs)),
        fault_domains: None,
    };
    assert_eq!(created, expected);
    assert_eq!(provider.read(&created.id).unwrap(), Some(expected.clone()), "the next plan is empty");

    let updated = provider.update(&created, &[2, 3, 4, 5].map(ecs)).unwrap();
    assert_eq!(updated, State { members: set(&[2, 3, 4, 5].map(ecs)), ..expected.clone() });
    let emptied = provider.update(&updated, &[]).unwrap();
    assert_eq!(emptied, State { members: set(&[]), ..expected.clone() });
    let filled = provider.update(&emptied, &[1].map(ecs)).unwrap();
    assert_eq!(filled, State { members: set(&[1].map(ecs)), ..expected });

    provider.delete(&filled.id).unwrap();
    assert_eq!(provider.read(&filled.id).unwrap(), None);
    assert_eq!(provider.groups_named(None), Vec::<String>::new());

    let records = records(&app.database());
    let done: Vec<_> = records
        .iter()
        .map(|record| {
            assert_eq!(record["outcome"], "done");
            assert_eq!(record["actor"]["user_name"], "terraform");
            assert_eq!(record["actor"]["credential"], "access_key");
            assert_eq!(
                (&record["project_id"], &record["resource"]["id"]),
                (&json!(REGION_1), &json!(created.id))
            );
            record["action"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned()
        })
        .collect();
    let (add, remove) = ("addServerGroupMember", "deleteServerGroupMember");
    let expected = [
        &["createServerGroup", add, add, add][..],
        &[remove, add, add],
        &[remove, remove, remove, remove],
        &[add, "deleteServerGroup"],
    ];
    assert_eq!(done, expected.concat());
}

#[test]
fn a_group_without_members_is_as_good() {
    let app = start();
    let provider = Provider::of(&app);
    let created = provider.create("empty", &[]).unwrap();
    assert_eq!(created.members, set(&[]));
    provider.delete(&created.id).unwrap();
}

#[test]
fn another_name_makes_another_group_that_the_members_move_to() {
    let app = start();
    let provider = Provider::of(&app);
    let old = provider.create("old", &[1, 2].map(ecs)).unwrap();
    provider.delete(&old.id).unwrap();
    let new = provider.create("new", &[1, 2].map(ecs)).unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!((new.name, new.members), ("new".to_owned(), old.members));
}

#[test]
fn members_move_from_group_to_group_when_they_leave_first() {
    let app = start();
    let provider = Provider::of(&app);
    let from = provider.create("from", &[1, 2].map(ecs)).unwrap();
    let to = provider.create("to", &[3].map(ecs)).unwrap();
    // In the wrong order the run fails, and what there was is still there.
    let Err(Unexpected(answer)) = provider.update(&to, &[1, 3].map(ecs)) else {
        panic!("it is in two groups")
    };
    assert!(answer.ecs_error(400, "Ecs.1000").contains(&from.id));
    assert_eq!(provider.read(&from.id).unwrap(), Some(from.clone()));
    assert_eq!(provider.read(&to.id).unwrap(), Some(to.clone()));

    let from = provider.update(&from, &[2].map(ecs)).unwrap();
    let to = provider.update(&to, &[1, 3].map(ecs)).unwrap();
    assert_eq!((from.members, to.members), (set(&[2].map(ecs)), set(&[1, 3].map(ecs))));
}

#[test]
fn a_group_that_somebody_else_deleted_leaves_the_state_and_is_created_again() {
    let app = start();
    let (provider, somebody_else) = (Provider::of(&app), Provider::of(&app));
    let state = provider.create("web", &[1].map(ecs)).unwrap();
    somebody_else.delete(&state.id).unwrap();
    assert_eq!(provider.read(&state.id).unwrap(), None);
    assert_eq!(provider.read("not-even-an-id").unwrap(), None);
    // A delete of what is gone is 404, which the provider takes for deleted.
    let Err(Unexpected(answer)) = provider.delete(&state.id) else { panic!("it is there") };
    answer.ecs_error(404, "Ecs.1000");
    let again = provider.create("web", &[1].map(ecs)).unwrap();
    assert_eq!(again.members, state.members);
}

#[test]
fn a_create_that_fails_half_way_leaves_a_group_that_the_next_run_deletes() {
    let app = start();
    let provider = Provider::of(&app);
    provider.create("first", &[1].map(ecs)).unwrap();
    let Err((Some(id), Unexpected(answer))) = provider.create("second", &[2, 1].map(ecs)) else {
        panic!("an ECS is in two groups")
    };
    answer.ecs_error(400, "Ecs.1000");
    assert_eq!(provider.read(&id).unwrap().unwrap().members, set(&[2].map(ecs)));
    provider.delete(&id).unwrap();

    let Err((Some(id), Unexpected(answer))) = provider.create("too many", &[2, 3, 4, 5, 6].map(ecs)) else {
        panic!("the quota is 4")
    };
    answer.ecs_error(400, "Ecs.0022");
    assert_eq!(provider.read(&id).unwrap().unwrap().members, set(&[2, 3, 4, 5].map(ecs)));
    provider.delete(&id).unwrap();
    provider.create("second", &[2].map(ecs)).unwrap();
}

#[test]
fn an_ecs_that_somebody_else_took_out_is_seen_and_needs_no_removal() {
    let app = start();
    let provider = Provider::of(&app);
    let state = provider.create("web", &[1, 2].map(ecs)).unwrap();
    provider.change_member(&state.id, "remove_member", &ecs(1)).unwrap();
    assert_eq!(provider.read(&state.id).unwrap().unwrap().members, set(&[2].map(ecs)), "drift is shown");
    // With a state of before: the ECS is gone as far as anybody knows, so the provider skips it.
    let updated = provider.update(&state, &[2].map(ecs)).unwrap();
    assert_eq!(updated.members, set(&[2].map(ecs)));
    assert!(records(&app.database()).iter().all(|record| record["outcome"] == "done"));
}

#[test]
fn ten_resources_at_once_do_not_get_into_each_others_way() {
    let app = start();
    let resources: Vec<_> = (0..10).map(|nth| (Provider::of(&app), nth)).collect();
    at_once(&resources, |(provider, nth)| {
        let servers = |from: usize| (from..from + 3).map(|server| ecs(10 * nth + server)).collect::<Vec<_>>();
        let created = provider.create(&format!("group-{nth}"), &servers(0)).unwrap();
        assert_eq!(created.members, set(&servers(0)));
        let updated = provider.update(&created, &servers(2)).unwrap();
        assert_eq!(updated.members, set(&servers(2)));
        assert_eq!(provider.read(&updated.id).unwrap(), Some(updated.clone()), "the next plan is empty");
        assert_eq!(provider.groups_named(Some(&updated.name)), std::slice::from_ref(&updated.id));
        provider.delete(&updated.id).unwrap();
        assert_eq!(provider.read(&updated.id).unwrap(), None);
    });
    assert_eq!(resources[0].0.groups_named(None), Vec::<String>::new());
    assert!(records(&app.database()).iter().all(|record| record["outcome"] == "done"));
}

#[test]
fn what_was_applied_is_still_there_after_a_restart() {
    let app = start();
    let state = Provider::of(&app).create("web", &[1, 2].map(ecs)).unwrap();
    let app = TestApp::start_with_identities_in(app.stop(), &accounts(), |_| {});
    assert_eq!(Provider::of(&app).read(&state.id).unwrap(), Some(state));
}

#[test]
fn the_data_sources_see_the_groups_and_the_quotas() {
    let app = start();
    let provider = Provider::of(&app);
    assert_eq!(provider.groups_named(None), Vec::<String>::new());
    let ids: Vec<_> =
        ["web", "db", "web"].into_iter().map(|name| provider.create(name, &[]).unwrap().id).collect();
    assert_eq!(provider.groups_named(None), ids);
    assert_eq!(provider.groups_named(Some("web")), [&*ids[0], &ids[2]]);
    assert_eq!(provider.groups_named(Some("we")), Vec::<String>::new());

    let quotas = provider.call("GET", "limits", None, &[200]).unwrap().json();
    let absolute = &quotas["absolute"];
    assert_eq!(
        (
            &absolute["maxServerGroups"],
            &absolute["maxServerGroupMembers"],
            &absolute["totalServerGroupsUsed"]
        ),
        (&json!(20), &json!(4), &json!(3))
    );
    // It reads these too, and fails on anything but a whole number.
    for name in [
        "maxImageMeta",
        "maxPersonality",
        "maxPersonalitySize",
        "maxSecurityGroupRules",
        "maxSecurityGroups",
        "maxServerMeta",
        "maxTotalCores",
        "maxTotalFloatingIps",
        "maxTotalInstances",
        "maxTotalKeypairs",
        "maxTotalRAMSize",
        "totalCoresUsed",
        "totalFloatingIpsUsed",
        "totalInstancesUsed",
        "totalRAMUsed",
        "totalSecurityGroupsUsed",
    ] {
        assert!(absolute[name].is_i64(), "{name}: {}", absolute[name]);
    }
}

#[test]
fn the_provider_starts_with_keys_and_the_name_of_a_region() {
    let app = start();
    let provider = Provider::of(&app);
    let iam = |path: &str, scope| {
        let answer = provider.send("GET", path, scope, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    };
    // Before anything is known of the account, there is no header that names it.
    let domains = iam("/v3/auth/domains", ("", ""))["domains"].clone();
    assert_eq!((domains.as_array().unwrap().len(), &domains[0]["id"]), (1, &json!(ACME)));
    assert_eq!((&domains[0]["name"], &domains[0]["enabled"]), (&json!("acme"), &json!(true)));
    for (name, id) in [("region-1", REGION_1), ("region-2", REGION_2)] {
        for path in
            [format!("/v3/projects?name={name}"), format!("/v3/projects?domain_id={ACME}&name={name}")]
        {
            for scope in [("", ""), ("x-domain-id", ACME)] {
                let projects = iam(&path, scope)["projects"].clone();
                assert_eq!(projects.as_array().unwrap().len(), 1, "{projects}");
                assert_eq!((&projects[0]["id"], &projects[0]["name"]), (&json!(id), &json!(name)));
                assert_eq!(projects[0]["domain_id"], ACME);
            }
        }
    }
    assert_eq!(iam("/v3/projects?name=region-3", ("x-domain-id", ACME))["projects"], json!([]));
    // Each region is a project of its own.
    let there = Provider { project_id: REGION_2, ..provider.clone() };
    let state = provider.create("web", &[1].map(ecs)).unwrap();
    assert_eq!(there.groups_named(None), Vec::<String>::new());
    assert_eq!(there.read(&state.id).unwrap(), None);
    there.create("web", &[1].map(ecs)).unwrap();
}

#[test]
fn the_provider_starts_with_a_password() {
    let app = start();
    let region = json!({ "project": { "name": "region-1", "domain": { "name": "acme" } } });
    let account = json!({ "domain": { "name": "acme" } });
    let in_region = log_in(&app.client, "acme", "terraform", PASSWORD, &region);
    let in_account = log_in(&app.client, "acme", "terraform", PASSWORD, &account);
    assert_eq!((in_region.status, in_account.status), (201, 201), "{}", in_region.text);
    assert_eq!(in_region.json()["token"]["project"]["id"], REGION_1);
    assert_eq!(in_account.json()["token"]["domain"]["id"], ACME);
    // It takes the endpoints of services that it was told none for from here.
    let catalog = in_region.json()["token"]["catalog"].clone();
    for (kind, path) in [("ecs", "/v1/"), ("compute", "/v2.1/")] {
        let service = catalog.as_array().unwrap().iter().find(|service| service["type"] == kind).unwrap();
        let url = service["endpoints"][0]["url"].as_str().unwrap();
        assert!(url.ends_with(&format!("{path}{REGION_1}")), "{url}");
    }
    let token = in_region.header("x-subject-token").unwrap().to_owned();
    let provider = Provider { credentials: Credentials::Token(token), ..Provider::of(&app) };
    let state = provider.create("web", &[1, 2].map(ecs)).unwrap();
    let state = provider.update(&state, &[2, 3].map(ecs)).unwrap();
    provider.delete(&state.id).unwrap();
}

#[test]
fn a_wrong_secret_is_401_each_time_it_is_tried() {
    let app = start();
    let credentials = Credentials::Keys { secret_key: "wrong-secret-key-00000000000000000000001" };
    let provider = Provider { credentials, ..Provider::of(&app) };
    // The provider logs in again after the first 401, and gives up after the second.
    for _ in 0..2 {
        let Err((None, Unexpected(answer))) = provider.create("web", &[]) else { panic!("it is known") };
        let message = answer.gateway_error(401, "APIGW.0301");
        assert!(message.contains("verify aksk signature fail"), "{message}");
    }
    assert_eq!(Provider::of(&app).groups_named(None), Vec::<String>::new());
    assert_eq!(records(&app.database()), Vec::<Value>::new());
}
