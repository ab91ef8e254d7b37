//! When a status is written: at once where it says something, and a little later where it only says that something is on its
//! way, since most of what that would say is over by then. Such writes were a third of all.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use unimodel_crds::{TaskStatus, UnifiedModelStatus};

use crate::conditions::ready_reason;

/// For how long what passes by waits.
const QUIET: Duration = Duration::from_secs(1);

/// For how long it waits while much else is to be done, or was to be done so long ago: others are still at it.
pub const BUSY: Duration = Duration::from_secs(20);

/// Reasons of what comes up as it should.
const PASSING: [&str; 2] = ["Starting", "GatewayStarting"];

/// Since when a status waits to be written, and for how long it may.
#[derive(Debug, Default)]
pub struct Pace(Option<(Instant, Duration)>);

impl Pace {
    /// For how long a status waits still; none where it is to be written now. `busy`: many objects wait to be
    /// worked on, or did within [`BUSY`].
    pub fn wait(
        &mut self,
        before: &UnifiedModelStatus,
        status: &UnifiedModelStatus,
        busy: bool,
        now: Instant,
    ) -> Option<Duration> {
        if !passes(before, status) {
            self.0 = None;
            return None;
        }
        let limit = if busy { BUSY } else { QUIET };
        let (since, longest) = self.0.get_or_insert((now, limit));
        // The last of many is begun when little is left to be done here, and much elsewhere.
        *longest = limit.max(*longest);
        let left = longest.checked_sub(now - *since).filter(|left| !left.is_zero());
        if left.is_none() {
            self.0 = None;
        }
        left
    }
}

/// Whether a status says no more than the one before but that something comes up. What a refresh needs to go on never waits:
/// whoever takes over finds it in the status.
fn passes(before: &UnifiedModelStatus, status: &UnifiedModelStatus) -> bool {
    let starts =
        |conditions: &[Condition]| ready_reason(conditions).is_some_and(|(reason, _)| PASSING.contains(&reason));
    let never = before.conditions.is_empty();
    let kept = |task: &TaskStatus| {
        let none = TaskStatus::default();
        let before = before.tasks.iter().find(|before| before.name == task.name).unwrap_or(&none);
        let version = before.active_version.is_none() || before.active_version == task.active_version;
        version && before.refresh == task.refresh && before.last_refresh == task.last_refresh
    };
    status != before
        && (never || starts(&before.conditions))
        && starts(&status.conditions)
        && status.tasks.iter().all(|task| starts(&task.conditions) || is_ready(&task.conditions))
        && status.tasks.iter().all(kept)
}

fn is_ready(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use unimodel_crds::RefreshPhase;

    use super::*;
    use crate::conditions::set_condition;
    use crate::snapshot::Trouble;

    fn status(ready: Result<&str, &str>, count: i32) -> UnifiedModelStatus {
        let mut status = UnifiedModelStatus::default();
        let mut task = TaskStatus { name: "search".into(), ready_replicas: count, ..TaskStatus::default() };
        let trouble = |reason: &str| Trouble::new(reason, "why");
        let ready = ready.map(trouble).map_err(trouble);
        for conditions in [&mut status.conditions, &mut task.conditions] {
            set_condition(conditions, "Ready", ready.clone(), 1, Timestamp::UNIX_EPOCH);
        }
        status.tasks.push(task);
        status
    }

    #[test]
    fn what_passes_by_waits_and_all_else_does_not() {
        let now = Instant::now();
        let wait = |before: &UnifiedModelStatus, after: &UnifiedModelStatus| {
            Pace::default().wait(before, after, false, now).is_some()
        };
        let (none, first, second) =
            (UnifiedModelStatus::default(), status(Err("Starting"), 0), status(Err("Starting"), 1));
        let (serving, unschedulable) = (status(Ok("Serving"), 2), status(Err("Unschedulable"), 0));
        assert!(wait(&none, &first) && wait(&first, &second));
        for (before, after) in [
            (&none, &serving),
            (&first, &serving),
            (&serving, &first),
            (&first, &unschedulable),
            (&unschedulable, &first),
            (&first, &first),
        ] {
            assert!(!wait(before, after), "{before:?} {after:?}");
        }
        let mut moves = second.clone();
        moves.tasks[0].refresh.phase = RefreshPhase::Preparing;
        assert!(!wait(&first, &moves));
        let mut found = second;
        found.tasks[0].last_refresh = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(!wait(&first, &found));
    }

    #[test]
    fn it_is_written_in_the_end_and_later_under_load() {
        let now = Instant::now();
        let (none, first) = (UnifiedModelStatus::default(), status(Err("Starting"), 0));
        let mut pace = Pace::default();
        assert_eq!(pace.wait(&none, &first, false, now), Some(QUIET));
        assert_eq!(pace.wait(&none, &first, false, now + QUIET / 2), Some(QUIET / 2));
        assert_eq!(pace.wait(&none, &first, true, now + QUIET), Some(BUSY - QUIET));
        assert_eq!(pace.wait(&none, &first, false, now + QUIET * 2), Some(BUSY - QUIET * 2));
        assert_eq!(pace.wait(&none, &first, false, now + BUSY), None);
        // What comes next waits anew.
        assert_eq!(pace.wait(&none, &first, false, now + BUSY), Some(QUIET));
        assert_eq!(pace.wait(&none, &first, false, now + BUSY + QUIET), None);
    }
}
