//! `ecs-groupd audit verify`: a database or exports, against every checkpoint there is.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};

use super::sealed::{Segment, segments_up_to};
use super::words::plain;
use super::{AuditError, Keys, beside, line_of, on_log, open, read_notes};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::replay::Replay;
use crate::audit::segment::{self, SegmentError, SegmentReader};
use crate::audit::tree::Edge;
use crate::audit::verify::{Beside, Claim, Finding, Report, Source, Verifier};
use crate::store::StoreError;
use crate::store::log::Log;

/// Every so many records the progress bar moves.
const PROGRESS_RECORDS: u64 = 8_192;
/// How much of an export is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// What is verified, and with what.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The database, and whether the records are replayed and compared with what it holds; or exports, in the log's
    /// order.
    pub log: Which,
    /// The keys that are trusted.
    pub keys: Keys,
    /// A checkpoint, or a file of them, that was kept somewhere else.
    pub checkpoint: Option<PathBuf>,
}

/// Which log.
#[derive(Clone, Debug)]
pub enum Which {
    /// That of a database.
    Database {
        /// The file.
        database: PathBuf,
        /// Whether the state is compared, too.
        state: bool,
    },
    /// The one in these files.
    Exports(Vec<PathBuf>),
}

/// What is told at the end beside the verifier's report.
#[derive(Debug, Default)]
struct Notes {
    warnings: Vec<String>,
    /// What was compared that stands outside.
    compared: Vec<String>,
    is_state_compared: bool,
    /// Whether some of the log's records are not here.
    is_in_part: bool,
}

/// Verifies, and tells what came of it; whether the log is good.
///
/// # Errors
/// [`AuditError`], when it could not be found out.
pub fn verify(ask: &Ask, out: &mut impl io::Write) -> Result<bool, AuditError> {
    let mut notes = Notes::default();
    let report = match &ask.log {
        Which::Database { database, state } => {
            let file = beside(database, ".checkpoints");
            // Before the log: what is in the file by then was committed by then, also beside a running service.
            let outside = outside(ask, Some(&file), &mut notes)?;
            on_log(database, async |log| {
                verify_database(log, database, *state, ask, outside, &mut notes).await
            })?
        }
        Which::Exports(files) => verify_exports(files, ask, &mut notes)?,
    };
    tell(&report, &notes, out)?;
    Ok(report.finding_count == 0)
}

async fn verify_database(
    log: &mut Log,
    database: &Path,
    state: bool,
    ask: &Ask,
    outside: Outside,
    notes: &mut Notes,
) -> Result<Report, AuditError> {
    let beside_records = log.beside().await?;
    let (mut claims, gaps) = stored_claims(log).await?;
    let later = match &outside.own {
        Some(file) => Some(read_notes(file, true)?.notes.into_iter().map(|(_, note)| note).collect()),
        None => None,
    };
    outside.join(&mut claims);
    let mut verifier = begin(ask, claims)?;
    if let Some(later) = later {
        verifier.expect_beside(later);
    }
    for (at, finding) in gaps {
        verifier.add(at, finding);
    }
    let size = beside_records.edges.first().map_or(0, |row| row.size);
    let progress = progress(u64::try_from(size).unwrap_or_default());
    let mut replay = state.then(Replay::default);
    let oldest = log.oldest_seq().await?;
    let sealed_up_to = beside_records.edges.first().map_or(0, |row| row.sealed_up_to);
    let segments = segments_up_to(log, database, sealed_up_to.try_into().unwrap_or_default()).await?;
    verify_sealed(segments, &beside_records, oldest, &mut verifier, replay.as_mut(), &progress)?;
    for (first, last) in verifier.absent() {
        let folder = beside(database, ".segments");
        if state && verifier.finding_count() == 0 {
            return Err(AuditError::NotWhole { first: *first, last: *last, folder });
        }
        replay = None;
        notes.is_in_part = true;
        notes.warnings.push(format!(
            "records {first}\u{2013}{last} were not looked at: they were sealed, and their segments are not in {}",
            folder.display()
        ));
    }
    let mut count = verifier.edge().size();
    log.records(i64::MIN, |row| {
        let event = verifier.row(&row);
        if let (Some(replay), Some(event)) = (&mut replay, event) {
            replay.apply(&event);
        }
        count += 1;
        if count.is_multiple_of(PROGRESS_RECORDS) {
            progress.set_position(count);
        }
        Ok::<_, AuditError>(())
    })
    .await?;
    progress.finish_and_clear();
    if let Some(replay) = replay {
        compare_state(log, replay, &mut verifier).await?;
        notes.is_state_compared = true;
    }
    Ok(verifier.finish(Some(&beside_records)))
}

