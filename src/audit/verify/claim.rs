//! The checkpoints that the log is to reproduce.

use std::collections::{BTreeSet, HashMap};

use super::Loss;
use super::finding::{CheckpointFault, Finding, Since};
use super::key::Keyring;
use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::note::{NoteError, VerifyingKey};
use crate::audit::tree::{self, Edge};

/// Where a checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// With the log.
    Log,
    /// In the file beside the database, which an accepted loss leaves as it is.
    Beside,
    /// Somewhere else: it was kept to tell.
    Elsewhere,
}

/// A checkpoint that the log is to reproduce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it stands.
    pub source: Source,
    /// What it is called there.
    pub named: String,
    /// The signed note.
    pub note: String,
    /// What a database keeps beside it: the size, and the hashes of the edge at that size.
    pub columns: Option<(i64, Vec<u8>)>,
}

/// What came of a checkpoint.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// The log has not come so far.
    Pending,
    /// The log reproduces it.
    Good(VerifyingKey),
    /// It is well signed, and of a size in front of the first record that is here.
    Earlier,
    /// It does not fit.
    Bad(CheckpointFault),
}

#[derive(Debug)]
pub(super) struct Judged {
    pub(super) claim: Claim,
    /// What it claims; `None` when it is no checkpoint.
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) verdict: Verdict,
    /// The root of the log at its size, and which records may have been changed, while it is not known who signed it.
    unsettled: Option<(tree::Hash, Since)>,
}

impl Judged {
    pub(super) fn new(claim: Claim) -> Self {
        let checkpoint = Checkpoint::claimed(&claim.note);
        Self { claim, checkpoint, verdict: Verdict::Pending, unsettled: None }
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.checkpoint.as_ref().map(|checkpoint| checkpoint.size)
    }

    /// Whether it is signed well, and of this log as far as that can be told.
    fn fits(&self) -> bool {
        matches!(self.verdict, Verdict::Good(_) | Verdict::Earlier)
    }

    /// Compares it with the log at its size.
    pub(super) fn compare(&mut self, edge: &Edge, since: Since, keys: &Keyring, opened: &mut Opened) {
        self.judge(edge.root(), since, keys, opened);
        if let Verdict::Bad(CheckpointFault::Note(CheckpointError::Note(NoteError::UnknownKey))) =
            &self.verdict
        {
            self.unsettled = Some((edge.root(), since));
        }
    }

    /// Judges it once more by the keys that the log told of behind it.
    pub(super) fn judge_again(&mut self, keys: &Keyring, opened: &mut Opened) {
        if let Some((root, since)) = self.unsettled.take() {
            self.judge(root, since, keys, opened);
        }
    }

    fn judge(&mut self, root: tree::Hash, since: Since, keys: &Keyring, opened: &mut Opened) {
        self.verdict = match self.signer(keys, opened) {
            Err(fault) => Verdict::Bad(fault),
            Ok((checkpoint, _)) if checkpoint.root != root => Verdict::Bad(CheckpointFault::Root { since }),
            Ok((_, signer)) => Verdict::Good(signer),
        };
    }

    /// It is of a size that is not here: it can only be looked at by itself.
    pub(super) fn look_at(&mut self, keys: &Keyring, opened: &mut Opened) {
        self.verdict = match self.signer(keys, opened) {
            Err(fault) => Verdict::Bad(fault),
            Ok(_) => Verdict::Earlier,
        };
    }

    /// The log ended before its size.
    pub(super) fn end(&mut self, last: u64, keys: &Keyring, opened: &mut Opened) {
        self.verdict = Verdict::Bad(match self.signer(keys, opened) {
            Err(fault) => fault,
            Ok(_) => CheckpointFault::Beyond { last },
        });
    }

    fn signer(
        &self,
        keys: &Keyring,
        opened: &mut Opened,
    ) -> Result<(Checkpoint, VerifyingKey), CheckpointFault> {
        let (checkpoint, signer) = opened.open(&self.claim.note, keys)?;
        if let Some((size, hashes)) = &self.claim.columns {
            let edge = Edge::from_parts(checkpoint.size, hashes);
            let is_same = i64::try_from(checkpoint.size).is_ok_and(|own| own == *size)
                && edge.is_ok_and(|edge| edge.root() == checkpoint.root);
            if !is_same {
                return Err(CheckpointFault::Columns);
            }
        }
        Ok((checkpoint, signer))
    }
}

/// The notes that were opened with the same keys: most of them stand in two places, and a signature is dear.
#[derive(Debug, Default)]
pub(super) struct Opened(HashMap<String, Result<(Checkpoint, VerifyingKey), CheckpointError>>);

