//! How many refused and denied attempts of one caller are recorded: so many a minute, so that nobody can fill the
//! disk, or hold up the writer, by being turned down. What goes beyond is counted, and the count is recorded; it is
//! answered one after the other, so that nobody can take the machine from the others either.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::id::UserId;
use crate::domain::time::Timestamp;

/// What "a minute" is.
pub(super) const MINUTE_MS: u64 = 60_000;

/// The time between two answers to a caller that is beyond its limit: 100 a second.
const TURN_EVERY: Duration = Duration::from_millis(10);
/// No answer is kept longer than this: a stop waits for it.
const TURN_MAX: Duration = Duration::from_secs(2);

/// The attempts of each caller that were turned down in its current minute.
#[derive(Debug)]
pub(super) struct Refusals {
    /// `None` for no limit.
    per_minute: Option<u32>,
    minutes: Mutex<HashMap<UserId, Minute>>,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    since: Timestamp,
    recorded: u32,
    not_recorded: u64,
    /// The begin of the minute of the first of those that were not recorded.
    not_recorded_since: Timestamp,
    /// When the next one beyond the limit is answered.
    next_turn: Option<Instant>,
}

impl Minute {
    const fn new(since: Timestamp) -> Self {
        Self { since, recorded: 0, not_recorded: 0, not_recorded_since: since, next_turn: None }
    }

    const fn ends_at(&self) -> Timestamp {
        self.since.plus_millis(MINUTE_MS)
    }

    fn add_not_recorded(&mut self, count: u64, since: Timestamp) {
        self.not_recorded_since =
            if self.not_recorded == 0 { since } else { self.not_recorded_since.min(since) };
        self.not_recorded += count;
    }
}

/// Attempts of one caller that were turned down and not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRecorded {
    /// The caller.
    pub user_id: UserId,
    /// How many.
    pub count: u64,
    /// The first minute's begin.
    pub since: Timestamp,
}

