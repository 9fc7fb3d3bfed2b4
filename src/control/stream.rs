//! The audit log as it grows: server-sent events, which go on where the reader left off.
//!
//! Invariant: what a reader has not taken yet stands in the database, so the writer never waits for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::web::{Bytes, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Operator;
use crate::access::policy;
use crate::api::body::Malformed;
use crate::api::cts;
use crate::api::error::{ApiError, Failure};
use crate::audit::record::TraceId;
use crate::store::{LoggedRecord, Store, StoreError};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long nothing is said at the most: a proxy would take a silent connection for a dead one.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How many records are read at a time.
const PAGE_RECORDS: u32 = 100;

/// How many streams there may be at once: each reads every record anew, and the API's reads have the same connections.
pub const STREAMS_MAX: usize = 64;

/// Turns true when the service stops, so that no stream keeps it from that.
pub type Stopping = watch::Receiver<bool>;

/// The room for streams.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

/// Where a stream begins.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// `beginning`, for all that there is; without it, from now on.
    since: Option<String>,
}

/// `GET /control/traces/stream`: every record of every project as it is written, in the form of CTS. With
/// `Last-Event-ID`, from the record after that one on; with `since=beginning`, from the first one that is kept.
pub(super) async fn stream(
    operator: Operator,
    request: HttpRequest,
    asked: Query<Asked>,
    store: Data<Store>,
    stopping: Data<Stopping>,
    places: Data<Places>,
) -> Result<HttpResponse, ApiError> {
    let seat = Arc::clone(&places.0)
        .try_acquire_owned()
        .map_err(|_full| Failure::TooManyStreams { streams_max: STREAMS_MAX })?;
    let permit = policy::permit_follow(operator.0);
    let committed = store.committed();
    let after = match (last_event_id(&request)?, asked.since.as_deref()) {
        (Some(trace_id), _) => store.place_of(&permit, trace_id).await?.ok_or_else(|| {
            Malformed::field("Last-Event-ID", "must be the trace_id of a record of this log, and is none")
        })?,
        (None, Some("beginning")) => 0,
        (None, None) => *committed.borrow(),
        (None, Some(_)) => {
            return Err(Malformed::field("since", "must be \"beginning\", or be left out").into());
        }
    };
    let sealed = store.sealed_up_to(&permit).await?;
    // A reader that comes back before its first event comes back to here, too.
    let place = store.records_after(&permit, after.saturating_sub(1), 1).await?;
    let id = place.first().filter(|record| record.seq() == after).map(LoggedRecord::event).transpose()?;
    let id = id.map_or(String::new(), |event| format!("id: {}\n", event.trace_id));
    let mut waiting = VecDeque::from([Bytes::from(format!("{id}retry: 1000\n\n"))]);
    if after < sealed && request.headers().contains_key(LAST_EVENT_ID) {
        waiting.push_back(gap(after + 1, sealed));
    }
    let stopping = stopping.get_ref().clone();
    let state =
        Reader { store, permit, after: after.max(sealed), waiting, committed, stopping, _place: seat };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(stream::try_unfold(state, Reader::next)))
}

fn last_event_id(request: &HttpRequest) -> Result<Option<TraceId>, Failure> {
    let Some(value) = request.headers().get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| Malformed::field("Last-Event-ID", "must be a trace_id, and is none").into())
}

/// Somebody who reads along.
struct Reader {
    store: Data<Store>,
    permit: policy::Permit,
    /// The last record that it has.
    after: u64,
    waiting: VecDeque<Bytes>,
    committed: watch::Receiver<u64>,
    stopping: Stopping,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// The next event, as soon as there is one and the one before was taken; `None` when the service stops.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some((event, self)));
            }
            if *self.stopping.borrow() {
                return Ok(None);
            }
            self.committed.mark_unchanged();
            let page = self.store.records_after(&self.permit, self.after, PAGE_RECORDS).await?;
            for record in &page {
                // What was sealed while the reader slept is in a file.
                if record.seq() > self.after + 1 {
                    self.waiting.push_back(gap(self.after + 1, record.seq() - 1));
                }
                self.after = record.seq();
                self.waiting.push_back(event(record)?);
            }
            if !self.waiting.is_empty() {
                continue;
            }
            tokio::select! {
                _ = self.committed.changed() => {}
                _ = self.stopping.changed() => {}
                () = tokio::time::sleep(SILENCE_MAX) => self.waiting.push_back(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

fn event(record: &LoggedRecord) -> Result<Bytes, StoreError> {
    let event = record.event()?;
    Ok(Bytes::from(format!("id: {}\nevent: trace\ndata: {}\n\n", event.trace_id, json!(cts::trace(&event)))))
}

/// Records that are not in the database any more.
fn gap(first: u64, last: u64) -> Bytes {
    Bytes::from(format!("event: sealed\ndata: {}\n\n", json!({ "first": first, "last": last })))
}
