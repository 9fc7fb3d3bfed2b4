//! The audit log listed, with ten thousand records and with ten million.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ecs_groupd::access::action::Action;
use ecs_groupd::access::policy::{self, Permit};
use ecs_groupd::access::principal::{Origin, Principal, Project};
use ecs_groupd::audit::checkpoint::Checkpoint;
use ecs_groupd::audit::encode;
use ecs_groupd::audit::note::SigningKey;
use ecs_groupd::audit::record::{Place, Record, TraceId};
use ecs_groupd::audit::tree::{self, Edge};
use ecs_groupd::clock::{Clock, Ids};
use ecs_groupd::domain::command::{Change, Command};
use ecs_groupd::domain::group::{GroupName, PlacementRule, ServerGroup};
use ecs_groupd::domain::id::{GroupId, ProjectId, ServerId};
use ecs_groupd::domain::refusal::Refusal;
use ecs_groupd::domain::rules::Quota;
use ecs_groupd::domain::server::{Server, ServerName, ServerStatus};
use ecs_groupd::domain::time::Timestamp;
use ecs_groupd::identities::Identities;
use ecs_groupd::identities::dev::DevSecrets;
use ecs_groupd::identities::password::{Cost, Hashed};

use crate::contender::{Contender, Running};
use crate::{Error, apply_all, beside, median};

/// The project that nearly all records are of.
const BUSY: ProjectId = ProjectId::from_bytes([0xb0; 16]);
/// The one that had some at the beginning, and none since.
const QUIET: ProjectId = ProjectId::from_bytes([0x90; 16]);
/// How many that are: two for each of its groups.
const QUIET_RECORDS: u64 = 100;
/// The time between two records: a minute has 600 of them, however long the log.
const EVERY_MS: u64 = 100;
const PASSWORD: &str = "the benchmark's own";
/// How much slower the longer log may be.
const RATIO_MAX: f64 = 3.0;

/// A log of `count` records, the newest of which is of now.
pub struct Log {
    count: u64,
    begins_at: Timestamp,
    ids: u128,
    /// How many records the product itself wrote in front of them.
    offset: u64,
}

