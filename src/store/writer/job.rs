//! What waits in the queue, and what was taken from it: nobody who waits is left without an answer.

use tokio::sync::oneshot;

use super::decide::Decision;
use crate::access::policy::{Denied, Permit};
use crate::domain::command::{Change, Command};
use crate::store::{Once, StoreError};

/// One attempt that waits to be written, and whom to answer.
#[derive(Debug)]
pub(in crate::store) enum Job {
    /// A permitted command: decide, change, record.
    Apply {
        permit: Permit,
        command: Command,
        once: Option<Once>,
        answer: oneshot::Sender<Result<Change, StoreError>>,
    },
    /// An attempt without rights: record.
    Record { denied: Denied, answer: oneshot::Sender<Result<(), StoreError>> },
}

/// Jobs that were taken from the queue. Whoever is not answered, because the writer panicked, is told that nobody
/// knows.
pub(super) struct Taken {
    pub(super) jobs: Vec<Job>,
}

impl Taken {
    /// Answers each job with its own decision. Whoever is gone does not hear it; what was committed stays.
    pub(super) fn answer_each(mut self, decisions: Vec<Decision>) {
        for (job, decision) in self.jobs.drain(..).zip(decisions) {
            match (job, decision) {
                (job, Decision::NotRecorded) => job.fail(&StoreError::TooManyRefusals),
                (Job::Apply { answer, .. }, Decision::Command(decision) | Decision::Again(decision)) => {
                    let _ = answer.send(decision.map_err(StoreError::from));
                }
                (Job::Record { answer, .. }, _) => {
                    let _ = answer.send(Ok(()));
                }
                (job @ Job::Apply { .. }, Decision::Denied) => {
                    job.fail(&StoreError::Database("a command was decided as a denial".to_owned()));
                }
            }
        }
    }

    /// Answers every job with the same error.
    pub(super) fn answer_all(mut self, error: &StoreError) {
        for job in self.jobs.drain(..) {
            job.fail(error);
        }
    }

    /// Each job as a batch of its own.
    pub(super) fn one_by_one(mut self) -> Vec<Self> {
        self.jobs.drain(..).map(|job| Self { jobs: vec![job] }).collect()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let unknown = StoreError::OutcomeUnknown("the writer stopped in the middle of it".to_owned());
        for job in self.jobs.drain(..) {
            job.fail(&unknown);
        }
    }
}

impl Job {
    /// A command whose answer nobody waits for.
    pub(super) fn unanswered(permit: Permit, command: Command) -> Self {
        Self::Apply { permit, command, once: None, answer: oneshot::channel().0 }
    }

    fn fail(self, error: &StoreError) {
        match self {
            Self::Apply { answer, .. } => {
                let _ = answer.send(Err(error.clone()));
            }
            Self::Record { answer, .. } => {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}
