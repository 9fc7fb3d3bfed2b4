//! `<database>.checkpoints`: every checkpoint there was, a line each, outside the database. Only ever appended to.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::store::sqlite::open::{beside, give_to_owner_of, open_beside, sync_folder_of};

/// More than the last line has, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// The file.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    path: PathBuf,
    database: PathBuf,
}

impl CheckpointFile {
    /// The file beside a database.
    pub(crate) fn of(database: &Path) -> Self {
        Self { path: beside(database, ".checkpoints"), database: database.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The newest checkpoint in it. A line that was torn, by a crash in the middle of it, does not count.
    pub(crate) fn newest(&self) -> io::Result<Option<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &tail[..end]);
        let line = whole.rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty());
        Ok(line.map(note))
    }

    /// All checkpoints in it, in their order, but for a line that was torn; none when there is no such file.
    pub(crate) fn notes(&self) -> io::Result<impl Iterator<Item = io::Result<String>> + use<>> {
        let mut lines = match File::open(&self.path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(std::iter::from_fn(move || {
            let mut line = Vec::new();
            match lines.as_mut()?.read_until(b'\n', &mut line) {
                Err(error) => Some(Err(error)),
                Ok(_) => line.strip_suffix(b"\n").map(|line| Ok(note(line))),
            }
        }))
    }

    /// Appends checkpoints, and comes back when they are on the disk. A torn last line is cut off first; what was
    /// written by a try that failed later on is not written twice.
    pub(crate) fn append(&self, notes: &[String]) -> io::Result<()> {
        let is_new = !self.path.exists();
        let mut file = open_beside(&self.path)?;
        if is_new {
            give_to_owner_of(&self.database, &file)?;
        }
        let mut lines = Vec::new();
        for note in notes {
            serde_json::to_writer(&mut lines, note)?;
            lines.push(b'\n');
        }
        let whole = whole_lines(&mut file)?;
        file.set_len(whole.end)?;
        if !whole.tail.ends_with(&lines) {
            file.seek(SeekFrom::End(0))?;
            file.write_all(&lines)?;
        }
        file.sync_data()?;
        // Or a power cut would leave a database with checkpoints and no file of them.
        if is_new { sync_folder_of(&self.path) } else { Ok(()) }
    }
}

/// The note in a line. A line that is none does not match any log, which is what its reader says then.
fn note(line: &[u8]) -> String {
    serde_json::from_slice(line).unwrap_or_else(|_not_json| String::from_utf8_lossy(line).into_owned())
}

/// What a file has up to the end of its last whole line.
struct WholeLines {
    end: u64,
    /// The last of the bytes up to there.
    tail: Vec<u8>,
}

fn whole_lines(file: &mut File) -> io::Result<WholeLines> {
    let bytes = file.metadata()?.len();
    let start = bytes.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    tail.truncate(tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    Ok(WholeLines { end: start + tail.len() as u64, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_is_read_and_a_torn_one_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::of(&folder.path().join("x.db"));
        assert_eq!(file.newest().unwrap(), None);
        file.append(&["one\n".to_owned(), "two\n\nsigned\n".to_owned()]).unwrap();
        assert_eq!(file.newest().unwrap().unwrap(), "two\n\nsigned\n");
        let whole = std::fs::read(file.path()).unwrap();
        for torn in [&b"\"thr"[..], b"\"three\""] {
            std::fs::write(file.path(), [&whole[..], torn].concat()).unwrap();
            assert_eq!(file.newest().unwrap().unwrap(), "two\n\nsigned\n");
        }
        file.append(&["four\n".to_owned()]).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "\"one\\n\"\n\"two\\n\\nsigned\\n\"\n\"four\\n\"\n");
        // A try that failed after it wrote is made once more.
        file.append(&["four\n".to_owned()]).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        std::fs::write(file.path(), "torn").unwrap();
        assert_eq!(file.newest().unwrap(), None);
    }
}
