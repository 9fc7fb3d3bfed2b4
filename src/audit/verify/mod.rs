//! Verifies a log while its records go by, once: every record, the tree over them, and every checkpoint of it.
//!
//! Invariant: nothing here trusts what stands in the log until a checkpoint by a trusted key vouches for it.

mod claim;
mod finding;
mod key;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

pub use self::claim::{Claim, GivenUp, Source};
use self::claim::{Judged, Opened, Verdict};
pub use self::finding::{CheckpointFault, Finding, RecordFault, Since};
use self::key::Keyring;
use crate::access::action::Action;
use crate::audit::event::{Event, Outcome};
use crate::audit::note::VerifyingKey;
use crate::audit::tree::{self, Edge};
use crate::domain::time::Timestamp;

/// How many findings are kept: the first is what matters, and a log that somebody else's stands for has millions.
const FINDINGS_MAX: usize = 20;

/// A record as a database keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'row> {
    /// Its place.
    pub seq: i64,
    /// What is drawn from the bytes.
    pub project_id: Option<&'row [u8]>,
    /// The same.
    pub group_id: Option<&'row [u8]>,
    /// The same.
    pub record_time: i64,
    /// The canonical bytes.
    pub bytes: &'row [u8],
    /// Their leaf.
    pub leaf: &'row [u8],
}

/// A row of `audit_edge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeRow {
    /// 1, since there is one row.
    pub only_row: i64,
    /// How many records there are.
    pub size: i64,
    /// The hashes of the right edge of the tree over them.
    pub hashes: Vec<u8>,
    /// The last record that was sealed and deleted.
    pub sealed_up_to: i64,
    /// The hashes of the edge there.
    pub sealed_hashes: Vec<u8>,
}

/// What a database keeps beside its records.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// The right edge of the tree: one row.
    pub edges: Vec<EdgeRow>,
    /// The records of the newest resets, by project; no bytes for all projects.
    pub resets: Vec<(Vec<u8>, i64)>,
    /// The keys, and from which record on they sign.
    pub keys: Vec<(i64, String)>,
}

/// A loss that was accepted.
#[derive(Clone, Copy, Debug)]
struct Loss {
    seq: u64,
    expected_size: u64,
    found_size: u64,
}

#[derive(Deserialize)]
struct AskedLoss {
    expected_size: u64,
    found_size: u64,
}

#[derive(Deserialize)]
struct AskedSeal {
    last: u64,
    file: String,
    sha256: String,
}

/// A sealed segment that went by.
#[derive(Debug)]
struct Segment {
    place: String,
    sha256: String,
    /// The record in front of it.
    behind: u64,
}

