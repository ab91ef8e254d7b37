//! Timeouts as callers write them, and the deadline that follows from them.

use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::SignedDuration;

use crate::error::RankError;

/// How long a task may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// When the caller asks for nothing.
    pub default: Duration,
    /// Whatever the caller asks for.
    pub max: Duration,
}

/// When a request must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment from which no answer is wanted.
    pub at: Instant,
    /// From the request's arrival to `at`.
    pub timeout: Duration,
}

impl Deadline {
    /// The smallest of what was asked for in the transport and in the body, or else the default; at most the maximum.
    pub fn new(received: Instant, asked: [Option<Duration>; 3], policy: TimeoutPolicy) -> Self {
        let asked = asked.into_iter().flatten().min();
        let timeout = asked.unwrap_or(policy.default).min(policy.max);
        Self { at: received + timeout, timeout }
    }

    /// The error of a request that is not answered in time.
    pub fn exceeded(&self) -> RankError {
        RankError::DeadlineExceeded { timeout: self.timeout }
    }
}

/// A `timeout` member or `x-unimodel-timeout` header: canonical proto3 JSON (`0.050s`), or any unit (`50ms`).
///
/// # Errors
/// [`RankError::InvalidTimeout`] where it is no duration or negative.
pub fn parse(text: &str) -> Result<Duration, RankError> {
    let invalid = |problem| RankError::InvalidTimeout { value: text.chars().take(40).collect(), problem };
    let duration: SignedDuration = text.parse().map_err(|_| invalid("is no duration"))?;
    Duration::try_from(duration).map_err(|_| invalid("is negative"))
}

/// The header of that name in a request of any protocol takes what the `timeout` member of a body takes.
pub const TIMEOUT_HEADER: &str = "x-unimodel-timeout";

/// The timeouts that a request's headers ask for: `grpc-timeout` and [`TIMEOUT_HEADER`].
///
/// # Errors
/// [`RankError::InvalidTimeout`] where one is no duration or negative. Zero is a deadline that has passed.
pub fn from_headers(headers: &HeaderMap) -> Result<[Option<Duration>; 2], RankError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("(not ASCII)"));
    Ok([text("grpc-timeout").map(parse_grpc).transpose()?, text(TIMEOUT_HEADER).map(parse).transpose()?])
}

/// A `grpc-timeout` header: at most eight digits and a unit of `H`, `M`, `S`, `m`, `u`, `n`. See the gRPC over HTTP/2
/// protocol, "Timeout".
///
/// # Errors
/// [`RankError::InvalidTimeout`] where it is none.
pub fn parse_grpc(text: &str) -> Result<Duration, RankError> {
    let invalid = || RankError::InvalidTimeout {
        value: text.chars().take(40).collect(),
        problem: "is no gRPC timeout of up to eight digits and one of H, M, S, m, u, n",
    };
    let unit = text.chars().last().ok_or_else(invalid)?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let count: u64 = digits.parse().map_err(|_| invalid())?;
    match unit {
        'H' => Ok(Duration::from_secs(count * 3600)),
        'M' => Ok(Duration::from_secs(count * 60)),
        'S' => Ok(Duration::from_secs(count)),
        'm' => Ok(Duration::from_millis(count)),
        'u' => Ok(Duration::from_micros(count)),
        'n' => Ok(Duration::from_nanos(count)),
        _ => Err(invalid()),
    }
}

/// Canonical proto3 JSON of a duration, such as `0.050s`.
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
            let error = parse(text).unwrap_err();
            assert!(matches!(error, RankError::InvalidTimeout { .. }), "{text}");
        }
        assert!(parse("-1s").unwrap_err().to_string().contains("is negative"));
    }

    #[test]
    fn grpc_timeouts_follow_the_protocol() {
        assert_eq!(parse_grpc("50m").unwrap(), Duration::from_millis(50));
        assert_eq!(parse_grpc("1H").unwrap(), Duration::from_secs(3600));
        assert_eq!(parse_grpc("99999999n").unwrap(), Duration::from_nanos(99_999_999));
        for text in ["", "m", "5", "123456789m", "-1m", "5µ", "5 m", "5ms"] {
            assert!(parse_grpc(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_smallest_timeout_holds() {
        let now = Instant::now();
        let policy = TimeoutPolicy { default: Duration::from_millis(50), max: Duration::from_millis(200) };
        let ms = |ms| Some(Duration::from_millis(ms));
        let timeout = |asked| Deadline::new(now, asked, policy).timeout.as_millis();
        assert_eq!(timeout([None, None, None]), 50);
        assert_eq!(timeout([ms(100), None, ms(70)]), 70);
        assert_eq!(timeout([ms(900), None, None]), 200);
        assert_eq!(timeout([None, ms(0), ms(10)]), 0);
        assert_eq!(Deadline::new(now, [ms(10), None, None], policy).at, now + Duration::from_millis(10));
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
