//! Makes audit logs, good ones and bad ones, without a service: the records, the tree, the checkpoints and the tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ecs_groupd::audit::checkpoint::Checkpoint;
use ecs_groupd::audit::note::SigningKey;
use ecs_groupd::audit::record::TraceId;
use ecs_groupd::audit::segment::SegmentWriter;
use ecs_groupd::audit::tree::{self, Edge};
use ecs_groupd::ops::audit::Keys;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{NOW, write_secret};

pub const PROJECT: &str = "11111111111111111111111111111111";
const USER: &str = "33333333333333333333333333333333";
/// What an operator's or the service's own action stands under.
const OPERATOR: &str = r#"{"type":"operator"}"#;
/// A record as a database keeps it.
#[derive(Clone)]
pub struct Row {
    pub seq: u64,
    pub project_id: Option<String>,
    pub group_id: Option<String>,
    pub record_time: u64,
    pub bytes: Vec<u8>,
    pub leaf: tree::Hash,
}

#[derive(Clone)]
pub struct StoredCheckpoint {
    pub size: u64,
    pub hashes: Vec<u8>,
    pub note: String,
}

/// A log that grows as a service's would. Everything in it can be changed before it is written.
#[derive(Clone)]
pub struct LogBuilder {
    pub key: SigningKey,
    pub edge: Edge,
    pub rows: Vec<Row>,
    pub checkpoints: Vec<StoredCheckpoint>,
    /// The lines of the file beside the database.
    pub lines: Vec<String>,
    pub keys: Vec<(u64, String)>,
    pub resets: BTreeMap<String, u64>,
    pub groups: BTreeMap<String, String>,
    /// The group of each member.
    pub members: BTreeMap<String, String>,
    pub servers: BTreeMap<String, String>,
    /// The records up to here are deleted when the database is written.
    pub sealed: Edge,
    pub group_number: u64,
}

pub fn key(number: u8) -> SigningKey {
    SigningKey::new("ecs-groupd/test", [number; 32]).unwrap()
}

/// The key beside a database.
pub fn keys_of(database: &Path) -> Keys {
    let mut file = database.as_os_str().to_owned();
    file.push(".key");
    Keys::Of(file.into())
}

/// What the file of a sealed segment is called.
pub fn segment_name(first: u64, last: u64) -> String {
    format!("{first:020}-{last:020}.ndjson")
}

pub fn server_id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// Makes the tables, as the program does.
fn migrate(conn: &Connection) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        conn.execute_batch(&std::fs::read_to_string(file).unwrap()).unwrap();
    }
}

fn at(seq: u64) -> usize {
    seq.try_into().unwrap()
}

fn signed(number: u64) -> i64 {
    number.try_into().unwrap()
}

fn hex(id: &str) -> String {
    id.replace('-', "")
}

/// What is signed when a key takes another's place.
pub fn key_change(old: &str, new: &str) -> String {
    format!("ecs-groupd checkpoint key\n{old}\n{new}\n")
}

/// `text`, signed by each of `keys`.
pub fn agree(text: &str, keys: &[&SigningKey]) -> String {
    let (first, others) = keys.split_first().unwrap();
    others.iter().fold(first.sign(text), |note, key| key.cosign(text, &note))
}

impl LogBuilder {
    /// With its first record, which names the key.
    pub fn new() -> Self {
        Self::with_key(key(1))
    }

    /// The same, with another key.
    pub fn with_key(key: SigningKey) -> Self {
        let mut log = Self {
            key,
            edge: Edge::default(),
            rows: Vec::new(),
            checkpoints: Vec::new(),
            lines: Vec::new(),
            keys: Vec::new(),
            resets: BTreeMap::new(),
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            servers: BTreeMap::new(),
            sealed: Edge::default(),
            group_number: 0,
        };
        let new = log.key.verifying_key().to_string();
        log.change_key(&json!({ "old": null, "new": new, "signed": null }), new);
        log
    }

    pub fn last(&self) -> u64 {
        self.edge.size()
    }

    pub fn trace_id(&self, seq: u64) -> String {
        let record: Value = serde_json::from_slice(&self.rows[at(seq) - 1].bytes).unwrap();
        record["trace_id"].as_str().unwrap().to_owned()
    }

    /// Appends any bytes as a record, with the columns that go with them.
    pub fn append(
        &mut self,
        project_id: Option<&str>,
        group_id: Option<&str>,
        record_time: u64,
        bytes: Vec<u8>,
    ) {
        let leaf = tree::leaf(&bytes);
        self.edge.push(leaf);
        self.rows.push(Row {
            seq: self.edge.size(),
            project_id: project_id.map(str::to_owned),
            group_id: group_id.map(hex),
            record_time,
            bytes,
            leaf,
        });
    }