/// The checkpoints in the database, and those that are missing there.
async fn stored_claims(log: &mut Log) -> Result<(Vec<Claim>, Vec<(u64, Finding)>), AuditError> {
    let (mut claims, mut gaps, mut next) = (Vec::new(), Vec::new(), 1);
    // The largest so far: what is missing, or out of place, was behind it.
    let mut at = 0;
    log.checkpoints(|stored| {
        let id = stored.checkpoint_id;
        if id < next {
            gaps.push((at, Finding::CheckpointOutOfPlace { found: id, expected: next }));
        } else {
            if id > next {
                gaps.push((at, Finding::CheckpointMissing { missing: next, found: id }));
            }
            next = id.saturating_add(1);
        }
        at = at.max(u64::try_from(stored.size).unwrap_or_default());
        claims.push(Claim {
            source: Source::Log,
            named: format!("checkpoint {id}"),
            note: stored.note,
            columns: Some((stored.size, stored.hashes)),
        });
        Ok::<_, AuditError>(())
    })
    .await?;
    Ok((claims, gaps))
}

/// The checkpoints outside the log.
#[derive(Debug, Default)]
struct Outside {
    claims: Vec<Claim>,
    /// A last line that is not whole, and what it is called.
    torn: Option<(Claim, Vec<u8>)>,
    /// The file beside the database, if it is that which they are from.
    own: Option<PathBuf>,
}

impl Outside {
    /// Joins those of the log. A last line that a crash tore is the beginning of one of them, and says nothing more.
    fn join(self, claims: &mut Vec<Claim>) {
        if let Some((claim, torn)) = self.torn {
            let is_of_log =
                claims.iter().any(|own| line_of(&own.note).is_some_and(|line| line.starts_with(&torn)));
            if !is_of_log {
                claims.push(claim);
            }
        }
        claims.extend(self.claims);
    }
}

/// The checkpoints outside the log: in the file beside it, or where `--checkpoint` says.
fn outside(ask: &Ask, own: Option<&Path>, notes: &mut Notes) -> Result<Outside, AuditError> {
    let (file, source) = match (&ask.checkpoint, own) {
        (Some(file), _) => (&**file, Source::Elsewhere),
        (None, Some(file)) if file.exists() => (file, Source::Beside),
        (None, own) => {
            let missing = own.map_or(String::new(), |file| format!(": there is no {}", file.display()));
            notes.warnings.push(format!(
                "nothing outside the {} was compared{missing}",
                match own {
                    Some(_) => "database",
                    None => "export",
                }
            ));
            return Ok(Outside::default());
        }
    };
    let is_own = source == Source::Beside;
    let read = read_notes(file, is_own)?;
    // Whoever names a file wants something compared.
    if !is_own && !read.notes.iter().any(|(_, note)| Checkpoint::claimed(note).is_some()) {
        return Err(AuditError::NoCheckpointIn(file.to_owned()));
    }
    let claim = |line: usize, note| Claim {
        source,
        named: format!("checkpoint in line {line} of {}", file.display()),
        note,
        columns: None,
    };
    let claims: Vec<Claim> = read.notes.into_iter().map(|(line, note)| claim(line, note)).collect();
    notes.compared.push(format!("{} in {}", counted(claims.len() as u64, "checkpoint"), file.display()));
    let torn = read.torn.map(|(line, bytes)| (claim(line, String::new()), bytes));
    Ok(Outside { claims, torn, own: is_own.then(|| file.to_owned()) })
}

fn begin(ask: &Ask, claims: Vec<Claim>) -> Result<Verifier, AuditError> {
    let keys = if claims.is_empty() { ask.keys.read()? } else { ask.keys.read_some()? };
    Ok(Verifier::new(keys, claims))
}

/// Goes through the sealed segments that are here, up to the first record that the database has.
fn verify_sealed(
    segments: Vec<Segment>,
    beside: &Beside,
    oldest: Option<i64>,
    verifier: &mut Verifier,
    mut replay: Option<&mut Replay>,
    progress: &ProgressBar,
) -> Result<(), AuditError> {
    let Some(row) = beside.edges.first() else { return Ok(()) };
    let place = "audit_edge, where its sealed part ends";
    let Ok(up_to) = u64::try_from(row.sealed_up_to) else {
        verifier.add(0, Finding::beside(place, format!("it is behind record {}", row.sealed_up_to)));
        return Ok(());
    };
    for Segment { first, file, .. } in segments {
        if first <= verifier.edge().size() {
            // One before had more than its name says.
            continue;
        }
        let Some(reader) = reader(&file, verifier)? else { continue };
        let (place, behind) = (file.display().to_string(), reader.edge().size());
        verifier.expect_origin(reader.origin(), &place);
        if reader.edge().size() == verifier.edge().size() {
            verifier.expect_edge(reader.edge(), &place);
        } else {
            verifier.restart(reader.edge().clone(), &beside.keys);
        }
        let digest = go_through(reader, &file, verifier, replay.as_deref_mut(), progress)?;
        if let (Some(digest), Some(name)) = (digest, file.file_name().and_then(|name| name.to_str())) {
            verifier.expect_segment(name, &place, behind, &digest);
        }
    }
    match Edge::from_parts(up_to, &row.sealed_hashes) {
        Err(error) => verifier.add(0, Finding::beside(place, error)),
        Ok(edge) if verifier.edge().size() == up_to => verifier.expect_edge(&edge, place),
        Ok(edge) => match oldest {
            Some(oldest) if oldest != row.sealed_up_to.saturating_add(1) => {
                let what = format!("it is behind record {up_to}, and the first one there is record {oldest}");
                verifier.add(0, Finding::beside(place, what));
            }
            _ => verifier.restart(edge, &beside.keys),
        },
    }
    Ok(())
}

