//! What is worth an event: what a person would want to hear of, once.

use unimodel_crds::{RefreshPhase, TaskStatus, UnifiedModelStatus};

use crate::conditions::ready_reason;

/// An event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// It is bad news.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub text: String,
}

/// Reasons that come and go by themselves.
const PASSING: [&str; 3] = ["Serving", "Starting", "Replacing"];

/// What has happened from one status to the next.
pub fn notes(before: &UnifiedModelStatus, now: &UnifiedModelStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let accepted = |status: &UnifiedModelStatus| {
        status.conditions.iter().find(|c| c.type_ == "Accepted").map(|c| (c.status.clone(), c.message.clone()))
    };
    if let Some((status, message)) = accepted(now)
        && status == "False"
        && accepted(before).is_none_or(|before| before != (status, message.clone()))
    {
        notes.push(Note { warning: true, reason: "Invalid".into(), text: message });
    }
    for task in &now.tasks {
        let old = before.tasks.iter().find(|old| old.name == task.name);
        notes.extend(readiness(old, task));
        notes.extend(refresh(old, task));
    }
    notes
}

fn readiness(before: Option<&TaskStatus>, now: &TaskStatus) -> Option<Note> {
    let (reason, message) = ready_reason(&now.conditions)?;
    let was = before.and_then(|before| ready_reason(&before.conditions)).map_or("", |(reason, _)| reason);
    if reason == was {
        return None;
    }
    let text = format!("{}: {message}", now.name);
    if !PASSING.contains(&reason) {
        return Some(Note { warning: true, reason: reason.to_owned(), text });
    }
    // That something has come up as it should is no news.
    let recovered = reason == "Serving" && !was.is_empty() && !PASSING.contains(&was);
    recovered.then(|| Note { warning: false, reason: "Recovered".into(), text })
}

fn refresh(before: Option<&TaskStatus>, now: &TaskStatus) -> Option<Note> {
    let before = before?;
    if now.refresh.phase == RefreshPhase::Failed && before.refresh != now.refresh {
        let (reason, message) = (now.refresh.reason.clone()?, now.refresh.message.clone().unwrap_or_default());
        return Some(Note { warning: true, reason, text: format!("{}: refresh failed: {message}", now.name) });
    }
    let (old, new) = (before.active_version.as_ref()?, now.active_version.as_ref()?);
    let text = format!("{}: {old} -> {new}", now.name);
    (old != new).then(|| Note { warning: false, reason: "Refreshed".into(), text })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::snapshot::Trouble;

    fn status(ready: Result<&str, &str>, version: &str, failed: Option<&str>) -> UnifiedModelStatus {
        let mut task =
            TaskStatus { name: "search".into(), active_version: Some(version.into()), ..TaskStatus::default() };
        let trouble = |reason: &str| Trouble::new(reason, "why");
        let ready = ready.map(trouble).map_err(trouble);
        crate::set_condition(&mut task.conditions, "Ready", ready, 1, Timestamp::UNIX_EPOCH);
        if let Some(reason) = failed {
            task.refresh.phase = RefreshPhase::Failed;
            task.refresh.reason = Some(reason.into());
        }
        UnifiedModelStatus { tasks: vec![task], ..UnifiedModelStatus::default() }
    }

    #[test]
    fn what_changes_is_told_once() {
        let told = |before: &UnifiedModelStatus, now: &UnifiedModelStatus| {
            notes(before, now).into_iter().map(|note| (note.warning, note.reason)).collect::<Vec<_>>()
        };
        let none = UnifiedModelStatus::default();
        let (serving, starting) = (status(Ok("Serving"), "v1", None), status(Err("Starting"), "v1", None));
        let killed = status(Err("OOMKilled"), "v1", None);
        assert_eq!(told(&none, &starting), []);
        assert_eq!(told(&starting, &serving), []);
        assert_eq!(told(&serving, &killed), [(true, "OOMKilled".into())]);
        assert_eq!(told(&killed, &killed), []);
        assert_eq!(told(&killed, &serving), [(false, "Recovered".into())]);
        assert_eq!(told(&serving, &status(Ok("Serving"), "v2", None)), [(false, "Refreshed".into())]);
        let failed = status(Ok("Serving"), "v1", Some("DigestMismatch"));
        assert_eq!(told(&serving, &failed), [(true, "DigestMismatch".into())]);
        assert_eq!(told(&failed, &failed), []);
    }
}
