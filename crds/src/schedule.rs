//! When a refresh is due: a cron line in a time zone.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron line is none.
    #[error("`{line}` is no cron line: {problem}")]
    Line {
        /// The line.
        line: String,
        /// What is wrong.
        problem: String,
    },
    /// It never comes, such as a 30th of February.
    #[error("`{0}` never comes; give a line that does")]
    Never(String),
    /// There is no such time zone.
    #[error("`{0}` is no time zone; give a name of the IANA database, such as `Europe/Berlin`")]
    TimeZone(String),
}

/// A cron line in a time zone. Where clocks go back, a time that comes twice counts once; where they go forward, a time
/// that is skipped counts right after.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    delay: Duration,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({} {} +{:?})", self.cron.as_str(), self.zone.iana_name().unwrap_or("UTC"), self.delay)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (self.cron.as_str(), &self.zone, self.delay) == (other.cron.as_str(), &other.zone, other.delay)
    }
}

impl Schedule {
    /// A schedule; UTC where no zone is named.
    ///
    /// # Errors
    /// The line is no cron line of five fields, or there is no such time zone.
    pub fn new(line: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone(name.to_owned()))?,
        };
        // Five fields, no seconds, and a day is one by day of month or by day of week: as in cron.
        let cron = CronParser::new()
            .parse(line)
            .map_err(|error| ScheduleError::Line { line: line.to_owned(), problem: error.to_string() })?;
        let schedule = Self { cron, zone, delay: Duration::ZERO };
        if schedule.next(Timestamp::UNIX_EPOCH).is_none() {
            return Err(ScheduleError::Never(line.to_owned()));
        }
        Ok(schedule)
    }

    /// The same schedule, each time put off by so much.
    pub fn put_off(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The first time after that one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let before_delay = after.checked_sub(self.delay).ok()?;
        let next = self.cron.find_next_occurrence(&before_delay.to_zoned(self.zone.clone()), false).ok()?;
        next.timestamp().checked_add(self.delay).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_zone_counts() {
        let schedule = Schedule::new("0 4 * * *", Some("America/Los_Angeles")).unwrap();
        assert_eq!(schedule.next(at("2026-07-01T00:00:00Z")), Some(at("2026-07-01T11:00:00Z")));
        assert_eq!(schedule.next(at("2026-12-01T00:00:00Z")), Some(at("2026-12-01T12:00:00Z")));
        assert_eq!(
            Schedule::new("0 4 * * *", None).unwrap().next(at("2026-07-01T04:00:00Z")),
            Some(at("2026-07-02T04:00:00Z"))
        );
    }

    #[test]
    fn clocks_that_go_back_or_forward_neither_repeat_nor_skip_a_day() {
        let schedule = Schedule::new("30 2 * * *", Some("Europe/Berlin")).unwrap();
        // Forward on 29 March 2026: there is no half past two.
        let day = schedule.next(at("2026-03-28T12:00:00Z")).unwrap();
        assert!(at("2026-03-29T00:59:00Z") < day && day < at("2026-03-29T02:00:00Z"), "{day}");
        // Back on 25 October 2026: it comes twice.
        let first = schedule.next(at("2026-10-24T12:00:00Z")).unwrap();
        let second = schedule.next(first).unwrap();
        assert_eq!(second, at("2026-10-26T01:30:00Z"), "after {first}");
    }

    #[test]
    fn a_delay_moves_each_time() {
        let schedule = Schedule::new("0 * * * *", None).unwrap().put_off(Duration::from_secs(90));
        assert_eq!(schedule.next(at("2026-01-01T00:00:30Z")), Some(at("2026-01-01T00:01:30Z")));
        assert_eq!(schedule.next(at("2026-01-01T00:01:30Z")), Some(at("2026-01-01T01:01:30Z")));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        assert!(matches!(Schedule::new("61 * * * *", None), Err(ScheduleError::Line { .. })));
        assert!(matches!(Schedule::new("* * * *", None), Err(ScheduleError::Line { .. })));
        assert!(matches!(Schedule::new("0 0 30 2 *", None), Err(ScheduleError::Never(_))));
        let error = Schedule::new("@daily", Some("Mars/Base")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`Mars/Base` is no time zone; give a name of the IANA database, such as `Europe/Berlin`"
        );
    }

    proptest! {
        #[test]
        fn the_next_time_is_always_later(
            line in prop::sample::select(vec!["* * * * *", "*/15 * * * *", "0 4 * * *", "0 0 1 * *", "30 2 * * 0", "@weekly"]),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe"]),
            second in 946_684_800i64..4_102_444_800,
            delay in 0u64..7200,
        ) {
            let schedule = Schedule::new(line, Some(zone)).unwrap().put_off(Duration::from_secs(delay));
            let after = Timestamp::from_second(second).unwrap();
            let next = schedule.next(after).unwrap();
            prop_assert!(next > after);
            // Nothing lies between: from any point before it, the same time comes next.
            let middle = Timestamp::from_second(i64::midpoint(after.as_second(), next.as_second())).unwrap();
            if middle > after && middle < next {
                prop_assert_eq!(schedule.next(middle), Some(next));
            }
        }
    }
}
