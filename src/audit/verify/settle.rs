//! The end of a log: what stands beside it is compared, and each checkpoint is settled.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{self, Judged, Opened, Source, Verdict};
use super::finding::{CheckpointFault, Finding};
use super::{Beside, EdgeRow, Report, Verifier};
use crate::audit::note::VerifyingKey;
use crate::domain::id::ProjectId;

impl Verifier {
    /// Ends: what a database keeps beside its records is compared, and each checkpoint is settled.
    #[must_use]
    pub fn finish(mut self, beside: Option<&Beside>) -> Report {
        let last = self.edge.size();
        let mut opened = Opened::default();
        for at in std::mem::take(&mut self.due) {
            if self.is_broken {
                self.claims[at].look_at(&self.keys, &mut opened);
            } else {
                self.claims[at].end(last, &self.keys, &mut opened);
            }
        }
        self.keys.settle();
        for judged in &mut self.claims {
            judged.judge_again(&self.keys, &mut opened);
        }
        if let Some(beside) = beside {
            self.compare_edge(&beside.edges);
            self.compare_sealed(&beside.edges);
            self.compare_resets(&beside.resets);
            self.compare_keys(&beside.keys);
        }
        let claims = std::mem::take(&mut self.claims);
        let mut changed_since = BTreeSet::new();
        for source in [Source::Log, Source::Beside, Source::Elsewhere] {
            let of_source: Vec<&Judged> =
                claims.iter().filter(|judged| judged.claim.source == source).collect();
            let (mut findings, given_up) = claim::settle(&of_source, &self.losses);
            if source != Source::Elsewhere {
                findings.extend(claim::out_of_order(&of_source, &self.keys));
            }
            for (at, finding) in findings {
                // A change that one checkpoint shows, every later one shows as well.
                if let Finding::Checkpoint { fault: CheckpointFault::Root { since }, .. } = &finding
                    && !changed_since.insert(since.first)
                {
                    continue;
                }
                self.add(at, finding);
            }
            self.report.given_up.extend(given_up);
        }
        self.settle_newest(&claims);
        self.settle_absent();
        self.compare_files(!claims.is_empty());
        if let Some(later) = self.later.take().filter(|_| self.report.finding_count == 0) {
            // One that was accepted may be among the records that are not here.
            let known_from = self.absent.last().map_or(0, |(_, last)| *last);
            for (at, finding) in claim::one_sided(&claims, &later, &self.losses) {
                if at > known_from {
                    self.add(at, finding);
                }
            }
        }
        self.report.last = last;
        self.report.findings = self.findings.into_values().collect();
        self.report
    }

    /// The newest checkpoint must be by a trusted key, and by the one that the log says signs.
    fn settle_newest(&mut self, claims: &[Judged]) {
        for judged in claims {
            match &judged.verdict {
                Verdict::Good(signer) => {
                    self.report.checkpoint_count += 1;
                    let covered = self.report.covered.as_ref().map(|(size, _)| *size);
                    if self.keys.is_trusted(signer) && judged.size() > covered {
                        self.report.covered = judged.size().map(|size| (size, signer.clone()));
                    }
                }
                Verdict::Earlier => self.report.earlier_checkpoint_count += 1,
                Verdict::Pending | Verdict::Bad(_) => {}
            }
        }
        let of_log = claims.iter().rev().find(|judged| judged.claim.source == Source::Log);
        let newest = of_log.or_else(|| claims.iter().max_by_key(|judged| judged.size()));
        let Some(newest) = newest else { return };
        let (Verdict::Good(signer), Some(size)) = (&newest.verdict, newest.size()) else { return };
        let named = newest.claim.named.clone();
        if !self.keys.is_trusted(signer) {
            let fault = CheckpointFault::Untrusted { signer: signer.to_string() };
            self.add(size, Finding::Checkpoint { named, size, fault });
        } else if let Some((seq, expected)) = self.keys.changes().last().cloned()
            && size >= seq
            && signer.to_string() != expected
        {
            let signer = signer.to_string();
            self.add(size, Finding::WrongSigner { named, size, signer, seq, expected });
        }
    }

    /// What stands for records that are not here counts only where a checkpoint behind them vouches for it; and a log
    /// that names its key was signed with it in the same transaction.
    fn settle_absent(&mut self) {
        if self.is_broken || self.report.finding_count > 0 {
            return;
        }
        let covered = self.report.covered.as_ref().map(|(size, _)| *size);
        let unproven = self.absent.iter().find(|(_, last)| covered < Some(*last)).copied();
        if let Some((first, last)) = unproven {
            self.add(last, Finding::Unproven { first, last });
        } else if covered.is_none()
            && let Some((seq, key)) = self.keys.changes().first().cloned()
        {
            self.add(seq, Finding::NeverSigned { seq, key });
        }
    }

