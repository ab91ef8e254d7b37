//! Which servers of one task to start and to stop, so that as many answer as were asked for while they are replaced: what
//! a Deployment does in a cluster.

/// A server, as far as this needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// It runs in the environment that is asked for now.
    pub current: bool,
    /// It answers.
    pub ready: bool,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// So many new servers.
    pub start: usize,
    /// These go.
    pub stop: Vec<String>,
}

/// One step: at most one server more than asked for runs at a time, and none that answers stops before another answers in
/// its place.
pub fn roll(servers: &[Server], wanted: usize) -> Roll {
    let current: Vec<&Server> = servers.iter().filter(|server| server.current).collect();
    let mut old: Vec<&Server> = servers.iter().filter(|server| !server.current).collect();
    // Those that do not answer are no loss.
    old.sort_by_key(|server| server.ready);
    let ready = current.iter().filter(|server| server.ready).count();
    // Old ones that answer are needed until new ones do.
    let needed = wanted.saturating_sub(ready);
    let answering = old.iter().filter(|server| server.ready).count();
    let mut spare = answering.saturating_sub(needed);
    let mut stop: Vec<String> = Vec::new();
    for server in &old {
        // An old one that does not answer goes at once: it would come up in the wrong place.
        if !server.ready || spare > 0 {
            spare = spare.saturating_sub(usize::from(server.ready));
            stop.push(server.name.clone());
        }
    }
    let mut surplus: Vec<&&Server> = current.iter().collect();
    surplus.sort_by_key(|server| server.ready);
    let too_many = current.len().saturating_sub(wanted);
    stop.extend(surplus.iter().take(too_many).map(|server| server.name.clone()));
    let missing = wanted.saturating_sub(current.len());
    let room = (wanted + 1).saturating_sub(servers.len() - stop.len());
    Roll { start: missing.min(room), stop }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(name: &str, current: bool, ready: bool) -> Server {
        Server { name: name.into(), current, ready }
    }

    #[test]
    fn servers_start_and_go_by_number() {
        assert_eq!(roll(&[], 2), Roll { start: 2, stop: vec![] });
        let two = [server("a", true, true), server("b", true, false)];
        assert_eq!(roll(&two, 2), Roll::default());
        assert_eq!(roll(&two, 1), Roll { start: 0, stop: vec!["b".into()] });
        assert_eq!(roll(&two, 0).stop.len(), 2);
    }

    #[test]
    fn an_old_server_goes_when_a_new_one_answers() {
        let old = server("old", false, true);
        assert_eq!(roll(std::slice::from_ref(&old), 1), Roll { start: 1, stop: vec![] });
        assert_eq!(roll(&[old.clone(), server("new", true, false)], 1), Roll::default());
        assert_eq!(roll(&[old, server("new", true, true)], 1), Roll { start: 0, stop: vec!["old".into()] });
        // One that never answered is no loss.
        assert_eq!(roll(&[server("old", false, false)], 1), Roll { start: 1, stop: vec!["old".into()] });
    }

    proptest! {
        #[test]
        fn replacing_ends_and_no_answer_is_lost(old in 0usize..5, broken in 0usize..3, wanted in 0usize..5) {
            let mut servers: Vec<Server> = (0..old).map(|i| server(&format!("old{i}"), false, true)).collect();
            servers.extend((0..broken).map(|i| server(&format!("broken{i}"), false, false)));
            let mut next = 0;
            for _ in 0..40 {
                let answering = servers.iter().filter(|server| server.ready).count();
                let step = roll(&servers, wanted);
                servers.retain(|server| !step.stop.contains(&server.name));
                let left = servers.iter().filter(|server| server.ready).count();
                prop_assert!(left >= answering.min(wanted), "{left} of {answering} answer, {wanted} wanted");
                for _ in 0..step.start {
                    servers.push(server(&format!("new{next}"), true, false));
                    next += 1;
                }
                prop_assert!(step.start == 0 || servers.len() <= wanted + 1);
                // One of them comes up.
                if let Some(server) = servers.iter_mut().find(|server| server.current && !server.ready) {
                    server.ready = true;
                }
            }
            prop_assert_eq!(servers.len(), wanted);
            prop_assert!(servers.iter().all(|server| server.current && server.ready));
        }
    }
}