impl Refusals {
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        Self { per_minute, minutes: Mutex::default() }
    }

    /// How many more of this caller's may be recorded now; `None` for any number.
    pub(super) fn room(&self, user_id: UserId, now: Timestamp) -> Option<u32> {
        let per_minute = self.per_minute?;
        Some(self.with(|minutes| match minutes.get(&user_id) {
            Some(minute) if minute.ends_at() > now => per_minute.saturating_sub(minute.recorded),
            _ => per_minute,
        }))
    }

    /// Counts attempts that were turned down: those that are recorded, and those that are not.
    pub(super) fn count(&self, user_id: UserId, recorded: u32, not_recorded: u64, now: Timestamp) {
        if self.per_minute.is_none() {
            return;
        }
        self.with(|minutes| {
            let minute = minutes.entry(user_id).or_insert(Minute::new(now));
            if minute.ends_at() <= now {
                // What was not recorded of the minutes before waits for its summary.
                *minute = Minute { since: now, recorded: 0, ..*minute };
            }
            minute.recorded += recorded;
            minute.add_not_recorded(not_recorded, minute.since);
        });
    }

    /// When a caller that is beyond its limit is answered.
    pub(super) fn turn(&self, user_id: UserId, now: Instant) -> Instant {
        self.with(|minutes| {
            let Some(minute) = minutes.get_mut(&user_id) else { return now };
            let turn = minute.next_turn.map_or(now, |next| next.clamp(now, now + TURN_MAX));
            minute.next_turn = Some(turn + TURN_EVERY);
            turn
        })
    }

    /// What is still to be summed up; forgets the minutes that are over. What is not recorded after all is to be
    /// [put back](Self::put_back).
    pub(super) fn take(&self, now: Timestamp) -> Vec<NotRecorded> {
        self.with(|minutes| {
            let taken = minutes.iter_mut().filter(|(_, minute)| minute.not_recorded > 0);
            let taken = taken.map(|(user_id, minute)| {
                let count = std::mem::take(&mut minute.not_recorded);
                NotRecorded { user_id: *user_id, count, since: minute.not_recorded_since }
            });
            let taken = taken.collect();
            minutes.retain(|_, minute| minute.ends_at() > now);
            taken
        })
    }

    /// Has what could not be summed up wait for the next time.
    pub(super) fn put_back(&self, not_recorded: NotRecorded, now: Timestamp) {
        let NotRecorded { user_id, count, since } = not_recorded;
        self.with(|minutes| {
            minutes.entry(user_id).or_insert(Minute::new(now)).add_not_recorded(count, since);
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<UserId, Minute>) -> T) -> T {
        look(&mut self.minutes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId::from_bytes([1; 16]);
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn so_many_are_recorded_in_a_minute_and_the_rest_is_summed_up_once() {
        let refusals = Refusals::new(Some(3));
        assert_eq!(refusals.room(USER, NOW), Some(3));
        refusals.count(USER, 3, 0, NOW);
        assert_eq!(refusals.room(USER, NOW), Some(0));
        refusals.count(USER, 0, 5, NOW.plus_millis(MINUTE_MS - 1));
        assert_eq!(refusals.take(NOW), [NotRecorded { user_id: USER, count: 5, since: NOW }]);
        assert_eq!(refusals.take(NOW), []);
        assert_eq!(refusals.room(USER, NOW.plus_millis(MINUTE_MS - 1)), Some(0), "still the same minute");
        assert_eq!(refusals.room(USER, NOW.plus_millis(MINUTE_MS)), Some(3));
        refusals.count(USER, 1, 0, NOW.plus_millis(MINUTE_MS));
        assert_eq!(refusals.room(USER, NOW.plus_millis(MINUTE_MS)), Some(2));
    }

    #[test]
    fn what_was_not_recorded_is_summed_up_since_its_first_minute_and_waits_where_it_was_not_written() {
        let refusals = Refusals::new(Some(1));
        let (second, third) = (NOW.plus_millis(MINUTE_MS), NOW.plus_millis(2 * MINUTE_MS));
        refusals.count(USER, 1, 4, NOW);
        refusals.count(USER, 1, 3, second);
        let both = NotRecorded { user_id: USER, count: 7, since: NOW };
        assert_eq!(refusals.take(second), [both]);
        refusals.put_back(both, second);
        assert_eq!(refusals.room(USER, second), Some(0), "the minute goes on");
        assert_eq!(refusals.take(third), [both]);
        refusals.put_back(both, third);
        refusals.count(USER, 0, 1, third);
        assert_eq!(refusals.take(third), [NotRecorded { count: 8, ..both }]);
        refusals.count(USER, 0, 1, third);
        assert_eq!(refusals.take(third), [NotRecorded { user_id: USER, count: 1, since: third }]);
    }

    #[test]
    fn beyond_the_limit_a_caller_is_answered_in_turn_and_never_later_than_so_long() {
        let (refusals, now) = (Refusals::new(Some(0)), Instant::now());
        let turns = |count: usize, now: Instant| -> Vec<Duration> {
            (0..count).map(|_| refusals.turn(USER, now).duration_since(now)).collect()
        };
        assert_eq!(turns(2, now), [Duration::ZERO; 2], "nobody was turned down");
        refusals.count(USER, 0, 1, NOW);
        assert_eq!(turns(3, now), [Duration::ZERO, TURN_EVERY, 2 * TURN_EVERY]);
        let all = turns(1_000, now);
        assert_eq!((all[0], all[999]), (3 * TURN_EVERY, TURN_MAX));
        assert_eq!(turns(2, now + 2 * TURN_MAX), [Duration::ZERO, TURN_EVERY], "after a rest");
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let refusals = Refusals::new(None);
        refusals.count(USER, 7, 7, NOW);
        assert_eq!((refusals.room(USER, NOW), refusals.take(NOW)), (None, vec![]));
    }
}