impl Loss {
    /// Whether a checkpoint of this size, which does not fit, is one that was lost.
    const fn gives_up(&self, size: u64) -> bool {
        // Not shorter, but different: whatever does not fit.
        let is_different = self.found_size >= self.expected_size;
        is_different || (size > self.found_size && size <= self.expected_size)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong, by its place in the log; not all of it, when it is much.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub finding_count: u64,
    /// How many records were verified.
    pub record_count: u64,
    /// The first record that was there.
    pub first: Option<u64>,
    /// The last one.
    pub last: u64,
    /// When the first and the last were recorded.
    pub times: Option<(Timestamp, Timestamp)>,
    /// How many checkpoints the log reproduces.
    pub checkpoint_count: u64,
    /// How many are of sizes in front of the first record: their signatures are good.
    pub earlier_checkpoint_count: u64,
    /// Up to which record a checkpoint by a trusted key vouches for the log, and that key.
    pub covered: Option<(u64, VerifyingKey)>,
    /// The checkpoints that an accepted loss gave up.
    pub given_up: Vec<GivenUp>,
}

/// Verifies a log.
#[derive(Debug)]
pub struct Verifier {
    edge: Edge,
    claims: Vec<Judged>,
    /// The claims that the log has not come to, the next one last.
    due: Vec<usize>,
    keys: Keyring,
    /// The last size at which a checkpoint was good.
    good_size: u64,
    /// Something is wrong with the tree itself: what follows from that is not told as well.
    is_broken: bool,
    losses: Vec<Loss>,
    resets: BTreeMap<Vec<u8>, u64>,
    /// The record that the one now is behind.
    record_time: u64,
    is_after_loss: bool,
    /// By their place; what was not signed stands behind what was.
    findings: BTreeMap<(u64, bool, u64), Finding>,
    /// The first and the last of the records that are not here.
    absent: Vec<(u64, u64)>,
    /// What the file of checkpoints beside the database has after the log was read.
    later: Option<BTreeSet<String>>,
    /// The log that a file says it is a part of, and where it says so.
    origins: Vec<(String, String)>,
    /// The segments that went by, by their names.
    segments: BTreeMap<String, Segment>,
    /// The record of each sealing: the segment's name and digest.
    seals: Vec<(u64, String, String)>,
    /// The last record that was sealed, as the records themselves tell.
    sealed_up_to: u64,
    report: Report,
}

impl Verifier {
    /// With the keys that are trusted, and the checkpoints that are to be reproduced; those of one source in the order
    /// in which they were made.
    #[must_use]
    pub fn new(trusted: Vec<VerifyingKey>, claims: Vec<Claim>) -> Self {
        let claims: Vec<Judged> = claims.into_iter().map(Judged::new).collect();
        let mut due: Vec<usize> = (0..claims.len()).filter(|at| claims[*at].checkpoint.is_some()).collect();
        due.sort_by_key(|at| std::cmp::Reverse(claims[*at].size()));
        Self {
            edge: Edge::default(),
            claims,
            due,
            keys: Keyring::new(trusted),
            good_size: 0,
            is_broken: false,
            losses: Vec::new(),
            resets: BTreeMap::new(),
            record_time: 0,
            is_after_loss: false,
            findings: BTreeMap::new(),
            absent: Vec::new(),
            later: None,
            origins: Vec::new(),
            segments: BTreeMap::new(),
            seals: Vec::new(),
            sealed_up_to: 0,
            report: Report::default(),
        }
    }

    /// Goes on behind another edge, since what is in between is not here. `keys` are those that a database says were
    /// put in force, and from which record on.
    pub fn restart(&mut self, edge: Edge, keys: &[(i64, String)]) {
        self.absent.push((self.edge.size() + 1, edge.size()));
        let newest = self.keys.changes().last().map_or(0, |(seq, _)| *seq);
        for (seq, key) in keys {
            match u64::try_from(*seq) {
                Ok(seq) if seq > newest && seq <= edge.size() => self.keys.add_earlier(seq, key),
                _ => {}
            }
        }
        self.edge = edge;
        self.good_size = self.edge.size();
        self.judge_due();
    }

    /// The edge behind what went by.
    #[must_use]
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Takes a finding of somebody else, about the record `at` or what follows it.
    pub fn add(&mut self, at: u64, finding: Finding) {
        self.report.finding_count += 1;
        let is_unsigned = matches!(finding, Finding::Beside { .. } | Finding::State(_));
        self.findings.insert((at, is_unsigned, self.report.finding_count), finding);
        if self.findings.len() > FINDINGS_MAX {
            self.findings.pop_last();
        }
    }

    /// So much more is wrong, which is not told one by one.
    pub const fn add_more(&mut self, count: u64) {
        self.report.finding_count += count;
    }

