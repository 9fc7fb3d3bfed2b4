//! CTS v3, as far as clients read what happened: the traces of a project, and which operations there are ("Trace
//! Management", CTS).

mod trace;

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use serde::Serialize;
use utoipa::ToSchema;

pub use self::trace::status_of_reason;
use self::trace::{ENTERPRISE_PROJECT, Named, Rating, TRACKER, names, trace_name};
pub(crate) use self::trace::{Trace, trace};
use crate::access::action::{Action, Subject};
use crate::access::policy::Permit;
use crate::api;
use crate::api::caller::Caller;
use crate::api::ecs::parameter;
use crate::api::error::{ApiError, Failure};
use crate::api::target::UrlProject;
use crate::audit::event::Event;
use crate::audit::record::TraceId;
use crate::domain::excerpt::Excerpt;
use crate::domain::id::GroupId;
use crate::domain::time::Timestamp;
use crate::store::{LoggedRecord, Store, StoreError, TraceError, TraceQuery, Window};

/// The most traces on one page ("The value ranges from 0 to 200").
pub const LIMIT_MAX: u32 = 200;
/// The page when no limit is given.
pub const LIMIT_DEFAULT: u32 = 10;

/// `GET /v3/{project_id}/traces` ("Querying a Trace List").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn list(
    caller: Caller,
    project: UrlProject,
    query: Query<Vec<(String, String)>>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    let permit = permit(&caller, &store, project).await?;
    let asked = Asked::parse(&query)?;
    let records = asked.find(&store, &permit).await?;
    let events = records.iter().map(LoggedRecord::event).collect::<Result<Vec<_>, StoreError>>()?;
    let traces: Vec<_> = events.iter().map(trace).collect();
    let marker = traces.last().map(|last| last.id);
    let meta_data = MetaData { count: traces.len(), marker };
    Ok(api::json(StatusCode::OK, &TracesEnvelope { meta_data, traces }))
}

/// `GET /v3/{project_id}/operations` ("Querying Key Operations").
///
/// # Errors
/// See [`Failure::answer`].
pub async fn operations(
    caller: Caller,
    project: UrlProject,
    query: Query<Vec<(String, String)>>,
    store: Data<Store>,
) -> Result<HttpResponse, ApiError> {
    permit(&caller, &store, project).await?;
    let (service_type, resource_type) =
        (parameter(&query, "service_type"), parameter(&query, "resource_type"));
    if service_type.is_none() && resource_type.is_some() {
        return Err(Failure::TraceQuery("resource_type needs service_type beside it.".to_owned()).into());
    }
    let is_asked_for = |operation: &OperationBody| {
        service_type.is_none_or(|asked| asked == operation.service_type)
            && resource_type.is_none_or(|asked| asked == operation.resource_type)
    };
    let operations = OperationBody::all().into_iter().filter(is_asked_for).collect();
    Ok(api::json(StatusCode::OK, &OperationsEnvelope { operations }))
}

/// Permits the listing, or denies it in CTS's own code.
async fn permit(caller: &Caller, store: &Store, project: UrlProject) -> Result<Permit, Failure> {
    match caller.permit(store, Action::ListTraces, project).await {
        Ok((permit, _)) => Ok(permit),
        Err(Failure::Denied { reason, .. }) => Err(Failure::TracesDenied(reason)),
        Err(failure) => Err(failure),
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Store(error) => Self::Store(error),
            TraceError::NoSuchMarker => {
                let rule = "must be the marker of the page before, and no record of this project has it";
                Self::TraceQuery(format!("next {rule}: begin again without it."))
            }
            TraceError::OutOfTime => Self::TraceQuery(
                "There are too many records to look through in time: narrow from/to.".to_owned(),
            ),
        }
    }
}

/// The query of a listing.
struct Asked<'query> {
    limit: u32,
    window: Option<Window>,
    next: Option<TraceId>,
    trace_id: Option<TraceId>,
    includes_before_reset: bool,
    /// Whether no record can be meant: none is a data event, or of another tracker.
    is_of_nothing: bool,
    rating: Option<Rating>,
    service_type: Option<&'query str>,
    user: Option<&'query str>,
    resource_id: Option<Cow<'query, str>>,
    group_id: Option<GroupId>,
    resource_name: Option<&'query str>,
    resource_type: Option<&'query str>,
    trace_name: Option<&'query str>,
    access_key_id: Option<&'query str>,
}

