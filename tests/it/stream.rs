//! `GET /control/traces/stream`: every record once and in order, whoever reads along and however slowly, and from where
//! the reader left off.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use ecs_groupd::control::stream::STREAMS_MAX;
use ecs_groupd::identities::dev;
use serde_json::{Value, json};

use crate::checkpoint::DATABASE;
use crate::harness::{
    Answer, ControlAddress, NOW, Process, TestApp, all_records, connect, create_body, group_path,
    groups_path, read_answer,
};

const PATH: &str = "/control/traces/stream";
const BEARER: &str = "Authorization: Bearer dev-control-token\r\n";
/// A character of four bytes.
const LONG: &str = "\u{1f600}";
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One event, or a comment.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Trace { id: String, data: Value },
    Sealed(Value),
    Comment,
}

/// A reader, as an `EventSource` is one.
struct Reader {
    /// The record that it goes on behind, if it comes back before the next one.
    begins_behind: Option<String>,
    lines: BufReader<Chunks>,
}

/// A body in chunks.
struct Chunks {
    connection: BufReader<TcpStream>,
    left: usize,
}

impl std::io::Read for Chunks {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut size = String::new();
            self.connection.read_line(&mut size)?;
            if size.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.left = usize::from_str_radix(size.trim_end(), 16).unwrap();
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = self.left.min(bytes.len());
        let read = self.connection.read(&mut bytes[..most])?;
        self.left -= read;
        if self.left == 0 {
            let mut end = [0; 2];
            self.connection.read_exact(&mut end)?;
            assert_eq!(&end, b"\r\n");
        }
        Ok(read)
    }
}

/// Asks for the stream, without reading anything.
fn ask(control: SocketAddr, query: &str, headers: &str) -> TcpStream {
    let mut connection = connect(control);
    let request = format!("GET {PATH}{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    connection
}

fn refused(app: &TestApp, query: &str, headers: &str) -> Answer {
    read_answer(ask(address(app), query, &format!("{headers}Connection: close\r\n")))
}

fn address(app: &TestApp) -> SocketAddr {
    match &app.control {
        Some(ControlAddress::Tcp(address)) => *address,
        other => panic!("no control listener on TCP: {other:?}"),
    }
}

fn last_event_id(id: &str) -> String {
    format!("Last-Event-ID: {id}\r\n")
}

impl Reader {
    /// Begins to read; comes back when the stream has begun.
    fn new(control: SocketAddr, query: &str, headers: &str) -> Self {
        Self::of(ask(control, query, &format!("{BEARER}{headers}")))
    }

    /// From now on, in an app.
    fn live(app: &TestApp) -> Self {
        Self::new(address(app), "", "")
    }

    /// Behind this record.
    fn behind(app: &TestApp, id: &str) -> Self {
        Self::new(address(app), "", &last_event_id(id))
    }

    /// Reads the head of an answer.
    fn of(connection: TcpStream) -> Self {
        let mut connection = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(connection.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let head = head.to_lowercase();
        for header in
            ["content-type: text/event-stream", "cache-control: no-store", "transfer-encoding: chunked"]
        {
            assert!(head.contains(&format!("{header}\r\n")), "{head}");
        }
        let mut reader = Self { begins_behind: None, lines: BufReader::new(Chunks { connection, left: 0 }) };
        let mut first = reader.paragraph().unwrap();
        assert_eq!(first.pop().as_deref(), Some("retry: 1000"), "a reader comes back soon");
        reader.begins_behind = first.pop().map(|id| id.strip_prefix("id: ").unwrap().to_owned());
        assert_eq!(first, Vec::<String>::new());
        reader
    }

    /// The lines up to an empty one; `None` at the end of the stream.
    fn paragraph(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                assert_eq!(lines, Vec::<String>::new(), "the stream ended in the middle of an event");
                return None;
            }
            assert_eq!(line.pop(), Some('\n'));
            if line.is_empty() {
                return Some(lines);
            }
            lines.push(line);
        }
    }

    fn next(&mut self) -> Option<Event> {
        let lines = self.paragraph()?;
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let json = |data: &str| serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        Some(match lines[..] {
            [":"] => Event::Comment,
            [id, "event: trace", data] => {
                let id = id.strip_prefix("id: ").unwrap().to_owned();
                let data: Value = json(data);
                assert_eq!(data["trace_id"], id);
                Event::Trace { id, data }
            }
            ["event: sealed", data] => Event::Sealed(json(data)),
            _ => panic!("no event: {lines:?}"),
        })
    }

    /// The next record's id, which is the only thing that comes.
    fn id(&mut self) -> String {
        match self.next() {
            Some(Event::Trace { id, .. }) => id,
            other => panic!("no record: {other:?}"),
        }
    }

    fn ids(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.id()).collect()
    }

    /// The ids of what still comes until the stream ends.
    fn rest(mut self) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(event) = self.next() {
            match event {
                Event::Trace { id, .. } => ids.push(id),
                Event::Comment => {}
                Event::Sealed(range) => panic!("{range} was sealed"),
            }
        }
        ids
    }
}

