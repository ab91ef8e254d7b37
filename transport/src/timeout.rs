//! Timeouts as callers write them, and the deadline that follows from them.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use unimodel_protocol::duration;

/// A timeout that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timeout `{value}` {problem}")]
pub struct InvalidTimeout {
    /// As given, cut where it is long.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl InvalidTimeout {
    fn new(text: &str, problem: &'static str) -> Self {
        Self { value: text.chars().take(40).collect(), problem }
    }
}

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
    pub fn new(received: Instant, asked: impl IntoIterator<Item = Option<Duration>>, policy: TimeoutPolicy) -> Self {
        let asked = asked.into_iter().flatten().min();
        let timeout = asked.unwrap_or(policy.default).min(policy.max);
        Self { at: received + timeout, timeout }
    }
}

/// A `timeout` member or `x-unimodel-timeout` header: canonical proto3 JSON (`0.050s`), or any unit (`50ms`).
///
/// # Errors
/// [`InvalidTimeout`] where it is no duration or negative.
pub fn parse(text: &str) -> Result<Duration, InvalidTimeout> {
    duration::parse(text).map_err(|problem| InvalidTimeout::new(text, problem))
}

/// The header of that name in a request of any protocol takes what the `timeout` member of a body takes.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-unimodel-timeout");
/// The header of gRPC.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The timeouts that a request's headers ask for: [`GRPC_TIMEOUT`] and [`TIMEOUT`].
///
/// # Errors
/// [`InvalidTimeout`] where one is no duration or negative. Zero is a deadline that has passed.
pub fn from_headers(headers: &HeaderMap) -> Result<[Option<Duration>; 2], InvalidTimeout> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("(not ASCII)"));
    Ok([text(GRPC_TIMEOUT).map(parse_grpc).transpose()?, text(TIMEOUT).map(parse).transpose()?])
}

/// A `grpc-timeout` header: at most eight digits and a unit of `H`, `M`, `S`, `m`, `u`, `n`. See the gRPC over HTTP/2
/// protocol, "Timeout".
///
/// # Errors
/// [`InvalidTimeout`] where it is none.
pub fn parse_grpc(text: &str) -> Result<Duration, InvalidTimeout> {
    let invalid = || InvalidTimeout::new(text, "is no gRPC timeout of up to eight digits and one of H, M, S, m, u, n");
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_timeout_is_told_with_its_value() {
        let refused = |text| parse(text).unwrap_err();
        assert_eq!(refused("fifty").to_string(), "timeout `fifty` is no duration");
        assert_eq!(refused("-1s"), InvalidTimeout { value: "-1s".into(), problem: "is negative" });
        assert_eq!(refused(&"x".repeat(100)).value.len(), 40);
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
}