impl Log {
    /// Writes the log into a new database, as the product would have, but for the commits.
    pub fn write(database: &Path, count: u64) -> Result<Self, Error> {
        let now = Clock::System.now().as_millis();
        let begins_at = Timestamp::from_millis(now - count * EVERY_MS);
        let mut log = Self { count, begins_at, ids: Ids::random()?.bits(), offset: 0 };
        // No command: the product makes the file, its tables and its key, which is what its first records tell of.
        let clock = Clock::fixed(begins_at);
        apply_all(database, clock, Action::CreateServerGroup, 0, |_, _| Command::ResetDatabase)?;
        let key: SigningKey = std::fs::read_to_string(beside(database, ".key"))?.trim().parse()?;
        let mut conn = rusqlite::Connection::open(database)?;
        conn.execute_batch(
            "pragma journal_mode = delete; pragma journal_mode = off; pragma synchronous = off; \
             pragma locking_mode = exclusive; pragma cache_size = -262144;",
        )?;
        let transaction = conn.transaction()?;
        let (size, hashes) = transaction.query_row("select size, hashes from audit_edge", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        log.offset = size.cast_unsigned();
        let mut edge = Edge::from_parts(log.offset, &hashes)?;
        let writer = Writer::new()?;
        {
            let mut insert = transaction.prepare(
                "insert into audit_record (seq, project_id, group_id, record_time, bytes, leaf) \
                 values (?, ?, ?, ?, ?, ?)",
            )?;
            for nth in 1..=count {
                let place = log.place(nth);
                let (project_id, group_id, bytes) = writer.record(nth, place)?;
                let leaf = tree::leaf(&bytes);
                edge.push(leaf);
                insert.execute((
                    place.seq.cast_signed(),
                    &project_id.as_bytes()[..],
                    group_id.as_ref().map(|id| &id.as_bytes()[..]),
                    place.record_time.as_millis().cast_signed(),
                    bytes,
                    &leaf[..],
                ))?;
            }
        }
        let size = edge.size().cast_signed();
        transaction.execute("update audit_edge set size = ?, hashes = ?", (size, edge.to_bytes()))?;
        // Signed, or the next start would look through all of it.
        let origin = key.verifying_key().name().to_owned();
        let note = Checkpoint { origin, size: edge.size(), root: edge.root() }.sign(&key);
        transaction.execute(
            "insert into audit_checkpoint (size, hashes, note) values (?, ?, ?)",
            (size, edge.to_bytes(), &note),
        )?;
        transaction.commit()?;
        let mut file = std::fs::OpenOptions::new().append(true).open(beside(database, ".checkpoints"))?;
        writeln!(file, "{}", serde_json::to_string(&note)?)?;
        Ok(log)
    }

    fn time(&self, nth: u64) -> Timestamp {
        self.begins_at.plus_millis(nth * EVERY_MS)
    }

    fn place(&self, nth: u64) -> Place {
        let (seq, time) = (self.offset + nth, self.time(nth));
        let random = self.ids.wrapping_mul(u128::from(seq) | 1);
        Place { seq, trace_id: TraceId::new(seq, random), time, record_time: time }
    }

    /// What is asked for, and of which project.
    fn queries(&self) -> [(&'static str, ProjectId, String); 6] {
        // The one that makes a group of its own, and what all of the log is.
        let middle = self.count / 2 / 4 * 4 + QUIET_RECORDS % 4 + 1;
        let group_id = group_of(middle);
        let at = self.time(middle).as_millis();
        let all = format!("from=0&to={}", Timestamp::MAX.as_millis());
        [
            ("no filter", BUSY, String::new()),
            ("no filter, all of a quiet project", QUIET, format!("?{all}")),
            ("trace_id", BUSY, format!("?trace_id={}", self.place(middle).trace_id)),
            ("a minute in the middle", BUSY, format!("?from={at}&to={}", at + 60_000)),
            ("resource_id of two records", BUSY, format!("?resource_id={group_id}&{all}")),
            ("the same, of a quiet project", QUIET, format!("?resource_id={}&{all}", group_of(1))),
        ]
    }
}

/// The group that a record is about, if it is about one.
fn group_of(nth: u64) -> GroupId {
    // Made in one, deleted two later; an ECS stands in between. Of the quiet project there are only groups.
    let number =
        if nth <= QUIET_RECORDS { nth.div_ceil(2) } else { QUIET_RECORDS + (nth - QUIET_RECORDS - 1) / 4 };
    let version_7 = (u128::from(number) << 80) | (0x7 << 76) | (0x8 << 60) | u128::from(number);
    GroupId::from_bytes(version_7.to_be_bytes())
}

/// Who is recorded, and what for.
struct Writer {
    busy: [Permit; 2],
    quiet: [Permit; 2],
    operator: Permit,
    name: GroupName,
    server: Server,
    user: Principal,
}

impl Writer {
    fn new() -> Result<Self, Error> {
        let origin = Origin { request_id: Ids::random()?.request_id(), source_ip: None, door: "v1" };
        let dev = Identities::dev(&DevSecrets::well_known(), true)?.anonymous().ok_or("nobody")?;
        let permits = |project_id| -> Result<[Permit; 2], Error> {
            let domain_id = dev.user.domain.domain_id;
            let project = Project {
                project_id,
                name: "of-the-benchmark".to_owned(),
                domain_id,
                quota: Quota::default(),
            };
            let user = Principal { project: Some(Arc::new(project)), ..dev.clone() };
            let permit = |action| {
                policy::permit(&user, origin, action, Some(project_id), Timestamp::default())
                    .map_err(|denied| format!("{denied:?}"))
            };
            Ok([permit(Action::CreateServerGroup)?, permit(Action::DeleteServerGroup)?])
        };
        Ok(Self {
            busy: permits(BUSY)?,
            quiet: permits(QUIET)?,
            operator: policy::permit_inventory(origin, Action::RegisterServer, BUSY)
                .map_err(|action| format!("{action:?}"))?,
            name: GroupName::try_from("web".to_owned())?,
            server: Server {
                server_id: ServerId::from_bytes([0x5e; 16]),
                name: ServerName::try_from("vm".to_owned())?,
                status: ServerStatus::Active,
                host: None,
            },
            user: dev.clone(),
        })
    }

    /// A record's project, group and bytes.
    fn record(&self, nth: u64, place: Place) -> Result<(ProjectId, Option<GroupId>, Vec<u8>), Error> {
        let group_id = group_of(nth);
        let is_quiet = nth <= QUIET_RECORDS;
        let (project_id, [create, delete]) = if is_quiet { (QUIET, &self.quiet) } else { (BUSY, &self.busy) };
        let (turn, turns) = (nth - 1, if is_quiet { 2 } else { 4 });
        match turn % turns {
            0 => {
                let group = ServerGroup {
                    group_id,
                    name: self.name.clone(),
                    placement_rule: PlacementRule::AntiAffinity,
                    created_by: self.user.user.user_id,
                    members: Vec::new(),
                };
                let command = Command::CreateGroup {
                    project_id,
                    name: self.name.clone(),
                    placement_rule: group.placement_rule,
                    created_by: group.created_by,
                };
                let made = Ok(Change::GroupCreated { project_id, group });
                Ok((project_id, Some(group_id), bytes(place, create, &command, &made)?))
            }
            turn if turn == turns / 2 => {
                let command = Command::DeleteGroup { project_id, group_id };
                let deleted = Ok(Change::GroupDeleted { project_id, group_id, name: self.name.clone() });
                Ok((project_id, Some(group_id), bytes(place, delete, &command, &deleted)?))
            }
            _ => {
                let command = Command::RegisterServer { project_id, server: self.server.clone() };
                let registered = Ok(Change::ServerRegistered { project_id, server: self.server.clone() });
                Ok((project_id, None, bytes(place, &self.operator, &command, &registered)?))
            }
        }
    }
}

fn bytes(
    place: Place,
    permit: &Permit,
    command: &Command,
    decision: &Result<Change, Refusal>,
) -> Result<Vec<u8>, Error> {
    Ok(encode::encode(&Record::decided(place, permit, command, decision))?)
}

/// One service on such a log, and who asks it.
struct Service {
    log: Log,
    running: Running,
    agent: ureq::Agent,
    tokens: [(ProjectId, String); 2],
}

impl Service {
    fn start(database: &Path, count: u64) -> Result<Self, Error> {
        let begun = Instant::now();
        let log = Log::write(database, count)?;
        let bytes = std::fs::metadata(database)?.len();
        println!(
            "  wrote {count} records in {:.0} s: {:.1} GB",
            begun.elapsed().as_secs_f64(),
            bytes as f64 / 1e9
        );
        accounts(&database.with_extension("identities"))?;
        let running = Running::start(Contender::ProductWithAccounts, database)?;
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let token = |project_id| log_in(&agent, &running, project_id);
        let tokens = [(BUSY, token(BUSY)?), (QUIET, token(QUIET)?)];
        Ok(Self { log, running, agent, tokens })
    }

    /// Asks once: the status, the answer, and how long it took in milliseconds.
    fn ask(&self, project_id: ProjectId, query: &str) -> Result<(u16, String, f64), Error> {
        let token = self.tokens.iter().find(|(of, _)| *of == project_id).map_or("", |(_, token)| token);
        let url = format!("http://{}/v3/{project_id}/traces{query}", self.running.address);
        let begun = Instant::now();
        let mut answer = self.agent.get(url).header("x-auth-token", token).call()?;
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), text, begun.elapsed().as_secs_f64() * 1000.0))
    }
}

