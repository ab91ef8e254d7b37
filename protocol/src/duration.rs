//! Durations as people and files write them.

use std::time::Duration;

use jiff::SignedDuration;

/// Canonical proto3 JSON (`0.050s`), or any unit (`50ms`, `1m30s`).
///
/// # Errors
/// What is wrong with a text that is no duration, or a negative one.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let duration: SignedDuration = text.parse().map_err(|_| "is no duration")?;
    Duration::try_from(duration).map_err(|_| "is negative")
}

/// Canonical proto3 JSON, such as `0.050s`.
pub fn print(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    let seconds = duration.as_secs();
    match nanos {
        0 => format!("{seconds}s"),
        _ if nanos.is_multiple_of(1_000_000) => format!("{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!("{seconds}.{:06}s", nanos / 1_000),
        _ => format!("{seconds}.{nanos:09}s"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_and_units_mean_the_same() {
        for text in ["50ms", "0.050s", "0.05s", "50000us", "50 ms"] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(50), "{text}");
        }
        assert_eq!(parse("1.000000001s").unwrap(), Duration::new(1, 1));
        assert_eq!(parse("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse("0s").unwrap(), Duration::ZERO);
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "50", "fifty", "50ms!", "s", "NaNs", "-", "1e9s", "99999999999999999999h"] {
            assert_eq!(parse(text).unwrap_err(), "is no duration", "{text}");
        }
        assert_eq!(parse("-1s").unwrap_err(), "is negative");
    }

    #[test]
    fn durations_print_as_canonical_json() {
        let print = |nanos| super::print(Duration::from_nanos(nanos));
        assert_eq!(print(0), "0s");
        assert_eq!(print(50_000_000), "0.050s");
        assert_eq!(print(1_000_500_000), "1.000500s");
        assert_eq!(print(2_000_000_001), "2.000000001s");
    }
}
