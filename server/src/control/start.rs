//! The first version: prepared and activated when the server starts, and tried again until there is one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use unimodel_model::version::VersionId;

use super::{Control, Failure, Phase};
use crate::config::Start;

/// How long to wait before the next attempt: twice as long each time, up to a limit, and by a random share less so that
/// servers that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after so many failures (from 1), with a random number in 0..1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.max).mul_f64(1.0 - random / 2.0)
    }
}

/// Prepares and activates what is to be served at start, again and again until a version is active, however it came to
/// be. What `wanted` says changes with the configuration, and is tried at once when it does. Each failure is told to
/// `failed` with the wait that follows; an error from there ends it.
///
/// # Errors
/// What `failed` returns.
pub async fn start<E>(
    control: &Arc<Control>,
    mut wanted: watch::Receiver<Start>,
    backoff: Backoff,
    mut random: impl FnMut() -> f64,
    mut failed: impl FnMut(&Start, &Failure, Duration) -> Result<(), E>,
) -> Result<(), E> {
    let mut versions = control.versions();
    for failures in 1.. {
        let what = wanted.borrow_and_update().clone();
        let is_active = |versions: &super::Versions<_>| versions.active().is_some();
        let failure = tokio::select! {
            // Somebody may activate a version through the control port meanwhile.
            _ = versions.wait_for(is_active) => return Ok(()),
            result = attempt(control, &what) => match result {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            },
        };
        let delay = backoff.delay(failures, random());
        failed(&what, &failure, delay)?;
        tokio::select! {
            _ = versions.wait_for(is_active) => return Ok(()),
            Ok(()) = wanted.changed() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }
    Ok(())
}

async fn attempt(control: &Arc<Control>, what: &Start) -> Result<(), Failure> {
    let version = match what {
        Start::Version(version) => version.clone(),
        Start::Channel(channel) => control.cache().store()?.resolve_channel(channel).await?,
    };
    let refused = |refused: super::Refused| Failure { reason: "Busy", message: refused.to_string() };
    control.prepare(&version, None).map_err(refused)?;
    prepared(control, &version).await?;
    control.activate(&version).map(drop).map_err(refused)
}

/// Waits until the version is prepared.
async fn prepared(control: &Control, version: &VersionId) -> Result<(), Failure> {
    let mut versions = control.versions();
    let ended = |versions: &super::Versions<super::Prepared>| match versions.get(version).map(|held| &held.phase) {
        None => true,
        Some(phase) => matches!(phase, Phase::Prepared(_) | Phase::Active(_) | Phase::Failed(_)),
    };
    let Ok(versions) = versions.wait_for(ended).await else {
        return Err(Failure::internal("the server is going"));
    };
    match versions.get(version).map(|held| &held.phase) {
        Some(Phase::Failed(failure)) => Err(failure.clone()),
        Some(_) => Ok(()),
        None => Err(Failure { reason: "Discarded", message: format!("version `{version}` was discarded") }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };
        let waits: Vec<u128> = (1..9).map(|failures| backoff.delay(failures, 0.0).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.delay(3, 1.0), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_limit_or_shorter_than_half(failures in any::<u32>(), random in 0.0..1.0f64) {
            let delay = Backoff::default().delay(failures, random);
            prop_assert!(delay <= Backoff::default().max && delay >= Backoff::default().first / 2);
        }
    }
}
