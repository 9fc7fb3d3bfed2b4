//! What can be wrong with a log, in words.

use std::fmt;

use crate::audit::event::EventError;
use crate::audit::note::NoteError;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// With one record.
    #[error("record {seq}: {fault}")]
    Record {
        /// The record.
        seq: i128,
        /// What.
        fault: RecordFault,
    },
    /// Records are not there.
    #[error("{} missing: what follows is record {next}", records(*first, *last))]
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// The one that stands there instead.
        next: u64,
    },
    /// A checkpoint and the log do not belong together.
    #[error("{named} of size {size}: {fault}")]
    Checkpoint {
        /// Which one.
        named: String,
        /// How many records it is of.
        size: u64,
        /// What.
        fault: CheckpointFault,
    },
    /// What stands as a checkpoint is none.
    #[error("{named}: is no checkpoint, or was changed so that it is none any more")]
    NotACheckpoint {
        /// Which one.
        named: String,
    },
    /// A checkpoint was taken away.
    #[error("checkpoint {missing} is missing: the next one there is checkpoint {found}")]
    CheckpointMissing {
        /// The first that is missing.
        missing: i64,
        /// The one that stands there instead.
        found: i64,
    },
    /// Records are not here, and nothing vouches for what stands in their place.
    #[error(
        "records {first}\u{2013}{last} are not here, and no checkpoint behind them vouches for the hashes in their place"
    )]
    Unproven {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// A key was named, and no checkpoint by it is left.
    #[error(
        "record {seq} names the key {key}, which signs at once, and no checkpoint is left: they were taken away"
    )]
    NeverSigned {
        /// The record.
        seq: u64,
        /// The key.
        key: String,
    },
    /// A checkpoint stands at another's place.
    #[error("checkpoint {found}: it stands where checkpoint {expected} should")]
    CheckpointOutOfPlace {
        /// Its number.
        found: i64,
        /// Whose place it is.
        expected: i64,
    },
    /// The newest checkpoint was signed with another key than the log says.
    #[error(
        "{named} of size {size}: it is signed by {signer}, and record {seq} says that {expected} signs from there on"
    )]
    WrongSigner {
        /// Which one.
        named: String,
        /// How many records it is of.
        size: u64,
        /// Who signed it.
        signer: String,
        /// The record that names the key.
        seq: u64,
        /// The key that it names.
        expected: String,
    },
    /// What is kept beside the records says something else than they do.
    #[error("{place}: {what}")]
    Beside {
        /// Where it stands: a table, or a file.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The state that the records lead to is not the one that is there.
    #[error("{0}")]
    State(String),
}

impl Finding {
    /// Something is wrong with what stands in a table or a file.
    #[must_use]
    pub fn beside(place: &str, what: impl fmt::Display) -> Self {
        Self::Beside { place: place.to_owned(), what: what.to_string() }
    }
}

/// What can be wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It stands at another's place.
    #[error("it stands where record {expected} should")]
    OutOfPlace {
        /// Whose.
        expected: u64,
    },
    /// The bytes and the leaf do not belong together.
    #[error("its bytes were changed: the leaf is not their hash")]
    Leaf,
    /// The bytes are no record.
    #[error(transparent)]
    Bytes(#[from] EventError),
    /// The bytes are more than a line.
    #[error("its bytes are not one line, as those of every record are")]
    NotALine,
    /// A column is not what the bytes say.
    #[error("its column {column} was changed: its bytes say something else")]
    Column {
        /// The column.
        column: &'static str,
    },
    /// The bytes say that they are another record.
    #[error("its bytes say that they are record {said}")]
    Seq {
        /// Which.
        said: u64,
    },
    /// A field of the bytes is not what it must be.
    #[error("its {field} is none")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The id is another record's.
    #[error("its trace_id is that of record {said}")]
    TraceId {
        /// Which.
        said: u64,
    },
    /// It is older than the one in front of it.
    #[error("its record_time goes back behind that of the record in front of it")]
    TimeGoesBack,
    /// It changes a key that did not sign.
    #[error(
        "it puts a new key in the place of {old}, which is not the one that signed until then, {expected}"
    )]
    WrongOldKey {
        /// The key that it says.
        old: String,
        /// The key in force.
        expected: String,
    },
    /// The old key did not agree.
    #[error("it puts a new key in force, and the old one's agreement {0}")]
    NotAgreed(NoteError),
    /// The new key did not sign, so whoever put it in force may not have it.
    #[error("it puts a new key in force, and that key's own signature {0}")]
    NotSigned(NoteError),
    /// They agreed to something else.
    #[error("it puts a new key in force, and what was signed is about other keys")]
    OtherAgreed,
    /// Nobody agreed.
    #[error(
        "it puts a new key in force without the old one's agreement, and no loss was accepted just before"
    )]
    NobodyAgreed,
}

/// What can be wrong with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFault {
    /// The signature.
    #[error("it {0}")]
    Note(#[from] crate::audit::checkpoint::CheckpointError),
    /// It is signed by a key that the log names, and that nothing outside it vouches for.
    #[error(
        "it is signed by {signer}, which is no key that is trusted here, nor one that such a key agreed to"
    )]
    Untrusted {
        /// The key.
        signer: String,
    },
    /// Another root.
    #[error("the log up to there is not what was signed: {since}")]
    Root {
        /// Which records it can be.
        since: Since,
    },
    /// The columns beside it are not what it says.
    #[error("its columns were changed: it says something else")]
    Columns,
    /// The ones in front of it are of more records, or it is one of them.
    #[error("it stands behind one of size {before}: it was moved, or put in once more")]
    OutOfOrder {
        /// The size of the largest in front of it.
        before: u64,
    },
    /// The file beside the database has it alone.
    #[error("the database does not have it, which keeps every checkpoint")]
    NotInside,
    /// The database has it alone.
    #[error("the file of checkpoints beside the database does not have it, which keeps all but the newest")]
    NotOutside,
    /// It was kept to tell, and nothing of what it tells of is here.
    #[error("it cannot be compared, as its records are not here: put the sealed segments where they belong")]
    NotHere,
    /// There are not as many records.
    #[error("the log ends at record {last}: its end was cut off, or an older copy put in its place")]
    Beyond {
        /// The last record there is.
        last: u64,
    },
    /// The log has lost what it is of; that was accepted, but nothing vouches for that.
    #[error(
        "the log does not have what was signed; record {seq} gives it up, but no checkpoint made after that record follows"
    )]
    GivenUpUnsigned {
        /// The record of the acceptance.
        seq: u64,
    },
    /// The log has lost what it is of; that was accepted, but this checkpoint was kept to tell.
    #[error(
        "the log does not have what was signed: record {seq} says that it was given up with --accept-audit-loss"
    )]
    GivenUp {
        /// The record of the acceptance.
        seq: u64,
    },
}

/// The records among which one was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = *self;
        if first > last {
            return f.write_str("what stands for the records in front of it was changed");
        }
        if first == last {
            return write!(f, "record {first} was changed");
        }
        write!(f, "at least one of the records {first}\u{2013}{last} was changed, added or taken away")
    }
}

/// `record 7 is`, `records 7–9 are`.
fn records(first: u64, last: u64) -> String {
    if first == last { format!("record {first} is") } else { format!("records {first}\u{2013}{last} are") }
}
