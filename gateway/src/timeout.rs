//! Deadlines: what a caller may ask for, what a task allows, and how the remaining time travels on.
//!
//! The rules are those of a model server: `docs/api.md`, "Deadlines".

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
pub use unimodel_transport::timeout::{
    Deadline, GRPC_TIMEOUT, InvalidTimeout, TIMEOUT, TimeoutPolicy, from_headers, parse,
};

/// When one environment's turn ends, so that a fallback still has time to answer: three quarters of the remaining time, or
/// all of it for the last of the chain.
pub fn turn(deadline: Deadline, now: Instant, is_last: bool) -> Instant {
    if is_last { deadline.at } else { now + deadline.at.saturating_duration_since(now).mul_f64(0.75) }
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
        assert_eq!(turn(deadline, now, false), now + ms(75));
        assert_eq!(turn(deadline, now, true), now + ms(100));
        assert_eq!(turn(deadline, now + ms(200), false), now + ms(200));
    }

    #[test]
    fn headers_that_are_no_durations_are_refused() {
        for (name, value) in [("grpc-timeout", "5ms"), ("grpc-timeout", ""), ("x-unimodel-timeout", "soon")] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert!(matches!(from_headers(&headers), Err(InvalidTimeout { .. })), "{name}: {value}");
        }
        let headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_bytes(&[0xff]).unwrap())]);
        assert!(from_headers(&headers).unwrap_err().to_string().contains("not ASCII"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in 0_u64..10_000_000_000, is_grpc: bool) {
            let mut headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static("9s"))]);
            write(&mut headers, Duration::from_micros(micros), is_grpc);
            let read = from_headers(&headers).unwrap().into_iter().flatten().min().unwrap();
            // gRPC has no room for the microseconds of a long timeout.
            let exact = !is_grpc || micros < 100_000_000;
            let expected = if exact { Duration::from_micros(micros) } else { Duration::from_millis(micros / 1000) };
            prop_assert_eq!(read, expected);
        }
    }
}
