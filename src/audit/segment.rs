//! A part of the log as a file of lines: what an export is, and a sealed segment.
//!
//! The first line tells the edge of the tree in front of the first record, so that a part can be checked by itself; then
//! the canonical bytes of each record, one a line; then the checkpoints of the sizes in between, one a line; the last
//! line tells the edge behind the last record, and how many checkpoints stand in front of it, in how many bytes. So
//! nothing grows but the number of lines, and the checkpoints are found from the end.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use base64ct::{Base64, Encoding as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audit::tree::{self, Edge, EdgeError};

/// The version of the format that is written.
const FORMAT_VERSION: u8 = 1;
/// The longest line that is read, in bytes: far more than any record.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much of a file's end is looked at for its last line, in bytes: an edge has 64 hashes at the most.
const TAIL_BYTES: u64 = 64 * 1024;
/// What a last line begins with. A record begins with its format version.
const LAST_LINE: &[u8] = br#"{"last":"#;
/// What a checkpoint's line begins with.
const CHECKPOINT: &[u8] = br#"{"checkpoint":"#;
/// What a record begins with.
const RECORD: &[u8] = br#"{"v":"#;

#[derive(Serialize, Deserialize)]
struct FirstLine {
    segment: u8,
    origin: String,
    first: u64,
    hashes: String,
}

#[derive(Serialize, Deserialize)]
struct LastLine {
    last: u64,
    hashes: String,
    checkpoints: u64,
    checkpoint_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct CheckpointLine<'note> {
    checkpoint: Cow<'note, str>,
}

/// What a file of lines is, that is no segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as one does.
    #[error("is no export of an audit log: its first line is not that of one")]
    NotASegment,
    /// A newer program wrote it.
    #[error("is an export of version {0}, and this ecs-groupd knows 1: use a newer one")]
    Newer(u8),
    /// It does not end as one does.
    #[error("has no last line that tells its end: it was cut")]
    Cut,
    /// Its end is not written as one is.
    #[error("has a last line that is not written as one: it was changed")]
    LastLine,
    /// A checkpoint is not written as one is.
    #[error("has a line that should be a checkpoint and is not written as one: it was changed")]
    CheckpointLine,
    /// It does not have the checkpoints that its end tells of.
    #[error("has a last line that tells of other checkpoints than stand in front of it")]
    OtherCheckpoints,
    /// It goes on after its end.
    #[error("goes on after the line that tells its end")]
    TooLong,
    /// Its first or last line tells an edge that can be none.
    #[error("tells an edge of the tree that is none: {0}")]
    Edge(#[from] EdgeError),
    /// The same, and it is not even written as one.
    #[error("tells an edge of the tree that is not written as one")]
    NotAnEdge,
    /// A line is longer than any that is written.
    #[error("has a line that is longer than any record")]
    LineTooLong,
}

/// The end of a segment, as its last line tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The edge behind its last record.
    pub edge: Edge,
    /// The checkpoints of the sizes in it, in the order in which they were made.
    pub checkpoints: Vec<String>,
}

/// Writes a segment, record by record.
#[derive(Debug)]
pub struct SegmentWriter<W> {
    out: W,
    edge: Edge,
    checkpoints: Checkpoints,
}

/// How many checkpoints there were, and the bytes of their lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checkpoints {
    count: u64,
    bytes: u64,
}

impl Checkpoints {
    /// One more, of a line without its end.
    const fn add(&mut self, line: &[u8]) {
        self.count += 1;
        self.bytes += line.len() as u64 + 1;
    }
}