impl<'query> Asked<'query> {
    fn parse(query: &'query [(String, String)]) -> Result<Self, Failure> {
        let text = |name: &str| parameter(query, name);
        let limit = match whole_number(query, "limit", u64::from(LIMIT_MAX))? {
            Some(limit) => u32::try_from(limit).unwrap_or(LIMIT_MAX),
            None => LIMIT_DEFAULT,
        };
        let is_data = match text("trace_type") {
            None | Some("system") => false,
            Some("data") => true,
            Some(other) => return Err(wrong("trace_type", "must be system or data", other)),
        };
        let (rating, is_incident) = match text("trace_rating") {
            None => (None, false),
            Some("normal") => (Some(Rating::Normal), false),
            Some("warning") => (Some(Rating::Warning), false),
            Some("incident") => (None, true),
            Some(other) => return Err(wrong("trace_rating", "must be normal, warning or incident", other)),
        };
        let includes_before_reset = match text("include_before_reset") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(wrong("include_before_reset", "must be true or false", other)),
        };
        let is_other = |name: &str, only: &str| text(name).is_some_and(|asked| asked != only);
        let resource_type = text("resource_type");
        // An ECS may have any UUID, one that a group has too.
        let may_be_group = resource_type.is_none_or(|asked| asked == names(Subject::ServerGroup).1);
        let group_id: Option<GroupId> = text("resource_id").and_then(|id| id.parse().ok());
        Ok(Self {
            limit,
            window: window(query)?,
            next: trace_id(query, "next")?,
            trace_id: trace_id(query, "trace_id")?,
            includes_before_reset,
            is_of_nothing: is_data
                || is_incident
                || is_other("tracker_name", TRACKER)
                || is_other("enterprise_project_id", ENTERPRISE_PROJECT),
            rating,
            service_type: text("service_type"),
            user: text("user"),
            resource_id: match group_id {
                Some(id) => Some(id.to_string().into()),
                None => text("resource_id").map(Cow::from),
            },
            group_id: group_id.filter(|_| may_be_group),
            resource_name: text("resource_name"),
            resource_type,
            trace_name: text("trace_name"),
            access_key_id: text("access_key_id"),
        })
    }

    async fn find(&self, store: &Store, permit: &Permit) -> Result<Vec<LoggedRecord>, TraceError> {
        // "If trace_id is given, other filters are ignored."
        if self.is_of_nothing && self.trace_id.is_none() {
            return Ok(Vec::new());
        }
        let query = TraceQuery {
            limit: self.limit,
            window: self.window,
            after: self.next,
            trace_id: self.trace_id,
            group_id: self.group_id,
            filter: &|event| self.is_about(event),
            includes_before_reset: self.includes_before_reset,
        };
        store.traces(permit, &query).await
    }

    fn is_about(&self, event: &Event<'_>) -> bool {
        let named = Named::of(event);
        let is = |asked: Option<&str>, found: Option<&str>| asked.is_none_or(|asked| found == Some(asked));
        self.rating.is_none_or(|rating| rating == Rating::of(event.outcome))
            && is(self.resource_id.as_deref(), event.resource.id.as_deref())
            && is(self.resource_name, event.resource.name.as_deref())
            && is(self.user, event.actor.user_name.as_deref())
            && is(self.access_key_id, event.actor.access_key.as_deref())
            && is(self.service_type, Some(named.service_type))
            && is(self.resource_type, Some(named.resource_type))
            && is(self.trace_name, Some(named.trace_name))
    }
}

/// `from` and `to`, both in milliseconds, together or not at all.
fn window(query: &[(String, String)]) -> Result<Option<Window>, Failure> {
    let millis = |name| whole_number(query, name, Timestamp::MAX.as_millis());
    match (millis("from")?, millis("to")?) {
        (None, None) => Ok(None),
        (Some(from), Some(to)) if from <= to => {
            Ok(Some(Window { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to) }))
        }
        (Some(from), Some(to)) => Err(Failure::TraceQuery(format!(
            "from must not be later than to, and is {from}, where to is {to}."
        ))),
        (Some(_), None) => Err(Failure::TraceQuery("from needs to beside it.".to_owned())),
        (None, Some(_)) => Err(Failure::TraceQuery("to needs from beside it.".to_owned())),
    }
}

fn whole_number(query: &[(String, String)], name: &str, most: u64) -> Result<Option<u64>, Failure> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if number <= most && !text.starts_with('+') => Ok(Some(number)),
        _ => Err(wrong(name, &format!("must be a whole number from 0 to {most}"), text)),
    }
}

fn trace_id(query: &[(String, String)], name: &str) -> Result<Option<TraceId>, Failure> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_not_a_uuid| wrong(name, "must be the trace_id of a trace", text))
}

fn wrong(name: &str, rule: &str, found: &str) -> Failure {
    Failure::TraceQuery(format!("{name} {rule}, and is {}.", Excerpt::of(found)))
}

#[derive(Serialize, ToSchema)]
pub(super) struct TracesEnvelope<'event> {
    meta_data: MetaData<'event>,
    traces: Vec<Trace<'event>>,
}

#[derive(Serialize, ToSchema)]
struct MetaData<'event> {
    count: usize,
    /// The last trace of the page; `null` when there is none.
    marker: Option<&'event str>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct OperationsEnvelope {
    operations: Vec<OperationBody>,
}

#[derive(Serialize, ToSchema)]
struct OperationBody {
    service_type: &'static str,
    resource_type: &'static str,
    operation_list: Vec<&'static str>,
}

impl OperationBody {
    /// All that leave a trace, in the order of the table of actions.
    fn all() -> Vec<Self> {
        let mut operations: Vec<Self> = Vec::new();
        for action in Action::ALL {
            let Some(name) = trace_name(action) else { continue };
            let (service_type, resource_type) = names(action.row().subject);
            let is_its = |known: &&mut Self| {
                known.service_type == service_type && known.resource_type == resource_type
            };
            match operations.iter_mut().find(is_its) {
                Some(known) => known.operation_list.push(name),
                None => {
                    operations.push(Self { service_type, resource_type, operation_list: vec![name] });
                }
            }
        }
        operations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_that_leaves_a_trace_is_listed_once() {
        let listed = OperationBody::all().into_iter().flat_map(|service| service.operation_list);
        let mut listed: Vec<_> = listed.collect();
        let mut names: Vec<_> = Action::ALL.into_iter().filter_map(trace_name).collect();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names);
    }
}