/// The ids of all records, in order.
fn logged(database: &Path) -> Vec<String> {
    let records = all_records(database);
    records.iter().map(|record| record["trace_id"].as_str().unwrap().to_owned()).collect()
}

/// Creates groups from several clients at once.
fn create_at_once(app: &TestApp, clients: usize, each: usize, name: &str) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| (0..each).for_each(|_| drop(app.client.create(name))));
        }
    });
}

#[test]
fn a_reader_that_is_there_gets_each_record_once_and_in_order() {
    let app = TestApp::start();
    app.client.create("before");
    let before = logged(&app.database());
    let mut reader = Reader::live(&app);
    create_at_once(&app, 4, 25, "web");
    let id = app.client.create("web");
    assert_eq!(app.client.delete(&group_path(&id)).status, 204);
    assert_eq!(app.client.delete(&group_path(&id)).status, 404, "what is refused has its record too");
    assert_eq!(app.operate("POST", "/control/reset", "").status, 204);
    let told = reader.ids(104);
    assert_eq!(told, logged(&app.database())[before.len()..]);
    app.stop();
    assert_eq!(reader.rest(), Vec::<String>::new(), "and nothing twice");
}

#[test]
fn an_event_is_the_trace_that_the_listing_shows() {
    let app = TestApp::start();
    let mut reader = Reader::live(&app);
    app.client.create("Gr\u{fc}\u{df}e, \\n \"data: x\"");
    app.client.post_json(&groups_path(), &create_body("web"));
    let listed = app.client.get(&format!("/v3/{}/traces", dev::PROJECT_ID)).json()["traces"].clone();
    for nth in [1, 0] {
        let Some(Event::Trace { data, .. }) = reader.next() else { panic!("no record") };
        assert_eq!(data, listed[nth]);
    }
}

#[test]
fn from_the_beginning_or_behind_any_record_a_reader_gets_all_that_follows() {
    let app = TestApp::start();
    create_at_once(&app, 2, 120, "web");
    let all = logged(&app.database());
    assert_eq!(Reader::new(address(&app), "?since=beginning", "").ids(all.len()), all);
    for at in [0, 1, 99, 100, 101, all.len() - 2] {
        let mut reader = Reader::behind(&app, &all[at]);
        assert_eq!(reader.ids(all.len() - at - 1), all[at + 1..], "behind {at}");
    }
    // Behind the last one there is nothing yet.
    let mut reader = Reader::behind(&app, all.last().unwrap());
    // What the id says goes before what the query says, as an `EventSource` keeps its URL when it comes back.
    let mut again = Reader::new(address(&app), "?since=beginning", &last_event_id(all.last().unwrap()));
    app.client.create("new");
    let new = logged(&app.database()).pop().unwrap();
    assert_eq!([reader.id(), again.id()], [new.clone(), new]);
}