    /// The files must be of the log that the keys are of, and the segments those that were sealed.
    fn compare_files(&mut self, has_checkpoints: bool) {
        let is_signed = has_checkpoints || !self.keys.changes().is_empty();
        let names: BTreeSet<&str> = self.keys.known().iter().map(VerifyingKey::name).collect();
        // Without a key there is no name, and a log that nobody signed has none either.
        let is_known =
            |origin: &str| names.is_empty() || names.contains(origin) || (origin.is_empty() && !is_signed);
        let mut wrong: Vec<(u64, Finding)> = self
            .origins
            .iter()
            .filter(|(origin, _)| !is_known(origin))
            .map(|(origin, place)| {
                let what = format!("it is of the log {origin}, and none of the keys is");
                (u64::MAX, Finding::beside(place, what))
            })
            .collect();
        for (seq, file, sealed) in &self.seals {
            if let Some(segment) = self.segments.get(file)
                && segment.sha256 != *sealed
            {
                let what = format!("it is not the file that record {seq} tells of: its SHA-256 is another");
                wrong.push((segment.behind, Finding::beside(&segment.place, what)));
            }
        }
        for (at, finding) in wrong {
            self.add(at, finding);
        }
    }

    fn compare_edge(&mut self, rows: &[EdgeRow]) {
        let last = self.edge.size();
        let what = match rows {
            [EdgeRow { only_row: 1, size, hashes, .. }] => {
                if u64::try_from(*size) != Ok(last) {
                    format!("it counts {size} records, and the last one there is record {last}")
                } else if *hashes != self.edge.to_bytes() && !self.is_broken {
                    "its hashes are not those of the tree over the records".to_owned()
                } else {
                    return;
                }
            }
            [EdgeRow { only_row, .. }] => format!("its one row is numbered {only_row}, and not 1"),
            rows => format!("it has {} rows, and not one", rows.len()),
        };
        self.add(u64::MAX, Finding::beside("audit_edge", what));
    }

    /// Records are sealed in the transaction that tells it, which is never sealed with them.
    fn compare_sealed(&mut self, rows: &[EdgeRow]) {
        let [EdgeRow { sealed_up_to, .. }] = rows else { return };
        let told = self.sealed_up_to;
        if u64::try_from(*sealed_up_to) != Ok(told) && !self.is_broken {
            let what = format!(
                "its sealed part ends with record {sealed_up_to}, and the records tell that it ends with record {told}"
            );
            self.add(0, Finding::beside("audit_edge", what));
        }
    }

    fn compare_resets(&mut self, rows: &[(Vec<u8>, i64)]) {
        let named = |project: &[u8]| match <[u8; 16]>::try_from(project) {
            Ok(bytes) => format!("project {}", ProjectId::from_bytes(bytes)),
            Err(_none) if project.is_empty() => "all projects".to_owned(),
            Err(_none) => "what is no project".to_owned(),
        };
        let found: BTreeMap<&[u8], u64> = rows
            .iter()
            .map(|(project, seq)| (&project[..], u64::try_from(*seq).unwrap_or_default()))
            .collect();
        let projects: BTreeSet<&[u8]> =
            found.keys().copied().chain(self.resets.keys().map(|key| &key[..])).collect();
        let mut wrong = Vec::new();
        if found.len() != rows.len() {
            wrong.push("it has a project more than once".to_owned());
        }
        for project in projects {
            let (said, recorded) = (found.get(project), self.resets.get(project));
            // One among the records that are not here cannot be compared.
            let is_absent = |seq: &u64| self.absent.iter().any(|(first, last)| (first..=last).contains(&seq));
            let is_same = said == recorded || (recorded < said && said.is_some_and(is_absent));
            if !is_same {
                let text = |seq: Option<&u64>| seq.map_or("none".to_owned(), |seq| format!("record {seq}"));
                let (name, said, recorded) = (named(project), text(said), text(recorded));
                wrong
                    .push(format!("it says that the newest reset of {name} is {said}, and it is {recorded}"));
            }
        }
        for what in wrong {
            self.add(u64::MAX, Finding::beside("reset", what));
        }
    }

    fn compare_keys(&mut self, rows: &[(i64, String)]) {
        let rows = rows.iter().map(|(seq, key)| (u64::try_from(*seq).unwrap_or_default(), key.clone()));
        if !rows.eq(self.keys.changes().iter().cloned()) {
            let what = "it does not have the keys, and from where on they sign, that the records tell of";
            self.add(u64::MAX, Finding::beside("audit_key", what.to_owned()));
        }
    }
}