impl<W: Write> SegmentWriter<W> {
    /// Begins a segment of the log `origin`, behind `edge`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(mut out: W, origin: &str, edge: Edge) -> io::Result<Self> {
        let line = FirstLine {
            segment: FORMAT_VERSION,
            origin: origin.to_owned(),
            first: edge.size() + 1,
            hashes: Base64::encode_string(&edge.to_bytes()),
        };
        write_line(&mut out, &serde_json::to_vec(&line)?)?;
        Ok(Self { out, edge, checkpoints: Checkpoints::default() })
    }

    /// The next record: its canonical bytes, and their leaf.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, bytes: &[u8], leaf: tree::Hash) -> io::Result<()> {
        self.edge.push(leaf);
        write_line(&mut self.out, bytes)
    }

    /// The edge behind the records so far.
    #[must_use]
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Behind the last record, the next checkpoint of a size in it, in the order in which they were made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn checkpoint(&mut self, note: &str) -> io::Result<()> {
        let line = serde_json::to_vec(&CheckpointLine { checkpoint: note.into() })?;
        self.checkpoints.add(&line);
        write_line(&mut self.out, &line)
    }

    /// Ends it, with these checkpoints and those that it was told before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, checkpoints: Vec<String>) -> io::Result<W> {
        for note in checkpoints {
            self.checkpoint(&note)?;
        }
        let line = LastLine {
            last: self.edge.size(),
            hashes: Base64::encode_string(&self.edge.to_bytes()),
            checkpoints: self.checkpoints.count,
            checkpoint_bytes: self.checkpoints.bytes,
        };
        write_line(&mut self.out, &serde_json::to_vec(&line)?)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn write_line(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.write_all(b"\n")
}

/// Reads a segment, record by record.
#[derive(Debug)]
pub struct SegmentReader<R> {
    lines: R,
    line: Vec<u8>,
    origin: String,
    edge: Edge,
    /// Those that went by.
    checkpoints: Checkpoints,
    end: Option<Edge>,
}

impl<R: BufRead> SegmentReader<R> {
    /// Reads its first line.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn open(mut lines: R) -> Result<Self, SegmentError> {
        let mut line = Vec::new();
        let is_whole = read_line(&mut lines, &mut line)?;
        let first: FirstLine = read_exactly(&line).ok_or(SegmentError::NotASegment)?;
        if first.segment != FORMAT_VERSION {
            return Err(SegmentError::Newer(first.segment));
        }
        if !is_whole || first.first == 0 {
            return Err(SegmentError::NotASegment);
        }
        let edge = read_edge(first.first - 1, &first.hashes)?;
        let checkpoints = Checkpoints::default();
        Ok(Self { lines, line, origin: first.origin, edge, checkpoints, end: None })
    }

    /// Which log it is of.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The edge in front of its first record.
    #[must_use]
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// What it is read from.
    #[must_use]
    pub const fn lines(&self) -> &R {
        &self.lines
    }

    /// The bytes of the next record; `None` when there are no more, and the rest is as it should be.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, SegmentError> {
        if self.end.is_some() {
            return Ok(None);
        }
        loop {
            if !read_line(&mut self.lines, &mut self.line)? {
                return Err(SegmentError::Cut);
            }
            if self.line.starts_with(LAST_LINE) {
                let (edge, checkpoints) = read_last_line(&self.line)?;
                if checkpoints != self.checkpoints {
                    return Err(SegmentError::OtherCheckpoints);
                }
                self.end = Some(edge);
                return if self.lines.fill_buf()?.is_empty() { Ok(None) } else { Err(SegmentError::TooLong) };
            }
            if self.line.starts_with(CHECKPOINT) {
                read_checkpoint(&self.line)?;
                self.checkpoints.add(&self.line);
                continue;
            }
            let is_last = self.lines.fill_buf()?.is_empty();
            if is_last && !self.line.starts_with(RECORD) {
                return Err(SegmentError::LastLine);
            }
            if self.checkpoints.count > 0 {
                return Err(SegmentError::CheckpointLine);
            }
            return Ok(Some(&self.line));
        }
    }

    /// The edge behind its last record, as its last line tells it, once there are no more records.
    #[must_use]
    pub const fn end(&self) -> Option<&Edge> {
        self.end.as_ref()
    }
}