#[test]
fn over_stops_and_kills_a_reader_that_comes_back_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut told, mut query) = (Vec::<String>::new(), "?since=beginning");
    for round in 0..4 {
        let process = Process::serve(folder.path(), &["--database", DATABASE]);
        let url = process.ready["control_url"].as_str().unwrap();
        let control: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        let header = told.last().map_or(String::new(), |id| last_event_id(id));
        let mut reader = Reader::new(control, query, &header);
        query = "";
        (0..20).for_each(|nth| drop(process.client.create(&format!("group-{nth}"))));
        // It leaves off in the middle of what there is, or reads to the end.
        let so_far = logged(&folder.path().join(DATABASE)).len();
        told.extend(reader.ids(so_far - told.len() - 7));
        if round % 2 == 0 {
            drop(reader);
            process.kill();
        } else {
            process.signal_terminate();
            told.extend(reader.rest());
            assert_eq!(process.wait(), Some(0));
        }
    }
    let all = logged(&folder.path().join(DATABASE));
    assert_eq!(told, all[..told.len()]);
    assert_eq!(told.len(), all.len() - 1, "but for the stop, which is recorded when nobody reads any more");
}

#[test]
fn a_reader_that_comes_back_before_its_first_record_misses_nothing() {
    let app = TestApp::start();
    app.client.create("before");
    let before = logged(&app.database());
    let reader = Reader::live(&app);
    assert_eq!(reader.begins_behind.as_ref(), before.last());
    let begins_behind = reader.begins_behind.clone().unwrap();
    let app = TestApp::start_in(app.stop(), |_| {});
    assert_eq!(reader.rest(), Vec::<String>::new());
    let since = &logged(&app.database())[before.len()..];
    assert_eq!(Reader::behind(&app, &begins_behind).ids(since.len()), since);
    assert!(since.len() >= 2, "the stop and the start");
}

#[test]
fn a_last_event_id_that_is_none_of_this_log_is_400() {
    let app = TestApp::start();
    app.client.create("web");
    let ids = logged(&app.database());
    let id = ids.last().unwrap();
    let mut beyond = id.clone().into_bytes();
    beyond[12] = b'f';
    let beyond = String::from_utf8(beyond).unwrap();
    let mut other = id.clone().into_bytes();
    other[35] = if other[35] == b'0' { b'1' } else { b'0' };
    let other = String::from_utf8(other).unwrap();
    for (bad, problem) in [
        ("", "must be a trace_id, and is none."),
        ("1", "must be a trace_id, and is none."),
        (&id[1..], "must be a trace_id, and is none."),
        ("5bbcc3c4-1da2-4437-a48a-66f15b1b13fx", "must be a trace_id, and is none."),
        (
            "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9",
            "must be the trace_id of a record of this log, and is none.",
        ),
        (&beyond, "must be the trace_id of a record of this log, and is none."),
        (&other, "must be the trace_id of a record of this log, and is none."),
    ] {
        let answer = refused(&app, "", &format!("{BEARER}{}", last_event_id(bad)));
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text);
        assert_eq!(answer.json(), json!({ "error": format!("Last-Event-ID {problem}") }), "{bad}");
    }
    for bad in ["", "yesterday", "Beginning"] {
        let answer = refused(&app, &format!("?since={bad}"), BEARER);
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({ "error": "since must be \"beginning\", or be left out." }))
        );
    }
    // However its letters are written, it is the same id.
    Reader::behind(&app, &id.to_uppercase());
}

