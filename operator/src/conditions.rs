//! Conditions as Kubernetes has them: the time of the last change moves only where the condition changed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::snapshot::Trouble;

/// Sets one condition. `Ok` and `Err` are True and False.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    value: Result<Trouble, Trouble>,
    generation: i64,
    now: Timestamp,
) {
    let (status, Trouble { reason, message }) = match value {
        Ok(trouble) => ("True", trouble),
        Err(trouble) => ("False", trouble),
    };
    let before = conditions.iter().find(|condition| condition.type_ == kind);
    let last_transition_time = match before {
        Some(before) if before.status == status => before.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message: message.chars().take(4096).collect(),
        observed_generation: Some(generation),
        last_transition_time,
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// Reason and message of the condition `Ready`.
pub fn ready_reason(conditions: &[Condition]) -> Option<(&str, &str)> {
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((&ready.reason, &ready.message))
}
