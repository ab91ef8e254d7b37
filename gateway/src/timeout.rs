//! Deadlines: what a caller may ask for, what a task allows, and how the remaining time travels on.
//!
//! The rules are those of a model server: `docs/api.md`, "Deadlines".

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::SignedDuration;

use crate::error::GatewayError;

/// The header of that name in a request of any protocol takes what the `timeout` member of a body takes.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-unimodel-timeout");
/// The header of gRPC.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What a task allows.
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
    /// The smallest that was asked for, or else the default; at most the maximum.
    pub fn new(received: Instant, asked: [Option<Duration>; 2], policy: TimeoutPolicy) -> Self {
        let asked = asked.into_iter().flatten().min();
        let timeout = asked.unwrap_or(policy.default).min(policy.max);
        Self { at: received + timeout, timeout }
    }

    /// The error of a request that is not answered in time.
    pub fn exceeded(&self) -> GatewayError {
        GatewayError::DeadlineExceeded { timeout: self.timeout }
    }

    /// When one environment's turn ends, so that a fallback still has time to answer: three quarters of the remaining
    /// time, or all of it for the last of the chain.
    pub fn turn(&self, now: Instant, is_last: bool) -> Instant {
        if is_last { self.at } else { now + self.at.saturating_duration_since(now).mul_f64(0.75) }
    }
}

/// A duration in a routes file, a body or [`TIMEOUT`]: canonical proto3 JSON (`0.050s`), or any unit (`50ms`).
///
/// # Errors
/// [`GatewayError::InvalidTimeout`] where it is no duration or negative.
pub fn parse(text: &str) -> Result<Duration, GatewayError> {
    let invalid = |problem| GatewayError::InvalidTimeout { value: text.chars().take(40).collect(), problem };
    let duration: SignedDuration = text.parse().map_err(|_| invalid("is no duration"))?;
    Duration::try_from(duration).map_err(|_| invalid("is negative"))
}

/// A `grpc-timeout`: at most eight digits and a unit of `H`, `M`, `S`, `m`, `u`, `n`. See the gRPC over HTTP/2
/// protocol, "Timeout".
///
/// # Errors
/// [`GatewayError::InvalidTimeout`] where it is none.
pub fn parse_grpc(text: &str) -> Result<Duration, GatewayError> {
    let invalid = || GatewayError::InvalidTimeout {
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

/// The smallest timeout that a request's headers ask for.
///
/// # Errors
/// [`GatewayError::InvalidTimeout`] where one is no duration or negative. Zero is a deadline that has passed.
pub fn from_headers(headers: &HeaderMap) -> Result<Option<Duration>, GatewayError> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("(not ASCII)"));
    let grpc = text(GRPC_TIMEOUT).map(parse_grpc).transpose()?;
    let any = text(TIMEOUT).map(parse).transpose()?;
    Ok([grpc, any].into_iter().flatten().min())
}

/// Writes the remaining time where a request of that kind carries it, in place of what the caller asked for.
pub fn write(headers: &mut HeaderMap, remaining: Duration, is_grpc: bool) {
    headers.remove(TIMEOUT);
    headers.remove(GRPC_TIMEOUT);
    let micros = remaining.as_micros();
    if is_grpc {
        // Eight digits at most.
        let text = if micros < 100_000_000 { format!("{micros}u") } else { format!("{}m", remaining.as_millis()) };
        insert(headers, GRPC_TIMEOUT, &text);
    } else {
        insert(headers, TIMEOUT, &format!("{micros}us"));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
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
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_smallest_timeout_holds_and_none_exceeds_the_maximum() {
        let now = Instant::now();
        let policy = TimeoutPolicy { default: ms(50), max: ms(200) };
        let timeout = |asked| Deadline::new(now, asked, policy).timeout;
        assert_eq!(timeout([None, None]), ms(50));
        assert_eq!(timeout([Some(ms(100)), Some(ms(70))]), ms(70));
        assert_eq!(timeout([Some(ms(900)), None]), ms(200));
        assert_eq!(timeout([Some(ms(0)), Some(ms(10))]), ms(0));
    }

    #[test]
    fn a_turn_leaves_time_for_the_next() {
        let now = Instant::now();
        let deadline = Deadline { at: now + ms(100), timeout: ms(100) };
        assert_eq!(deadline.turn(now, false), now + ms(75));
        assert_eq!(deadline.turn(now, true), now + ms(100));
        assert_eq!(deadline.turn(now + ms(200), false), now + ms(200));
    }

    #[test]
    fn headers_that_are_no_durations_are_refused() {
        for (name, value) in [("grpc-timeout", "5ms"), ("grpc-timeout", ""), ("x-unimodel-timeout", "soon")] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert!(matches!(from_headers(&headers), Err(GatewayError::InvalidTimeout { .. })), "{name}: {value}");
        }
        let headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_bytes(&[0xff]).unwrap())]);
        assert!(from_headers(&headers).unwrap_err().to_string().contains("not ASCII"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in 0_u64..10_000_000_000, is_grpc: bool) {
            let mut headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static("9s"))]);
            write(&mut headers, Duration::from_micros(micros), is_grpc);
            let read = from_headers(&headers).unwrap().unwrap();
            // gRPC has no room for the microseconds of a long timeout.
            let exact = !is_grpc || micros < 100_000_000;
            let expected = if exact { Duration::from_micros(micros) } else { Duration::from_millis(micros / 1000) };
            prop_assert_eq!(read, expected);
        }
    }
}
