//! `ecs-groupd audit export`: the records of a database as a file that can be verified without it.

use std::io::{self, Write as _};
use std::path::Path;

use super::{AuditError, Output, on_log};
use crate::api::cts;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::event::Event;
use crate::audit::segment::SegmentWriter;
use crate::audit::tree::{self, Edge};
use crate::store::StoreError;
use crate::store::log::{Log, Sealed};

/// As what records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Their canonical bytes, one a line, between a first and a last line: what a sealed segment is, too.
    Ndjson,
    /// As the vendor's Cloud Trace Service shows them, an object a line.
    Cts,
}

/// Writes every record that the database has, to a file or to standard output.
///
/// # Errors
/// [`AuditError`].
pub fn export(database: &Path, format: Format, output: Option<&Path>) -> Result<(), AuditError> {
    on_log(database, async |log| {
        let mut out = Output::new(output)?;
        match format {
            Format::Ndjson => ndjson(log, &mut out).await?,
            Format::Cts => traces(log, &mut out).await?,
        }
        out.finish()
    })
}

async fn ndjson(log: &mut Log, out: &mut Output) -> Result<(), AuditError> {
    let start = sealed_edge(&log.sealed().await?)?;
    // With the one that vouches for what stands in the place of the records before.
    let first = start.size().max(1);
    let mut writer = SegmentWriter::begin(&mut *out, &origin(log).await?, start)?;
    log.records(i64::MIN, |row| {
        writer.push(row.bytes, tree::leaf(row.bytes))?;
        Ok::<_, AuditError>(())
    })
    .await?;
    let sizes = first..=writer.edge().size();
    log.checkpoints(|stored| {
        if u64::try_from(stored.size).is_ok_and(|size| sizes.contains(&size)) {
            writer.checkpoint(&stored.note)?;
        }
        Ok::<_, AuditError>(())
    })
    .await?;
    writer.finish(Vec::new())?;
    Ok(())
}

async fn traces(log: &mut Log, out: &mut Output) -> Result<(), AuditError> {
    log.records(i64::MIN, |row| {
        let corrupt =
            |error| StoreError::Corrupt { table: "audit_record", key: format!("{}: {error}", row.seq) };
        let event = Event::parse(row.bytes).map_err(corrupt)?;
        serde_json::to_writer(&mut *out, &cts::trace(&event)).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        Ok::<_, AuditError>(())
    })
    .await
}

/// The edge that stands for the records that were sealed and deleted.
pub(super) fn sealed_edge(sealed: &Sealed) -> Result<Edge, AuditError> {
    let corrupt = |key: String| StoreError::Corrupt { table: "audit_edge", key };
    let size = u64::try_from(sealed.up_to).map_err(|error| corrupt(error.to_string()))?;
    Ok(Edge::from_parts(size, &sealed.hashes).map_err(|error| corrupt(error.to_string()))?)
}

/// The name of the log: that of its newest checkpoint.
async fn origin(log: &mut Log) -> Result<String, StoreError> {
    let newest = log.newest_checkpoint().await?.and_then(|stored| Checkpoint::claimed(&stored.note));
    Ok(newest.map(|checkpoint| checkpoint.origin).unwrap_or_default())
}