/// The end of a segment, without reading the rest: checkpoints must be known before the records that they are of.
///
/// # Errors
/// [`SegmentError`].
pub fn read_trailer(file: &mut (impl Read + Seek)) -> Result<Trailer, SegmentError> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    Read::take(&mut *file, TAIL_BYTES).read_to_end(&mut tail)?;
    let lines = tail.strip_suffix(b"\n").ok_or(SegmentError::Cut)?;
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() == lines.len() {
        // No line stands in front of it, or it is longer than any last line is.
        return Err(SegmentError::LastLine);
    }
    let (edge, told) = read_last_line(line)?;
    let end = length - line.len() as u64 - 1;
    // With the end of the line in front of the first of them.
    let first = end.checked_sub(told.bytes).and_then(|first| first.checked_sub(1));
    file.seek(SeekFrom::Start(first.ok_or(SegmentError::OtherCheckpoints)?))?;
    let mut lines = BufReader::new(Read::take(file, told.bytes + 1));
    let (mut line, mut found, mut checkpoints) = (Vec::new(), Checkpoints::default(), Vec::new());
    if !read_line(&mut lines, &mut line)? || !line.is_empty() {
        return Err(SegmentError::OtherCheckpoints);
    }
    while read_line(&mut lines, &mut line)? {
        checkpoints.push(read_checkpoint(&line)?);
        found.add(&line);
    }
    if found != told {
        return Err(SegmentError::OtherCheckpoints);
    }
    Ok(Trailer { edge, checkpoints })
}

/// Reads a line, without its end; says whether it had one.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, SegmentError> {
    line.clear();
    Read::take(lines, LINE_BYTES_MAX).read_until(b'\n', line)?;
    let has_end = line.pop_if(|byte| *byte == b'\n').is_some();
    if !has_end && line.len() as u64 == LINE_BYTES_MAX {
        return Err(SegmentError::LineTooLong);
    }
    Ok(has_end)
}

/// A line that is written just as it is written here: one that says the same in another way was changed.
fn read_exactly<T: Serialize + DeserializeOwned>(line: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(line).ok()?;
    let is_exact = serde_json::to_vec(&read).is_ok_and(|written| written == line);
    is_exact.then_some(read)
}

fn read_last_line(line: &[u8]) -> Result<(Edge, Checkpoints), SegmentError> {
    let read: LastLine = read_exactly(line).ok_or(SegmentError::LastLine)?;
    let checkpoints = Checkpoints { count: read.checkpoints, bytes: read.checkpoint_bytes };
    Ok((read_edge(read.last, &read.hashes)?, checkpoints))
}

fn read_checkpoint(line: &[u8]) -> Result<String, SegmentError> {
    let read: CheckpointLine<'_> = read_exactly(line).ok_or(SegmentError::CheckpointLine)?;
    Ok(read.checkpoint.into_owned())
}

