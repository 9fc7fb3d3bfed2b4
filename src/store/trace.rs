//! The audit log as one project sees it: newest first, at a cost that does not grow with the log.
//!
//! A place in the log is found without an index: an id tells its own, and times never go back as places go on, so
//! that they are found by halving. Only a filter has records looked through, and for so long and no longer.

use std::time::Duration;

use tokio::time::Instant;

use super::sqlite::audit::reset_of_project;
use super::sqlite::trace::{self, Range};
use super::{Store, StoreError, read_permit};
use crate::access::action::Action;
use crate::access::policy::Permit;
use crate::audit::event::Event;
use crate::audit::record::TraceId;
use crate::domain::id::{GroupId, ProjectId};
use crate::domain::time::Timestamp;

/// How long records are looked through for one listing.
pub const TRACE_SCAN_MAX: Duration = Duration::from_secs(2);
/// How many records are read at once while they are looked through. Other reads have their turn in between.
const SCAN_ROWS: u32 = 1_000;
/// The window where none is asked for: the last hour ("Querying a Trace List").
const WINDOW_MS_DEFAULT: u64 = 3_600_000;

/// What is to be listed.
#[derive(Clone, Copy)]
pub struct TraceQuery<'filter> {
    /// How many records at the most.
    pub limit: u32,
    /// When they were made; `None` for the last hour, which ends now, or with the newest record if that is later.
    pub window: Option<Window>,
    /// Only what is older than this record.
    pub after: Option<TraceId>,
    /// Only this record, whatever the window, `after` and the filter say.
    pub trace_id: Option<TraceId>,
    /// Only what is about this group, if the project has records about one.
    pub group_id: Option<GroupId>,
    /// Which records. Of a group that has records they are its own.
    pub filter: &'filter (dyn Fn(&Event<'_>) -> bool + Sync),
    /// Whether to list what was before the project's last reset.
    pub includes_before_reset: bool,
}

/// A time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRecord {
    seq: u64,
    bytes: Vec<u8>,
}

impl LoggedRecord {
    pub(super) const fn new(seq: u64, bytes: Vec<u8>) -> Self {
        Self { seq, bytes }
    }

    /// Its place in the log.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// What it says.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], when its bytes are no record.
    pub fn event(&self) -> Result<Event<'_>, StoreError> {
        Event::parse(&self.bytes)
            .map_err(|error| StoreError::corrupt("audit_record", format!("{}: {error}", self.seq)))
    }
}

/// Why there is no listing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The project has no record of the id that the listing is to go on after.
    #[error("no record to go on after")]
    NoSuchMarker,
    /// Too many records had to be looked through.
    #[error("there are too many records to look through in time")]
    OutOfTime,
}

impl Store {
    /// The records of the permit's project that `query` asks for, newest first.
    ///
    /// # Errors
    /// [`TraceError`].
    pub async fn traces(
        &self,
        permit: &Permit,
        query: &TraceQuery<'_>,
    ) -> Result<Vec<LoggedRecord>, TraceError> {
        let project_id = read_permit(permit, Action::ListTraces)?;
        let deadline = Instant::now() + self.trace_scan_max;
        let first = if query.includes_before_reset {
            1
        } else {
            self.read(async |conn| reset_of_project(conn, project_id).await).await? + 1
        };
        if let Some(trace_id) = query.trace_id {
            let found = self.logged(project_id, trace_id).await?;
            let is_listed = |record: &LoggedRecord| record.seq >= first && query.limit > 0;
            return Ok(found.filter(is_listed).into_iter().collect());
        }
        let mut range = self.range(query.window).await?;
        range.first = range.first.max(first);
        if let Some(marker) = query.after {
            let marker = self.logged(project_id, marker).await?.ok_or(TraceError::NoSuchMarker)?;
            range.last = range.last.min(marker.seq - 1);
        }
        let group_id = match query.group_id {
            Some(group_id)
                if self
                    .read(async |conn| trace::has_records_of_group(conn, project_id, group_id).await)
                    .await? =>
            {
                Some(group_id)
            }
            _ => None,
        };
        self.scan(project_id, group_id, range, query, deadline).await
    }

    /// Looks through the records of a range, the newest first.
    async fn scan(
        &self,
        project_id: ProjectId,
        group_id: Option<GroupId>,
        mut range: Range,
        query: &TraceQuery<'_>,
        deadline: Instant,
    ) -> Result<Vec<LoggedRecord>, TraceError> {
        let mut found = Vec::new();
        // At first as if all of them were asked for, which is so when nothing is filtered.
        let mut rows_max = query.limit;
        while rows_max > 0 && !range.is_empty() {
            let rows = self
                .read(async |conn| match group_id {
                    Some(group_id) => {
                        trace::records_of_group(conn, project_id, group_id, range, rows_max).await
                    }
                    None => trace::records_of_project(conn, project_id, range, rows_max).await,
                })
                .await?;
            let is_last = rows.len() < rows_max as usize;
            for (seq, bytes) in rows {
                range.last = seq - 1;
                let record = LoggedRecord { seq, bytes };
                if (query.filter)(&record.event()?) {
                    found.push(record);
                    if found.len() == query.limit as usize {
                        return Ok(found);
                    }
                }
            }
            if is_last {
                break;
            }
            if Instant::now() >= deadline {
                return Err(TraceError::OutOfTime);
            }
            rows_max = (rows_max * 4).min(SCAN_ROWS);
        }
        Ok(found)
    }

    /// The record of this id, if it is one of the project's.
    async fn logged(
        &self,
        project_id: ProjectId,
        trace_id: TraceId,
    ) -> Result<Option<LoggedRecord>, StoreError> {
        let seq = trace_id.seq();
        let found = self.read(async |conn| trace::record(conn, seq).await).await?;
        let Some((Some(owner), bytes)) = found else { return Ok(None) };
        let record = LoggedRecord { seq, bytes };
        let is_it = owner == project_id && record.event()?.trace_id() == Some(trace_id);
        Ok(is_it.then_some(record))
    }

    /// The places of what was made in a window.
    async fn range(&self, window: Option<Window>) -> Result<Range, StoreError> {
        let now = self.clock.now();
        self.read(async |conn| {
            let log = trace::range_of_log(conn).await?;
            let Some(newest) = trace::newest_time(conn).await? else { return Ok(log) };
            let Window { from, to } = window.unwrap_or_else(|| {
                let to = now.max(newest);
                Window { from: Timestamp::from_millis(to.as_millis().saturating_sub(WINDOW_MS_DEFAULT)), to }
            });
            let first = if newest < from {
                log.last + 1
            } else {
                first_place(conn, log, |time| time >= from).await?
            };
            let last =
                if newest <= to { log.last } else { first_place(conn, log, |time| time > to).await? - 1 };
            Ok(Range { first, last })
        })
        .await
    }
}

/// The first place of the log that has a record whose time `is_late` enough; behind its end, when there is none.
pub(super) async fn first_place(
    conn: &mut sqlx::SqliteConnection,
    log: Range,
    is_late: impl Fn(Timestamp) -> bool,
) -> Result<u64, StoreError> {
    let (mut low, mut high) = (log.first, log.last + 1);
    while low < high {
        let middle = low.midpoint(high);
        match trace::time_at(conn, middle).await? {
            Some((seq, time)) if !is_late(time) => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