/// Reads, and digests what it reads.
struct Digesting {
    file: File,
    digest: Sha256,
}

impl Read for Digesting {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }
}

type Reader = SegmentReader<BufReader<Digesting>>;

/// A file behind its first line; `None` when it does not begin as one does, which is told.
fn reader(file: &Path, verifier: &mut Verifier) -> Result<Option<Reader>, AuditError> {
    let digesting = Digesting { file: open(file)?, digest: Sha256::new() };
    match SegmentReader::open(BufReader::with_capacity(READ_BYTES, digesting)) {
        Ok(reader) => Ok(Some(reader)),
        Err(SegmentError::Io(source)) => Err(AuditError::File { file: file.to_owned(), source }),
        Err(error) => {
            let place = file.display().to_string();
            verifier.add(verifier.edge().size(), Finding::beside(&place, format!("it {error}")));
            Ok(None)
        }
    }
}

/// The records of one file; the SHA-256 of the whole, if it was read to its end.
fn go_through(
    mut reader: Reader,
    file: &Path,
    verifier: &mut Verifier,
    mut replay: Option<&mut Replay>,
    progress: &ProgressBar,
) -> Result<Option<[u8; 32]>, AuditError> {
    let place = file.display().to_string();
    loop {
        match reader.next_record() {
            Ok(Some(bytes)) => {
                let event = verifier.line(bytes);
                if let (Some(replay), Some(event)) = (replay.as_deref_mut(), event) {
                    replay.apply(&event);
                }
                if verifier.edge().size().is_multiple_of(PROGRESS_RECORDS) {
                    progress.set_position(verifier.edge().size());
                }
            }
            Ok(None) => break,
            Err(SegmentError::Io(source)) => return Err(AuditError::File { file: file.to_owned(), source }),
            Err(error) => {
                let at = verifier.edge().size();
                verifier.add(at, Finding::beside(&place, format!("it {error}, behind record {at}")));
                return Ok(None);
            }
        }
    }
    if let Some(end) = reader.end() {
        let (size, found) = (end.size(), verifier.edge().size());
        if size == found {
            verifier.expect_edge(end, &format!("{place}, its last line"));
        } else {
            let what = format!("it says that the last record is record {size}, and it is record {found}");
            verifier.add(found, Finding::beside(&format!("{place}, its last line"), what));
        }
    }
    Ok(Some(reader.lines().get_ref().digest.clone().finalize().into()))
}

fn verify_exports(files: &[PathBuf], ask: &Ask, notes: &mut Notes) -> Result<Report, AuditError> {
    let (mut claims, mut total, mut shared) = (Vec::new(), 0, Vec::new());
    for file in files {
        let trailer = match segment::read_trailer(&mut open(file)?) {
            Ok(trailer) => trailer,
            Err(SegmentError::Io(source)) => return Err(AuditError::File { file: file.clone(), source }),
            // What is wrong is told when it is gone through.
            Err(_) => continue,
        };
        total = trailer.edge.size();
        let is_at_end = |note: &&String| Checkpoint::claimed(note).is_some_and(|own| own.size == total);
        let at_end: Vec<String> = trailer.checkpoints.iter().rev().take_while(is_at_end).cloned().collect();
        let own = trailer.checkpoints.into_iter().enumerate();
        // An export begins with those that the file in front of it ends with.
        for (at, note) in own.skip_while(|(_, note)| shared.contains(note)) {
            let named = format!("checkpoint {} of {}", at + 1, file.display());
            claims.push(Claim { source: Source::Log, named, note, columns: None });
        }
        shared = at_end;
    }
    outside(ask, None, notes)?.join(&mut claims);
    let mut verifier = begin(ask, claims)?;
    let progress = progress(total);
    for (at, file) in files.iter().enumerate() {
        let Some(reader) = reader(file, &mut verifier)? else { continue };
        verifier.expect_origin(reader.origin(), &format!("{}, its first line", file.display()));
        let (found, behind) = (reader.edge().size(), verifier.edge().size());
        if found == behind {
            verifier.expect_edge(reader.edge(), &format!("{}, its first line", file.display()));
        } else if at == 0 {
            notes.warnings.push(format!("records 1\u{2013}{found} are not in it"));
            notes.is_in_part = true;
            verifier.restart(reader.edge().clone(), &[]);
        } else {
            let what =
                format!("it goes on behind record {found}, and the one before ends with record {behind}");
            verifier.add(behind, Finding::beside(&file.display().to_string(), what));
            if found < behind {
                continue;
            }
            verifier.restart(reader.edge().clone(), &[]);
        }
        go_through(reader, file, &mut verifier, None, &progress)?;
    }
    progress.finish_and_clear();
    Ok(verifier.finish(None))
}