fn read_edge(size: u64, hashes: &str) -> Result<Edge, SegmentError> {
    let hashes = Base64::decode_vec(hashes).map_err(|_not_base64| SegmentError::NotAnEdge)?;
    Ok(Edge::from_parts(size, &hashes)?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn written(edge: &Edge, records: &[Vec<u8>], checkpoints: &[String]) -> Vec<u8> {
        let mut writer = SegmentWriter::begin(Vec::new(), "ecs-groupd/test", edge.clone()).unwrap();
        for bytes in records {
            writer.push(bytes, tree::leaf(bytes)).unwrap();
        }
        writer.finish(checkpoints.to_vec()).unwrap()
    }

    fn read(file: &[u8]) -> Result<(Edge, Vec<Vec<u8>>, Trailer), SegmentError> {
        let mut reader = SegmentReader::open(file)?;
        let mut records = Vec::new();
        while let Some(bytes) = reader.next_record()? {
            records.push(bytes.to_vec());
        }
        let trailer = read_trailer(&mut Cursor::new(file))?;
        assert_eq!(reader.end(), Some(&trailer.edge));
        Ok((reader.edge().clone(), records, trailer))
    }

    proptest! {
        #[test]
        fn a_segment_reads_back_what_it_writes(
            before in 0..9_u8,
            records in prop::collection::vec("\\{\"v\":1[ -~]{0,40}\\}", 0..20),
            checkpoints in prop::collection::vec("[ -~\n\u{2014}]{0,40}", 0..4),
        ) {
            let mut edge = Edge::default();
            for number in 0..before {
                edge.push(tree::leaf(&[number]));
            }
            let records: Vec<Vec<u8>> = records.into_iter().map(String::into_bytes).collect();
            let file = written(&edge, &records, &checkpoints);
            let (start, read_back, trailer) = read(&file).unwrap();
            prop_assert_eq!(&start, &edge);
            prop_assert_eq!(&read_back, &records);
            for bytes in &records {
                edge.push(tree::leaf(bytes));
            }
            prop_assert_eq!(&trailer, &Trailer { edge, checkpoints });
        }
    }

    #[test]
    fn however_many_checkpoints_there_are_no_line_is_longer_for_them() {
        let longest = |count: usize| {
            let checkpoints = vec!["x".repeat(300); count];
            let file = written(&Edge::default(), &[br#"{"v":1}"#.to_vec()], &checkpoints);
            assert_eq!(read(&file).unwrap().2.checkpoints, checkpoints);
            file.split(|byte| *byte == b'\n').map(<[u8]>::len).max()
        };
        assert_eq!(longest(2_000), longest(1));
    }

    #[test]
    fn checkpoints_that_the_last_line_does_not_tell_of_are_none() {
        let notes = ["one\n".to_owned(), "two\n".to_owned()];
        let file = String::from_utf8(written(&Edge::default(), &[br#"{"v":1}"#.to_vec()], &notes)).unwrap();
        let lines: Vec<&str> = file.split_inclusive('\n').collect();
        let [first, record, one, two, last] = lines[..] else { panic!("{file}") };
        let told = |count: u64, bytes: usize| {
            last.replace(r#""checkpoints":2"#, &format!(r#""checkpoints":{count}"#))
                .replace(&format!(":{}}}", one.len() + two.len()), &format!(":{bytes}}}"))
        };
        assert_eq!(told(2, one.len() + two.len()), last);
        for changed in [
            [first, record, two, last].concat(),
            [first, record, one, one, two, last].concat(),
            [first, record, one, two, &told(1, two.len())].concat(),
            [first, record, one, two, &told(1, one.len() + two.len())].concat(),
            [first, record, one, two, &told(2, usize::MAX)].concat(),
            [first, record, one, two, &told(2, file.len())].concat(),
            [first, record, one, two, &told(0, 0)].concat(),
        ] {
            let mut reader = SegmentReader::open(changed.as_bytes()).unwrap();
            reader.next_record().unwrap();
            assert!(matches!(reader.next_record(), Err(SegmentError::OtherCheckpoints)), "{changed}");
        }
        // In between, where the last line cannot tell.
        let inside = [first, one, record, &told(1, one.len())].concat();
        let mut reader = SegmentReader::open(inside.as_bytes()).unwrap();
        assert!(matches!(reader.next_record(), Err(SegmentError::CheckpointLine)), "{inside}");
    }

    #[test]
    fn what_is_cut_anywhere_or_goes_on_is_no_segment() {
        let file = written(&Edge::default(), &[br#"{"v":1}"#.to_vec()], &["note\n".to_owned()]);
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "{end}");
            assert!(read_trailer(&mut Cursor::new(&file[..end])).is_err(), "{end}");
        }
        let longer = [&file[..], b"\n"].concat();
        assert!(matches!(read(&longer), Err(SegmentError::TooLong)));
        let newer = String::from_utf8(file).unwrap().replacen(":1,", ":2,", 1);
        assert!(matches!(read(newer.as_bytes()), Err(SegmentError::Newer(2))));
        assert!(matches!(read(b"{}\n"), Err(SegmentError::NotASegment)));
    }
}
