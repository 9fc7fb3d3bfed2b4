//! `ecs-groupd audit tail`: the newest records, and those that come.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::words::line;
use super::{AuditError, on_runtime};
use crate::audit::event::Event;
use crate::store::StoreError;
use crate::store::log::Log;

/// How often the database is looked at.
const POLL: Duration = Duration::from_millis(250);

/// What is shown, and how.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// From this record on; `None` for the newest ones.
    pub from: Option<u64>,
    /// How many of the newest.
    pub count: u64,
    /// As the JSON that they are, rather than in words.
    pub is_json: bool,
    /// Those that come, too, until SIGINT or SIGTERM.
    pub follow: bool,
}

/// Shows records, one a line.
///
/// # Errors
/// [`AuditError`].
pub fn tail(database: &Path, ask: Ask, out: &mut impl Write) -> Result<(), AuditError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    on_runtime(&runtime, database, async |log| {
        let newest = log.newest_seq().await?;
        let mut shown = match ask.from {
            Some(from) => i64::try_from(from.saturating_sub(1)).unwrap_or(i64::MAX),
            None => newest.saturating_sub(i64::try_from(ask.count).unwrap_or(i64::MAX)),
        };
        show(log, &mut shown, ask.is_json, out).await?;
        if !ask.follow {
            return Ok(());
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            failed = follow(database, log, shown, ask.is_json, out) => failed,
        }
    })
}

async fn follow(
    database: &Path,
    log: &mut Log,
    mut shown: i64,
    is_json: bool,
    out: &mut impl Write,
) -> Result<(), AuditError> {
    let mut file = inode(database);
    loop {
        let rested = log.rest().await;
        tokio::time::sleep(POLL).await;
        // Another file in its place, such as a backup that was put back, is another database.
        let now = inode(database);
        if now.is_some() && now != file {
            let Ok(opened) = Log::open(database).await else { continue };
            std::mem::replace(log, opened).close().await;
            file = now;
        } else if rested.is_err() || log.renew().await.is_err() {
            let Ok(opened) = Log::open(database).await else { continue };
            *log = opened;
        }
        shown = shown.min(log.newest_seq().await?);
        show(log, &mut shown, is_json, out).await?;
    }
}

fn inode(database: &Path) -> Option<u64> {
    std::fs::metadata(database).ok().map(|file| file.ino())
}

async fn show(log: &mut Log, shown: &mut i64, is_json: bool, out: &mut impl Write) -> Result<(), AuditError> {
    log.records(shown.saturating_add(1), |row| {
        *shown = row.seq;
        if is_json {
            out.write_all(row.bytes)?;
            out.write_all(b"\n")?;
        } else {
            let corrupt = |error| StoreError::Corrupt {
                table: "audit_record",
                key: format!("record {}: {error}", row.seq),
            };
            writeln!(out, "{}", line(&Event::parse(row.bytes).map_err(corrupt)?))?;
        }
        Ok::<_, AuditError>(())
    })
    .await?;
    io::Write::flush(out)?;
    Ok(())
}
