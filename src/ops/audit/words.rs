//! A record in words.

use std::fmt::Write as _;

use crate::audit::event::{Event, Outcome};
use crate::domain::time::Timestamp;

/// One line: its place, when, what came of it, what was done, by whom, to what.
pub(super) fn line(event: &Event<'_>) -> String {
    let outcome = match event.outcome {
        Outcome::Done => "done",
        Outcome::Unchanged => "unchanged",
        Outcome::Refused => "refused",
        Outcome::Denied => "denied",
    };
    let time = Timestamp::from_millis(event.time).to_iso8601_millis();
    let mut line =
        format!("{:>8}  {time}  {outcome:<9}  {:<42}  {}", event.seq, plain(&event.action), who(event));
    let _ = write!(line, "  {}", plain(&event.resource.r#type));
    if let Some(name) = &event.resource.name {
        let _ = write!(line, " {name:?}");
    }
    if let Some(id) = &event.resource.id {
        let _ = write!(line, " {}", plain(id));
    }
    if let Some(reason) = &event.reason {
        let _ = write!(line, "  {}", plain(&reason.name));
    }
    line
}

/// All that a record says, a line each.
pub(super) fn paragraph(event: &Event<'_>) -> String {
    let dash = "-".into();
    let lines = [
        ("record", event.seq.to_string()),
        ("trace_id", plain(&event.trace_id)),
        ("time", Timestamp::from_millis(event.time).to_iso8601_millis()),
        ("request", plain(&event.request_id)),
        ("from", format!("{} by {}", plain(event.source_ip.as_ref().unwrap_or(&dash)), plain(&event.door))),
        ("who", who(event)),
        ("action", plain(&event.action)),
        ("project", plain(event.project_id.as_ref().unwrap_or(&dash))),
        ("about", about(event)),
        ("asked", plain(event.asked.get())),
        ("outcome", format!("{:?}", event.outcome).to_lowercase()),
        (
            "reason",
            event.reason.as_ref().map_or("-".to_owned(), |reason| {
                let message =
                    reason.message.as_deref().map_or(String::new(), |message| format!(": {message}"));
                plain(&format!("{}{message}", reason.name))
            }),
        ),
    ];
    let mut paragraph = String::new();
    for (name, text) in lines {
        let _ = writeln!(paragraph, "{name:<9} {text}");
    }
    paragraph
}

fn about(event: &Event<'_>) -> String {
    let name = event.resource.name.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
    let id = event.resource.id.as_ref().map_or(String::new(), |id| format!(" {}", plain(id)));
    format!("{}{name}{id}", plain(&event.resource.r#type))
}

fn who(event: &Event<'_>) -> String {
    let actor = &event.actor;
    match (&actor.domain_name, &actor.user_name) {
        (Some(domain), Some(user)) => plain(&format!("{domain}/{user}")),
        _ => plain(&actor.r#type),
    }
}

/// A text from a log, which may be anybody's, as a terminal may have it.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}