/// Compares what the records lead to with what the tables hold.
async fn compare_state(log: &mut Log, mut replay: Replay, verifier: &mut Verifier) -> Result<(), AuditError> {
    replay.begin_comparison();
    match compare_rows(log, &mut replay).await {
        Err(StoreError::Corrupt { table, key }) => {
            verifier.add(u64::MAX, Finding::beside(table, format!("it has a row that is none: {key}")));
        }
        compared => compared?,
    }
    let (differences, count) = replay.finish();
    let more = count - differences.len() as u64;
    for difference in differences {
        verifier.add(u64::MAX, Finding::State(difference));
    }
    verifier.add_more(more);
    Ok(())
}

async fn compare_rows(log: &mut Log, replay: &mut Replay) -> Result<(), StoreError> {
    log.groups(|row| replay.compare_group(&row)).await?;
    log.members(|project_id, group_id, server_id| replay.compare_member(project_id, group_id, server_id))
        .await?;
    log.servers(|row| replay.compare_server(&row)).await?;
    for (project_id, group_count) in log.group_counts().await? {
        replay.compare_count(project_id, group_count);
    }
    Ok(())
}

/// On a terminal, and nowhere else.
fn progress(total: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new(total);
    let template = "verifying {bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    progress
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn tell(report: &Report, notes: &Notes, out: &mut impl io::Write) -> io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{}", plain(&finding.to_string()))?;
    }
    let more = report.finding_count - report.findings.len() as u64;
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    for given_up in &report.given_up {
        writeln!(
            out,
            "{} of size {}: given up with --accept-audit-loss in record {}",
            plain(&given_up.named),
            given_up.size,
            given_up.seq
        )?;
    }
    for warning in &notes.warnings {
        writeln!(out, "warning: {}", plain(warning))?;
    }
    if report.finding_count > 0 {
        return writeln!(
            out,
            "the audit log does not verify: {}",
            match report.finding_count {
                1 => "1 thing is wrong".to_owned(),
                count => format!("{count} things are wrong"),
            }
        );
    }
    tell_good(report, notes, out)
}

fn tell_good(report: &Report, notes: &Notes, out: &mut impl io::Write) -> io::Result<()> {
    let (Some(first), Some((from, to))) = (report.first, report.times) else {
        return writeln!(
            out,
            "verified: the audit log has no records{}",
            match report.last {
                0 => String::new(),
                last => format!(" behind record {last}"),
            }
        );
    };
    let last = report.last;
    if report.covered.is_none() {
        writeln!(
            out,
            "warning: no checkpoint covers any record: they fit together, and nobody signed what they are"
        )?;
    }
    let of_those = if notes.is_in_part { "of the records that are here, " } else { "" };
    writeln!(out, "verified: {of_those}every record is as it was written, and none is missing")?;
    writeln!(
        out,
        "records      {first}\u{2013}{last} ({}), {} to {}",
        report.record_count,
        from.to_iso8601(),
        to.to_iso8601()
    )?;
    let earlier = match report.earlier_checkpoint_count {
        0 => String::new(),
        count => format!("; {} in front of record {first}", counted(count, "signature")),
    };
    writeln!(out, "checkpoints  {} reproduced{earlier}", report.checkpoint_count)?;
    if let Some((size, key)) = &report.covered {
        writeln!(out, "signed by    {key}")?;
        let uncovered = match last.saturating_sub(*size) {
            0 => "nothing is behind it".to_owned(),
            count => format!(
                "{} behind it {} not covered yet",
                counted(count, "record"),
                if count == 1 { "is" } else { "are" }
            ),
        };
        writeln!(out, "covered      up to record {size}; {uncovered}")?;
    }
    for compared in &notes.compared {
        writeln!(out, "compared     {}", plain(compared))?;
    }
    if notes.is_state_compared {
        writeln!(out, "state        groups, members and registered ECSs are those that the records lead to")?;
    }
    Ok(())
}