#[test]
fn without_the_operators_token_nobody_reads_along() {
    let app = TestApp::start();
    for headers in ["", "Authorization: Bearer x\r\n", "Authorization: dev-control-token\r\n"] {
        assert_eq!(refused(&app, "", headers).status, 401, "{headers}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(app.operate(method, PATH, "").status, 405, "{method}");
    }
    assert_eq!(app.client.get(PATH).status, 404, "it is not the API's");
}

#[test]
fn what_was_sealed_while_a_reader_was_away_is_told_as_a_gap() {
    let app = TestApp::start();
    (0..3).for_each(|nth| drop(app.client.create(&format!("old-{nth}"))));
    let old = logged(&app.database());
    let folder = app.stop();
    let sealed = logged(&folder.path().join(DATABASE)).len();
    let app =
        TestApp::start_at(NOW.plus_millis(3 * DAY_MS), folder, |settings| settings.audit.retention_days = 1);
    while all_records(&app.database())[0]["seq"] == 1 {
        thread::yield_now();
    }
    app.client.create("new");
    let kept = logged(&app.database());
    for at in [0, 1, old.len() - 1] {
        let mut reader = Reader::behind(&app, &old[at]);
        assert_eq!(reader.next(), Some(Event::Sealed(json!({ "first": at + 2, "last": sealed }))));
        assert_eq!(reader.ids(kept.len()), kept, "behind {at}");
    }
    // From the beginning is from the first one that is kept.
    let mut reader = Reader::new(address(&app), "?since=beginning", "");
    assert_eq!(reader.ids(kept.len()), kept);
    let mut reader = Reader::behind(&app, &kept[0]);
    assert_eq!(reader.ids(kept.len() - 1), kept[1..], "nothing is missing behind the first one that is kept");
}

#[test]
fn a_reader_that_takes_nothing_holds_nobody_up_and_misses_nothing() {
    let app = TestApp::start();
    // The answer's head stays unread with all that follows.
    let connection = ask(address(&app), "?since=beginning", BEARER);
    let mut quick = Reader::live(&app);
    // More than the kernel holds for a reader that takes nothing.
    create_at_once(&app, 4, 400, &LONG.repeat(255));
    let all = logged(&app.database());
    assert_eq!(quick.ids(1_600), all[all.len() - 1_600..], "another reader is not held up either");
    assert_eq!(Reader::of(connection).ids(all.len()), all);
}

#[test]
fn a_stop_ends_the_streams_and_waits_for_no_reader() {
    let app = TestApp::start();
    let idle = Reader::live(&app);
    let behind = Reader::new(address(&app), "?since=beginning", "");
    create_at_once(&app, 4, 400, &LONG.repeat(255));
    // More than the kernel holds for a reader that takes nothing.
    let stuck: Vec<TcpStream> = (0..4).map(|_| ask(address(&app), "?since=beginning", BEARER)).collect();
    let before = logged(&app.database());
    let readers: Vec<_> =
        [idle, behind].into_iter().map(|reader| thread::spawn(move || reader.rest())).collect();
    let folder = app.stop();
    let all = logged(&folder.path().join(DATABASE));
    assert_eq!(all.len(), before.len() + 1);
    for reader in readers {
        let told = reader.join().unwrap();
        assert!(all.windows(told.len().max(1)).any(|window| window == told) || told.is_empty());
    }
    drop(stuck);
}

#[test]
fn there_is_room_for_so_many_streams_and_a_closed_one_makes_room() {
    let app = TestApp::start();
    let mut readers: Vec<Reader> = (0..STREAMS_MAX).map(|_| Reader::live(&app)).collect();
    let answer = refused(&app, "", BEARER);
    assert_eq!(answer.status, 503);
    let message = format!(
        "The service cannot answer now because {STREAMS_MAX} streams are open, which is as many as may be: close one."
    );
    assert_eq!(answer.json(), json!({ "error": message }));
    assert_eq!(answer.header("retry-after"), Some("1"));
    // Each of them is served, and so is everybody else.
    assert_eq!(app.operate("POST", "/control/reset", "").status, 204);
    app.client.create("web");
    let told = logged(&app.database());
    for reader in &mut readers {
        assert_eq!(reader.ids(2), told[told.len() - 2..]);
    }
    drop(readers.pop());
    // That it is closed is noticed when the next record is written to it.
    while refused_once(&app) {
        app.client.create("web");
    }
}

/// Whether there is no room for another stream, which is closed again if there is.
fn refused_once(app: &TestApp) -> bool {
    let mut connection = ask(address(app), "", &format!("{BEARER}Connection: close\r\n"));
    let mut status = [0; 12];
    connection.read_exact(&mut status).unwrap();
    &status == b"HTTP/1.1 503"
}

#[test]
fn a_stream_in_which_nothing_happens_says_that_it_is_there() {
    let app = TestApp::start();
    let mut reader = Reader::live(&app);
    assert_eq!(reader.next(), Some(Event::Comment));
    app.client.create("web");
    assert_eq!(reader.id(), logged(&app.database()).pop().unwrap());
}
