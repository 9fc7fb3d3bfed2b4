//! What somebody without rights, at full speed, costs the others.

use std::path::Path;

use ecs_groupd::access::action::Action;
use rusqlite::Connection;

use crate::contender::{Contender, Running};
use crate::load::{self, Ask};
use crate::{Error, access};

const CONNECTIONS: u32 = 64;

/// Who is there besides the one who creates groups.
#[derive(Clone, Copy, Debug)]
pub enum Other {
    Nobody,
    /// A load generator that asks for a page of nothing, which shows what sharing the machine costs.
    Reader,
    /// A user who may do nothing, and tries to create groups.
    Mallory,
}

impl Other {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Reader => "beside one who is only told that it is up",
            Self::Mallory => "beside one who is turned down",
        }
    }
}

/// What came of one run.
pub struct Run {
    /// Groups made in a second.
    pub creates: f64,
    /// Answers to the other in a second.
    pub others: f64,
    /// Records of the other's attempts.
    pub records: u64,
}

/// Loads a service from both sides at once.
pub fn run(database: &Path, other: Other, seconds: u32, folder: &Path) -> Result<Run, Error> {
    access::identities(&database.with_extension("identities"))?;
    let running = Running::start(Contender::ProductWithAccounts, database)?;
    let address = running.address;
    let load = |ask: &Ask, headers: &[(String, String)], name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        load::run_with_headers(address, ask, headers, CONNECTIONS, seconds, &folder)
    };
    let (alice, mallory) = (access::signed_headers(access::ALICE)?, access::signed_headers(access::MALLORY)?);
    let (creates, others) = std::thread::scope(|scope| -> Result<_, Error> {
        let others = scope.spawn(|| match other {
            Other::Nobody => Ok(0.0),
            Other::Reader => Ok(load(&Ask::Up, &[], "others")?.rate),
            Other::Mallory => Ok::<_, Error>(load(&Ask::Create, &mallory, "others")?.rate),
        });
        let creates = load(&Ask::Create, &alice, "creates")?;
        if creates.errors > 0 {
            return Err(format!("{} creates failed", creates.errors).into());
        }
        Ok((creates.rate, others.join().map_err(|_panic| "a thread panicked")??))
    })?;
    running.stop()?;
    let records = Connection::open(database)?.query_row(
        "select count(*) from audit_record where json_extract(bytes, '$.outcome') = 'denied'
             or json_extract(bytes, '$.action') = ?",
        [Action::SummarizeRefusals.row().name],
        |row| row.get::<_, i64>(0),
    )?;
    Ok(Run { creates, others, records: records.cast_unsigned() })
}
