//! `ecs-groupd audit prove` and `audit check-proof`: one record, and that it is in the log.

use std::io::{self, BufReader, Write as _};
use std::path::Path;

use super::export::sealed_edge;
use super::sealed::{Segment, segments_with};
use super::words::{paragraph, plain};
use super::{AuditError, Keys, Output, beside, on_log, open, read};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::event::Event;
use crate::audit::proof::{PathBuilder, Proof, ProofError};
use crate::audit::record::TraceId;
use crate::audit::segment::{self, SegmentError, SegmentReader};
use crate::audit::tree;
use crate::store::log::Log;

/// Writes the proof that the record of this trace id is in the log, to a file or to standard output.
///
/// # Errors
/// [`AuditError`].
pub fn prove(database: &Path, trace_id: &str, output: Option<&Path>) -> Result<(), AuditError> {
    let no_record = || AuditError::NoRecord(trace_id.to_owned());
    let id: TraceId = trace_id.trim().parse().map_err(|_not_an_id| no_record())?;
    let seq = id.seq();
    let proof = on_log(database, async |log| {
        let sealed_up_to = u64::try_from(log.sealed().await?.up_to).unwrap_or_default();
        let proof =
            if seq > sealed_up_to { prove_stored(log, seq).await? } else { prove_sealed(database, seq)? };
        // The whole id, of which only `seq` can be guessed.
        let is_asked =
            |proof: &Proof| Event::parse(&proof.bytes).is_ok_and(|event| event.trace_id() == Some(id));
        proof.filter(is_asked).ok_or_else(no_record)
    })?;
    let mut out = Output::new(output)?;
    write!(out, "{proof}")?;
    out.finish()
}

/// The proof of a record that the database has, for the newest checkpoint.
async fn prove_stored(log: &mut Log, seq: u64) -> Result<Option<Proof>, AuditError> {
    let Some(bytes) = log.record(seq.cast_signed()).await? else { return Ok(None) };
    let start = sealed_edge(&log.sealed().await?)?;
    let newest = log.newest_checkpoint().await?;
    let size = newest.as_ref().map_or(0, |stored| stored.size.cast_unsigned());
    let claimed = newest.and_then(|stored| Some((Checkpoint::claimed(&stored.note)?, stored.note)));
    let Some((checkpoint, note)) = claimed.filter(|(checkpoint, _)| checkpoint.size >= seq) else {
        return Err(AuditError::NotCovered { seq, size });
    };
    let index = seq - 1;
    let (mut builder, after) = (PathBuilder::new(&start, index), start.size().cast_signed());
    log.leaves(after, checkpoint.size.cast_signed(), |_, leaf| builder.push(leaf)).await?;
    match builder.finish() {
        Some((root, path)) if root == checkpoint.root => Ok(Some(Proof { bytes, index, path, note })),
        _ => Err(AuditError::NotReproduced),
    }
}

/// The proof of a record in a sealed segment, for the checkpoint at its end. Where several files have it, one that a
/// proof can be made of will do.
fn prove_sealed(database: &Path, seq: u64) -> Result<Option<Proof>, AuditError> {
    let mut failed = AuditError::SealedAway { seq, folder: beside(database, ".segments") };
    for segment in segments_with(database, seq)? {
        match prove_in(&segment, seq) {
            Ok(proof) => return Ok(Some(proof)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn prove_in(Segment { last, file, .. }: &Segment, seq: u64) -> Result<Proof, AuditError> {
    let wrong = |error: SegmentError| AuditError::Segment { file: file.clone(), error };
    let mut lines = open(file)?;
    let trailer = segment::read_trailer(&mut lines).map_err(wrong)?;
    io::Seek::rewind(&mut lines)?;
    let mut reader = SegmentReader::open(BufReader::new(lines)).map_err(wrong)?;
    let index = seq - 1;
    let (mut builder, mut at) = (PathBuilder::new(reader.edge(), index), reader.edge().size());
    let mut found = None;
    while let Some(bytes) = reader.next_record().map_err(wrong)? {
        builder.push(tree::leaf(bytes));
        at += 1;
        if at == seq {
            found = Some(bytes.to_vec());
        }
    }
    let claimed = |note: String| Some((Checkpoint::claimed(&note)?, note));
    let at_end = |(checkpoint, _): &(Checkpoint, String)| checkpoint.size == *last;
    let newest = trailer.checkpoints.into_iter().rev().filter_map(claimed).find(at_end);
    match (builder.finish(), newest, found) {
        (Some((root, path)), Some((checkpoint, note)), Some(bytes)) if root == checkpoint.root => {
            Ok(Proof { bytes, index, path, note })
        }
        _ => Err(AuditError::NotReproduced),
    }
}

/// Checks a proof, and tells what it proves.
///
/// # Errors
/// [`AuditError`]; [`AuditError::is_unverified`] when it proves nothing.
pub fn check_proof(file: &Path, keys: &Keys, out: &mut impl io::Write) -> Result<(), AuditError> {
    let wrong = |error| AuditError::Proof { file: file.to_owned(), error };
    let proof: Proof = read(file)?.parse().map_err(wrong)?;
    let keys = keys.read_some()?;
    let (checkpoint, key) = proof.check(&keys).map_err(wrong)?;
    // What the log has at this place need not be what the bytes say of themselves.
    let event = Event::parse(&proof.bytes).map_err(|_not_a_record| wrong(ProofError::NotAProof))?;
    if event.seq != proof.index + 1 {
        return Err(wrong(ProofError::ElsewhereLed));
    }
    write!(out, "{}", paragraph(&event))?;
    writeln!(out, "proved: it is record {} of the log {}", event.seq, plain(&checkpoint.origin))?;
    writeln!(out, "signed by {key}, when the log had {} records", checkpoint.size)?;
    Ok(())
}