impl Opened {
    fn open(&mut self, note: &str, keys: &Keyring) -> Result<(Checkpoint, VerifyingKey), CheckpointError> {
        if let Some(known) = self.0.get(note) {
            return known.clone();
        }
        let opened = Checkpoint::open(note, keys.known());
        let opened = opened.map(|(checkpoint, signer)| (checkpoint, signer.clone()));
        self.0.insert(note.to_owned(), opened.clone());
        opened
    }
}

/// A checkpoint that an accepted loss gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// What it is called.
    pub named: String,
    /// How many records it was of.
    pub size: u64,
    /// The record of the acceptance.
    pub seq: u64,
}

/// The checkpoints of one source that are not in the order in which they were made. Those that do not fit the log are
/// told anyway, and one is made of more records than the one before, unless another key takes over.
pub(super) fn out_of_order(claims: &[&Judged], keys: &Keyring) -> Vec<(u64, Finding)> {
    let (mut findings, mut seen, mut before, mut is_taken_over) = (Vec::new(), BTreeSet::new(), 0, false);
    for judged in claims.iter().filter(|judged| judged.fits()) {
        let Some(size) = judged.size() else { continue };
        let is_in_force = matches!(&judged.verdict, Verdict::Good(signer) if keys.signs_at(signer, size));
        if size < before
            || (size == before && is_taken_over && !is_in_force)
            || !seen.insert(&judged.claim.note)
        {
            let named = judged.claim.named.clone();
            findings.push((
                u64::MAX,
                Finding::Checkpoint { named, size, fault: CheckpointFault::OutOfOrder { before } },
            ));
        }
        before = before.max(size);
        is_taken_over = is_in_force;
    }
    findings
}

/// The checkpoints that only one of the database and the file beside it has. One is first committed, and then put into
/// the file before there is another; what was so before an accepted loss is given up. `later` is what the file has
/// after the log was read, and the claims what it had before.
pub(super) fn one_sided(claims: &[Judged], later: &BTreeSet<String>, losses: &[Loss]) -> Vec<(u64, Finding)> {
    let of = |source| claims.iter().filter(move |judged| judged.claim.source == source && judged.fits());
    let inside: BTreeSet<&String> = of(Source::Log).map(|judged| &judged.claim.note).collect();
    let newest = of(Source::Log).next_back().map(|judged| &judged.claim.note);
    let only_outside = of(Source::Beside)
        .filter(|judged| !inside.contains(&judged.claim.note))
        .map(|judged| (judged, CheckpointFault::NotInside));
    let only_inside = of(Source::Log)
        .filter(|judged| Some(&judged.claim.note) != newest && !later.contains(&judged.claim.note))
        .map(|judged| (judged, CheckpointFault::NotOutside));
    let finding = |(judged, fault): (&Judged, CheckpointFault)| {
        let size = judged.size().filter(|size| !losses.iter().any(|loss| loss.seq > *size))?;
        Some((size, Finding::Checkpoint { named: judged.claim.named.clone(), size, fault }))
    };
    only_outside.chain(only_inside).filter_map(finding).collect()
}

/// What is wrong with the checkpoints of one source, in their order, and which were given up.
pub(super) fn settle(claims: &[&Judged], losses: &[Loss]) -> (Vec<(u64, Finding)>, Vec<GivenUp>) {
    let (mut findings, mut given_up) = (Vec::new(), Vec::new());
    for (at, judged) in claims.iter().enumerate() {
        let named = judged.claim.named.clone();
        let Some(size) = judged.size() else {
            findings.push((u64::MAX, Finding::NotACheckpoint { named }));
            continue;
        };
        let fault = match &judged.verdict {
            Verdict::Bad(fault) => fault,
            Verdict::Earlier if judged.claim.source == Source::Elsewhere => &CheckpointFault::NotHere,
            Verdict::Pending | Verdict::Good(_) | Verdict::Earlier => continue,
        };
        let loss = losses.iter().find(|loss| loss.gives_up(size));
        let fault = match loss {
            None => fault.clone(),
            Some(Loss { seq, .. }) if judged.claim.source == Source::Elsewhere => {
                CheckpointFault::GivenUp { seq: *seq }
            }
            Some(loss) => {
                // What was signed after the acceptance vouches for it; what stands behind that was not given up.
                let is_after = |later: &&&Judged| {
                    matches!(later.verdict, Verdict::Good(_)) && later.size() >= Some(loss.seq)
                };
                let is_first_after = !claims[..at].iter().any(|earlier| is_after(&earlier));
                if is_first_after && claims[at..].iter().any(|later| is_after(&later)) {
                    given_up.push(GivenUp { named, size, seq: loss.seq });
                    continue;
                }
                if is_first_after {
                    CheckpointFault::GivenUpUnsigned { seq: loss.seq }
                } else {
                    fault.clone()
                }
            }
        };
        findings.push((size, Finding::Checkpoint { named, size, fault }));
    }
    (findings, given_up)
}