    fn record(
        &mut self,
        actor: &str,
        action: &str,
        project_id: Option<&str>,
        resource: (&str, Option<&str>, Option<&str>),
        asked: &str,
        outcome: &str,
    ) -> u64 {
        let seq = self.edge.size() + 1;
        let trace_id = TraceId::new(seq, u128::from(seq) * 0x9e37_79b9_7f4a_7c15_f39c);
        let time = NOW.as_millis() + seq * 10;
        let (kind, id, name) = resource;
        let (project, id_text, name) = (json!(project_id), json!(id), json!(name));
        let (source_ip, door) =
            if actor == OPERATOR { ("null", "service") } else { (r#""198.51.100.7""#, "v1") };
        let reason = if outcome == "refused" {
            r#"{"name":"group_not_found","message":"no ECS group \u2026 in this project"}"#
        } else {
            "null"
        };
        let bytes = format!(
            r#"{{"v":1,"seq":{seq},"trace_id":"{trace_id}","time":{time},"record_time":{time},"request_id":"{seq:032x}","source_ip":{source_ip},"door":"{door}","actor":{actor},"action":"{action}","project_id":{project},"resource":{{"type":"{kind}","id":{id_text},"name":{name}}},"asked":{asked},"outcome":"{outcome}","reason":{reason}}}"#
        );
        let group_id = id.filter(|_| kind == "server_group");
        self.append(project_id, group_id, time, bytes.into_bytes());
        seq
    }

    fn by_user(
        &mut self,
        action: &str,
        id: Option<&str>,
        name: Option<&str>,
        asked: &str,
        outcome: &str,
    ) -> u64 {
        let actor = format!(
            r#"{{"type":"user","user_id":"{USER}","user_name":"alice","domain_id":"55555555555555555555555555555555","domain_name":"acct1","is_root":true,"credential":"token"}}"#
        );
        let action = format!("ecs:cloudServers:{action}");
        self.record(&actor, &action, Some(PROJECT), ("server_group", id, name), asked, outcome)
    }

    fn by_operator(&mut self, action: &str, project_id: Option<&str>, kind: &str, asked: &str) -> u64 {
        let action = format!("ecs-groupd:{action}");
        self.record(OPERATOR, &action, project_id, (kind, None, None), asked, "done")
    }

    pub fn create(&mut self, name: &str) -> String {
        self.group_number += 1;
        let id = format!("019b7c5a-0000-7000-8000-{:012x}", self.group_number);
        let asked = json!({ "name": name, "placement_rule": "anti-affinity" }).to_string();
        self.by_user("createServerGroup", Some(&id), Some(name), &asked, "done");
        self.groups.insert(id.clone(), name.to_owned());
        id
    }

    pub fn delete(&mut self, id: &str) {
        let asked = json!({ "group_id": id }).to_string();
        self.by_user("deleteServerGroup", Some(id), Some("x"), &asked, "done");
        self.groups.remove(id);
        self.members.retain(|_, group| group != id);
    }

    pub fn refuse(&mut self, id: &str) {
        let asked = json!({ "group_id": id }).to_string();
        self.by_user("deleteServerGroup", Some(id), None, &asked, "refused");
    }

    pub fn add(&mut self, id: &str, server_id: &str) {
        let asked = json!({ "group_id": id, "server_id": server_id }).to_string();
        self.by_user("addServerGroupMember", Some(id), Some("x"), &asked, "done");
        self.members.insert(server_id.to_owned(), id.to_owned());
    }

    pub fn remove(&mut self, id: &str, server_id: &str) {
        let asked = json!({ "group_id": id, "server_id": server_id }).to_string();
        self.by_user("deleteServerGroupMember", Some(id), Some("x"), &asked, "done");
        self.members.remove(server_id);
    }

    pub fn register(&mut self, server_id: &str, name: &str) {
        let asked = json!({ "server_id": server_id, "name": name, "status": "ACTIVE", "host": null });
        self.by_operator("inventory:register", Some(PROJECT), "server", &asked.to_string());
        self.servers.insert(server_id.to_owned(), name.to_owned());
    }

    pub fn unregister(&mut self, server_id: &str) {
        let asked = json!({ "server_id": server_id }).to_string();
        self.by_operator("inventory:unregister", Some(PROJECT), "server", &asked);
        self.servers.remove(server_id);
        self.members.remove(server_id);
    }

    pub fn reset(&mut self, project_id: Option<&str>) {
        let seq = match project_id {
            Some(_) => self.by_operator("project:reset", project_id, "project", r#"{"scope":"project"}"#),
            None => self.by_operator("database:reset", None, "database", r#"{"scope":"database"}"#),
        };
        self.resets.insert(project_id.unwrap_or_default().to_owned(), seq);
        if project_id.is_none_or(|project_id| project_id == PROJECT) {
            (self.groups, self.members, self.servers) = Default::default();
        }
    }

    /// Another key signs from now on; both agree.
    pub fn rotate(&mut self, new: SigningKey) {
        let (old, vkey) = (self.key.verifying_key().to_string(), new.verifying_key().to_string());
        let signed = agree(&key_change(&old, &vkey), &[&self.key, &new]);
        self.change_key(&json!({ "old": old, "new": vkey, "signed": signed }), vkey);
        self.key = new;
    }

    /// Another key signs from now on; nobody agreed, since the old one is lost.
    pub fn replace_key(&mut self, new: SigningKey) {
        let (old, vkey) = (self.key.verifying_key().to_string(), new.verifying_key().to_string());
        self.change_key(&json!({ "old": old, "new": vkey, "signed": null }), vkey);
        self.key = new;
    }

    pub fn change_key(&mut self, asked: &Value, new: String) {
        let seq = self.by_operator("audit:changeKey", None, "audit_log", &asked.to_string());
        self.keys.push((seq, new));
    }

    pub fn accept_loss(&mut self, expected_size: u64, found_size: u64) {
        let asked =
            json!({ "reason": "it is shorter", "expected_size": expected_size, "found_size": found_size });
        self.by_operator("audit:acceptLoss", None, "audit_log", &asked.to_string());
    }

    /// Signs the log as it is.
    pub fn checkpoint(&mut self) {
        let (size, root) = (self.edge.size(), self.edge.root());
        let note = Checkpoint { origin: "ecs-groupd/test".to_owned(), size, root }.sign(&self.key);
        self.lines.push(note.clone());
        self.checkpoints.push(StoredCheckpoint { size, hashes: self.edge.to_bytes(), note });
    }

    /// The log with only its first records and the checkpoints of them, as a backup from then has it; what stands
    /// beside the database stays.
    pub fn cut_to(&mut self, size: u64) {
        self.rows.truncate(at(size));
        self.checkpoints.retain(|checkpoint| checkpoint.size <= size);
        self.keys.retain(|(seq, _)| *seq <= size);
        self.resets.retain(|_, seq| *seq <= size);
        self.edge = Edge::default();
        self.rows.iter().for_each(|row| self.edge.push(row.leaf));
    }

    /// Seals the records up to `size`, as a record tells.
    pub fn seal(&mut self, size: u64) {
        let asked = json!({ "first": 1, "last": size, "file": "elsewhere", "sha256": "00" });
        self.by_operator("audit:sealSegment", None, "audit_log", &asked.to_string());
        self.seal_untold(size);
    }

    /// Seals the records from `first` to `last`, as a record tells: the name of the file, and what is in it.
    pub fn seal_into(&mut self, first: u64, last: u64) -> (String, Vec<u8>) {
        let (file, bytes) = (segment_name(first, last), self.segment(first, last));
        let sha256 = base16ct::lower::encode_string(&Sha256::digest(&bytes));
        let asked = json!({ "first": first, "last": last, "file": file, "sha256": sha256 });
        self.by_operator("audit:sealSegment", None, "audit_log", &asked.to_string());
        self.seal_untold(last);
        (file, bytes)
    }

    /// Marks the records up to `size` as sealed.
    pub fn seal_untold(&mut self, size: u64) {
        self.sealed = Edge::default();
        self.rows[..at(size)].iter().for_each(|row| self.sealed.push(row.leaf));
    }

    /// Records `first` to `last` as a sealed segment.
    pub fn segment(&self, first: u64, last: u64) -> Vec<u8> {
        self.part(first, last, first)
    }

    /// The same, with the checkpoints of a size from `from_size` on.
    fn part(&self, first: u64, last: u64, from_size: u64) -> Vec<u8> {
        let mut edge = Edge::default();
        self.rows[..at(first) - 1].iter().for_each(|row| edge.push(row.leaf));
        let mut writer = SegmentWriter::begin(Vec::new(), "ecs-groupd/test", edge).unwrap();
        for row in &self.rows[at(first) - 1..at(last)] {
            writer.push(&row.bytes, row.leaf).unwrap();
        }
        let is_in_it = |checkpoint: &&StoredCheckpoint| (from_size..=last).contains(&checkpoint.size);
        let notes = self.checkpoints.iter().filter(is_in_it).map(|checkpoint| checkpoint.note.clone());
        writer.finish(notes.collect()).unwrap()
    }

    pub fn export(&self) -> Vec<u8> {
        self.part(self.sealed.size() + 1, self.last(), self.sealed.size())
    }

    /// The database in `folder`, with its key and the file of checkpoints.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let database = folder.join("log.db");
        self.write_tables(&Connection::open(&database).unwrap());
        write_secret(&folder.join("log.db.key"), &format!("{}\n", self.key.to_secret_text()));
        let line = |note: &String| format!("{}\n", json!(note));
        std::fs::write(folder.join("log.db.checkpoints"), self.lines.iter().map(line).collect::<String>())
            .unwrap();
        database
    }

    fn write_tables(&self, conn: &Connection) {
        migrate(conn);
        conn.execute_batch("pragma journal_mode = wal; begin").unwrap();
        let first = at(self.sealed.size());
        for row in &self.rows[first..] {
            conn.execute(
                "insert into audit_record (seq, project_id, group_id, record_time, bytes, leaf)
                 values (?, unhex(?), unhex(?), ?, ?, ?)",
                params![
                    signed(row.seq),
                    row.project_id,
                    row.group_id,
                    signed(row.record_time),
                    row.bytes,
                    row.leaf
                ],
            )
            .unwrap();
        }
        conn.execute(
            "update audit_edge set size = ?, hashes = ?, sealed_up_to = ?, sealed_hashes = ?",
            params![
                signed(self.edge.size()),
                self.edge.to_bytes(),
                signed(self.sealed.size()),
                self.sealed.to_bytes()
            ],
        )
        .unwrap();
        for (number, StoredCheckpoint { size, hashes, note }) in (1..).zip(&self.checkpoints) {
            let insert =
                "insert into audit_checkpoint (checkpoint_id, size, hashes, note) values (?, ?, ?, ?)";
            conn.execute(insert, params![number, signed(*size), hashes, note]).unwrap();
        }
        for (seq, key) in &self.keys {
            conn.execute("insert into audit_key (seq, key) values (?, ?)", params![signed(*seq), key])
                .unwrap();
        }
        for (project_id, seq) in &self.resets {
            let insert = "insert into reset (project_id, seq) values (unhex(?), ?)";
            conn.execute(insert, params![project_id, signed(*seq)]).unwrap();
        }
        self.write_state(conn);
        conn.execute_batch("commit").unwrap();
    }

    fn write_state(&self, conn: &Connection) {
        for (id, name) in &self.groups {
            conn.execute(
                "insert into server_group (project_id, group_id, name, placement_rule, created_by)
                 values (unhex(?), unhex(?), ?, 'anti-affinity', unhex(?))",
                params![PROJECT, hex(id), name, USER],
            )
            .unwrap();
        }
        for (server_id, group_id) in &self.members {
            let insert =
                "insert into member (project_id, group_id, server_id) values (unhex(?), unhex(?), unhex(?))";
            conn.execute(insert, params![PROJECT, hex(group_id), hex(server_id)]).unwrap();
        }
        for (server_id, name) in &self.servers {
            let insert = "insert into server (project_id, server_id, name, status) values (unhex(?), unhex(?), ?, 'ACTIVE')";
            conn.execute(insert, params![PROJECT, hex(server_id), name]).unwrap();
        }
        let insert = "insert into project (project_id, group_count, newest_group_id) values (unhex(?), ?, zeroblob(16))";
        conn.execute(insert, params![PROJECT, signed(self.groups.len() as u64)]).unwrap();
    }
}

/// A log with something of everything: three checkpoints, one change of key, a reset, and records behind the last
/// checkpoint.
pub fn sample() -> LogBuilder {
    let mut log = LogBuilder::new();
    let ids: Vec<String> = (2..=9).map(|number| log.create(&format!("web {number}"))).collect();
    log.checkpoint();
    log.add(&ids[0], &server_id(1));
    log.add(&ids[0], &server_id(2));
    log.add(&ids[1], &server_id(3));
    log.refuse("019b7c5a-0000-7000-8000-ffffffffffff");
    log.rotate(key(2));
    log.register(&server_id(1), "vm \u{e9}");
    log.register(&server_id(4), "vm \"4\"");
    log.checkpoint();
    log.remove(&ids[0], &server_id(2));
    log.delete(&ids[1]);
    log.unregister(&server_id(4));
    log.reset(Some("22222222222222222222222222222222"));
    log.create("late");
    log.checkpoint();
    log.create("later");
    log.create("latest");
    log
}