    /// The next record of a database; what it says, if it says something.
    pub fn row<'row>(&mut self, row: &Row<'row>) -> Option<Event<'row>> {
        let leaf = tree::leaf(row.bytes);
        let Ok(seq) = u64::try_from(row.seq) else {
            let fault = RecordFault::OutOfPlace { expected: self.edge.size() + 1 };
            self.add(0, Finding::Record { seq: row.seq.into(), fault });
            return None;
        };
        if !self.take_place(seq) {
            return None;
        }
        if leaf != row.leaf {
            self.fault(seq, RecordFault::Leaf);
            self.is_broken = true;
        }
        let event = self.bytes(seq, row.bytes);
        if let Some(event) = &event {
            for (column, is_same) in [
                ("project_id", event.project_id().as_ref().map(|id| &id.as_bytes()[..]) == row.project_id),
                ("group_id", event.group_id().as_ref().map(|id| &id.as_bytes()[..]) == row.group_id),
                ("record_time", u64::try_from(row.record_time).is_ok_and(|time| time == event.record_time)),
            ] {
                if !is_same {
                    self.fault(seq, RecordFault::Column { column });
                }
            }
        }
        self.push(leaf);
        event
    }

    /// The next record of a file that has the bytes alone; what they say, if they say something.
    pub fn line<'bytes>(&mut self, bytes: &'bytes [u8]) -> Option<Event<'bytes>> {
        let expected = self.edge.size() + 1;
        let event = match Event::parse(bytes) {
            Ok(event) if event.seq != expected => {
                if !self.take_place(event.seq) {
                    return None;
                }
                self.bytes(event.seq, bytes)
            }
            _ => self.bytes(expected, bytes),
        };
        self.push(tree::leaf(bytes));
        event
    }

    /// Whether a record that says it is `seq` is looked at, at its own place or behind a gap.
    fn take_place(&mut self, seq: u64) -> bool {
        let expected = self.edge.size() + 1;
        if seq > expected {
            self.add(expected, Finding::Missing { first: expected, last: seq - 1, next: seq });
            self.is_broken = true;
            // Nothing can be compared behind the gap; what is still looked at is each record by itself.
            self.edge = Edge::placeholder(seq - 1);
        } else if seq < expected {
            self.fault(seq, RecordFault::OutOfPlace { expected });
            self.is_broken = true;
            return false;
        }
        true
    }

    fn fault(&mut self, seq: u64, fault: RecordFault) {
        self.add(seq, Finding::Record { seq: seq.into(), fault });
    }

    /// What the bytes of record `seq` say, and whether they may say so.
    fn bytes<'bytes>(&mut self, seq: u64, bytes: &'bytes [u8]) -> Option<Event<'bytes>> {
        self.report.record_count += 1;
        self.report.first = self.report.first.or(Some(seq));
        if bytes.contains(&b'\n') {
            self.fault(seq, RecordFault::NotALine);
        }
        let event = match Event::parse(bytes) {
            Ok(event) => event,
            Err(error) => {
                self.fault(seq, error.into());
                return None;
            }
        };
        if event.seq != seq {
            self.fault(seq, RecordFault::Seq { said: event.seq });
        }
        match event.trace_id() {
            None => self.fault(seq, RecordFault::Malformed { field: "trace_id" }),
            Some(id) if id.seq() != seq => self.fault(seq, RecordFault::TraceId { said: id.seq() }),
            Some(_) => {}
        }
        if event.project_id.is_some() && event.project_id().is_none() {
            self.fault(seq, RecordFault::Malformed { field: "project_id" });
        }
        let is_group = event.resource.r#type == "server_group" && event.resource.id.is_some();
        if is_group && event.group_id().is_none() {
            self.fault(seq, RecordFault::Malformed { field: "group's id" });
        }
        if event.record_time < self.record_time {
            self.fault(seq, RecordFault::TimeGoesBack);
        }
        self.record_time = event.record_time;
        let (first, _) = self.report.times.unwrap_or((event.record_time(), event.record_time()));
        self.report.times = Some((first, event.record_time()));
        // What is another record's at this place was followed there, or is to be.
        if event.seq == seq {
            self.follow(&event);
        }
        Some(event)
    }

    /// Keeps what later records and checkpoints are understood by.
    fn follow(&mut self, event: &Event<'_>) {
        let is_after_loss = std::mem::take(&mut self.is_after_loss);
        // All of them are our own.
        if event.outcome != Outcome::Done || !event.action.starts_with("ecs-groupd:") {
            return;
        }
        match Action::named(&event.action) {
            Some(Action::ResetDatabase) => {
                self.resets.insert(Vec::new(), event.seq);
            }
            Some(Action::ResetProject) => {
                if let Some(project_id) = event.project_id() {
                    self.resets.insert(project_id.as_bytes().to_vec(), event.seq);
                }
            }
            Some(Action::ChangeCheckpointKey) => {
                if let Err(fault) = self.keys.follow(event, is_after_loss) {
                    self.fault(event.seq, fault);
                }
            }
            Some(Action::SealSegment) => match serde_json::from_str(event.asked.get()) {
                Ok(AskedSeal { last, file, sha256 }) => {
                    self.sealed_up_to = self.sealed_up_to.max(last);
                    self.seals.push((event.seq, file, sha256));
                }
                Err(_not_asked) => self.fault(event.seq, RecordFault::Malformed { field: "asked" }),
            },
            Some(Action::AcceptAuditLoss) => {
                self.is_after_loss = true;
                match serde_json::from_str(event.asked.get()) {
                    Ok(AskedLoss { expected_size, found_size }) => {
                        self.losses.push(Loss { seq: event.seq, expected_size, found_size });
                    }
                    Err(_not_asked) => self.fault(event.seq, RecordFault::Malformed { field: "asked" }),
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, leaf: tree::Hash) {
        self.edge.push(leaf);
        if self.due.last().is_some_and(|at| self.claims[*at].size() <= Some(self.edge.size())) {
            self.judge_due();
        }
    }

    /// Judges the checkpoints that are of a size up to that of the edge.
    fn judge_due(&mut self) {
        let size = self.edge.size();
        let since = Since { first: self.good_size + 1, last: size };
        let mut opened = Opened::default();
        while let Some(at) = self.due.pop_if(|at| self.claims[*at].size() <= Some(size)) {
            let judged = &mut self.claims[at];
            if self.is_broken || judged.size() < Some(size) {
                judged.look_at(&self.keys, &mut opened);
            } else {
                judged.compare(&self.edge, since, &self.keys, &mut opened);
            }
            if matches!(judged.verdict, Verdict::Good(_)) {
                self.good_size = size;
            }
        }
    }

    /// The edge at this size stands somewhere else, too.
    pub fn expect_edge(&mut self, edge: &Edge, place: &str) {
        if *edge != self.edge && !self.is_broken {
            let at = self.edge.size();
            let what = format!("its hashes are not those of the tree over the records up to {at}");
            self.add(at, Finding::beside(place, what));
        }
    }

    /// The first and the last record of each part that is not here.
    #[must_use]
    pub fn absent(&self) -> &[(u64, u64)] {
        &self.absent
    }

    /// What the file of checkpoints beside the database has, read once more after the log.
    pub fn expect_beside(&mut self, later: BTreeSet<String>) {
        self.later = Some(later);
    }

    /// A file says which log it is a part of.
    pub fn expect_origin(&mut self, origin: &str, place: &str) {
        self.origins.push((origin.to_owned(), place.to_owned()));
    }

    /// A sealed segment of this name went by, behind that record, and this is its SHA-256.
    pub fn expect_segment(&mut self, name: &str, place: &str, behind: u64, digest: &[u8]) {
        let sha256 = base16ct::lower::encode_string(digest);
        let segment = Segment { place: place.to_owned(), sha256, behind };
        self.segments.insert(name.to_owned(), segment);
    }

    /// How much is wrong so far.
    #[must_use]
    pub const fn finding_count(&self) -> u64 {
        self.report.finding_count
    }
}