/// Two projects of one account.
fn accounts(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let hash = Hashed::with_salt(PASSWORD, Cost::Nominal, [7; 16])?;
    let text = format!(
        "[[domain]]\nname = 'acme'\n[domain.root]\npassword_hash = '{}'\n\
         [[domain.project]]\nname = 'busy'\nid = '{BUSY}'\n[[domain.project]]\nname = 'quiet'\nid = '{QUIET}'\n",
        hash.as_str()
    );
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn log_in(agent: &ureq::Agent, running: &Running, project_id: ProjectId) -> Result<String, Error> {
    let user = serde_json::json!({ "name": "acme", "password": PASSWORD, "domain": { "name": "acme" } });
    let identity = serde_json::json!({ "methods": ["password"], "password": { "user": user } });
    let scope = serde_json::json!({ "project": { "id": project_id.to_string() } });
    let body = serde_json::json!({ "auth": { "identity": identity, "scope": scope } });
    let url = format!("http://{}/v3/auth/tokens", running.address);
    let answer = agent.post(url).header("content-type", "application/json").send(body.to_string())?;
    let token = answer.headers().get("x-subject-token").ok_or("no token")?;
    Ok(token.to_str()?.to_owned())
}

/// The same queries on both logs, in turn.
pub fn compare(small: &Path, large: &Path, times: u32) -> Result<(), Error> {
    let (small, large) = (Service::start(small, 10_000)?, Service::start(large, 10_000_000)?);
    println!("\n{:<36} {:>10} {:>11} {:>7}", "listing of 10 traces, ms", "10,000", "10,000,000", "ratio");
    for ((name, project_id, of_small), (_, _, of_large)) in
        small.log.queries().into_iter().zip(large.log.queries())
    {
        let (mut at_small, mut at_large) = (vec![], vec![]);
        for _ in 0..times {
            for (service, query, taken) in
                [(&small, &of_small, &mut at_small), (&large, &of_large, &mut at_large)]
            {
                let (status, text, millis) = service.ask(project_id, query)?;
                let count = text.matches("\"trace_id\"").count();
                let expected = match name {
                    "trace_id" => 1,
                    "resource_id of two records" | "the same, of a quiet project" => 2,
                    _ => 10,
                };
                if (status, count) != (200, expected) {
                    return Err(format!("{name}: {status} with {count} traces: {text}").into());
                }
                taken.push(millis);
            }
        }
        let (at_small, at_large) = (median(&at_small), median(&at_large));
        let ratio = at_large / at_small;
        let verdict = if ratio <= RATIO_MAX { "" } else { "  TOO MUCH" };
        println!("{name:<36} {at_small:>10.2} {at_large:>11.2} {ratio:>6.2}x{verdict}");
    }
    println!("{:<36} {:>10} {:>11} {RATIO_MAX:>6.2}x", "bound", "", "");
    let everything = format!("?user=nobody&from=0&to={}", Timestamp::MAX.as_millis());
    for service in [&small, &large] {
        let (status, text, millis) = service.ask(BUSY, &everything)?;
        println!(
            "a filter that nothing meets, of {} records: {status} after {millis:.0} ms  {text}",
            service.log.count
        );
    }
    println!();
    small.running.stop()?;
    large.running.stop()
}
