//! From one version to another.

use jiff::SignedDuration;
use proptest::prelude::*;
use unimodel_crds::{RefreshPhase, Want};
use unimodel_operator::{Answer, Held, Operation, Phase, Trouble};

use crate::world::{V1, V2, V3, World, at};

const TWO: &str = "  model: {source: {uri: 'file:///s'}}
  tasks: [{name: search, replicas: {min: 2}, refresh: {schedule: '0 * * * *', loadTimeout: 60s}}]";

fn started() -> World {
    let mut world = World::new(TWO);
    world.settle();
    world
}

#[test]
fn the_first_server_finds_the_version_for_all() {
    let mut world = World::new(TWO);
    world.round();
    assert_eq!(world.servers.len(), 1);
    // The channel moves on: the second server comes up with what the first one found.
    world.settle();
    world.channel = V2.into();
    assert_eq!(world.servers.len(), 2);
    world.settle();
    assert_eq!(world.active(), [V1].into());
    assert_eq!(world.task("search").active_version.as_deref(), Some(V1));
}

#[test]
fn a_request_prepares_all_before_any_answers_by_it() {
    let mut world = started();
    world.channel = V2.into();
    world.request("search", "r1");
    world.round();
    assert_eq!(world.phase("search"), RefreshPhase::Resolving);
    world.round();
    assert_eq!(world.phase("search"), RefreshPhase::Preparing);
    // One of two is ready: nothing happens.
    world.servers[0].answer.as_mut().unwrap().held[0].phase = unimodel_operator::Phase::Prepared;
    assert_eq!(world.round().calls, []);
    assert_eq!(world.active(), [V1].into());
    world.prepare_all();
    let plan = world.round();
    assert!(plan.calls.iter().all(|call| matches!(call.operation, Operation::Activate { .. })));
    assert_eq!(plan.calls.len(), 2);
    world.settle();
    assert_eq!((world.active(), world.phase("search")), ([V2].into(), RefreshPhase::Idle));
    // The same request is not taken up twice.
    world.channel = V1.into();
    world.settle();
    assert_eq!(world.active(), [V2].into());
}

#[test]
fn a_version_that_fails_in_one_server_is_activated_in_none() {
    let mut world = started();
    world.channel = V2.into();
    world.broken.insert(V2.into());
    world.request("search", "r1");
    world.settle();
    let refresh = &world.task("search").refresh;
    assert_eq!((refresh.phase, refresh.target.as_deref()), (RefreshPhase::Failed, Some(V2)));
    assert_eq!(refresh.reason.as_deref(), Some("DigestMismatch"));
    assert!(refresh.message.as_ref().unwrap().starts_with("search-"), "{refresh:?}");
    assert_eq!(world.active(), [V1].into());
    assert!(world.servers.iter().all(|server| server.answer.as_ref().unwrap().held.is_empty()), "all have room again");
    // It is tried again when somebody asks, and not before.
    world.broken.clear();
    world.settle();
    assert_eq!(world.active(), [V1].into());
    world.request("search", "r2");
    world.settle();
    assert_eq!((world.active(), world.phase("search")), ([V2].into(), RefreshPhase::Idle));
    assert_eq!(world.task("search").refresh.reason, None);
}

#[test]
fn a_version_without_the_head_is_refused_before_any_server_is_asked() {
    let mut world = started();
    world.channel = V3.into();
    world.request("search", "r1");
    world.settle();
    let refresh = &world.task("search").refresh;
    assert_eq!(refresh.reason.as_deref(), Some("HeadMissing"));
    assert!(refresh.message.as_ref().unwrap().contains("has no head `search`; it has related"));
    assert!(!world.calls.iter().any(|call| matches!(call.operation, Operation::Prepare { .. })));
}

#[test]
fn what_takes_too_long_has_failed() {
    let mut world = started();
    world.channel = V2.into();
    world.request("search", "r1");
    world.round();
    world.round();
    world.now = world.now.checked_add(SignedDuration::from_secs(61)).unwrap();
    world.round();
    let refresh = &world.task("search").refresh;
    assert_eq!((refresh.phase, refresh.reason.as_deref()), (RefreshPhase::Failed, Some("LoadTimeout")));
    assert!(refresh.message.as_ref().unwrap().contains("search-1, search-2 not ready"), "{refresh:?}");
}

#[test]
fn a_store_that_is_away_is_told_and_the_next_tick_tries_again() {
    let mut world = started();
    world.store_away = true;
    world.now = at("2026-01-05T13:00:00Z");
    world.settle();
    assert_eq!(world.task("search").refresh.reason.as_deref(), Some("StoreUnavailable"));
    world.store_away = false;
    world.channel = V2.into();
    world.settle();
    assert_eq!(world.active(), [V1].into(), "not before the next tick");
    world.now = at("2026-01-05T14:00:00Z");
    world.settle();
    assert_eq!(world.active(), [V2].into());
}

#[test]
fn missed_ticks_collapse_into_one() {
    let mut world = started();
    world.now = at("2026-01-08T09:30:00Z");
    world.settle();
    let resolves = || world.calls.iter().filter(|call| matches!(call.operation, Operation::Resolve { .. })).count();
    assert_eq!(resolves(), 1);
    let next = world.task("search").next_refresh.as_ref().unwrap().0;
    assert_eq!(next, at("2026-01-08T10:00:00Z"));
}

#[test]
fn a_pin_is_followed_once_and_a_channel_never_meanwhile() {
    let mut world = started();
    world.channel = V3.into();
    world.model.want = Want::Version(V2.into());
    world.now = at("2026-01-06T09:30:00Z");
    world.settle();
    assert_eq!(world.active(), [V2].into());
    assert_eq!(world.task("search").next_refresh, None);
    // A pin that cannot be followed is told, and not tried again and again.
    world.broken.insert(V1.into());
    world.model.want = Want::Version(V1.into());
    world.settle();
    assert_eq!((world.active(), world.phase("search")), ([V2].into(), RefreshPhase::Failed));
}

#[test]
fn servers_that_cannot_start_with_one_pin_take_the_next() {
    let mut world = started();
    world.model.want = Want::Version(V2.into());
    world.status = Default::default();
    for server in &mut world.servers {
        let failed = Held { version: V2.into(), phase: Phase::Failed(Trouble::new("VersionNotFound", "not there")) };
        server.answer = Some(Answer { held: vec![failed], ..Answer::default() });
    }
    world.settle();
    assert_eq!(world.task("search").active_version.as_deref(), Some(V2));
    assert_eq!(world.active(), [].into());
    world.model.want = Want::Version(V1.into());
    world.settle();
    assert_eq!((world.active(), world.phase("search")), ([V1].into(), RefreshPhase::Idle));
}

#[test]
fn a_server_that_does_not_answer_comes_up_with_the_version_of_all() {
    let mut world = started();
    world.channel = V2.into();
    world.request("search", "r1");
    world.servers[1].answer = None;
    for _ in 0..5 {
        world.round();
        world.prepare_all();
    }
    assert_eq!(world.task("search").active_version.as_deref(), Some(V2));
    // It had only lost its connection, and still answers by the old one: it is brought along.
    world.servers[1].answer = Some(Answer { active: Some(V1.into()), ..Answer::default() });
    world.settle();
    assert_eq!(world.active(), [V2].into());
}

#[test]
fn tasks_move_at_their_own_times() {
    let mut world = World::new(
        "  model: {source: {uri: 'file:///s'}}
  tasks: [{name: search, refresh: {schedule: '0 * * * *'}}, {name: related, refresh: {schedule: '30 14 * * *'}}]",
    );
    world.settle();
    world.channel = V2.into();
    world.now = at("2026-01-05T13:00:00Z");
    world.settle();
    assert_eq!(world.task("search").active_version.as_deref(), Some(V2));
    assert_eq!(world.task("related").active_version.as_deref(), Some(V1));
    let model = world.status.model.as_ref().unwrap();
    assert_eq!((model.latest.as_deref(), model.oldest_served.as_deref(), model.skew), (Some(V2), Some(V1), 1));
    world.now = at("2026-01-05T14:30:00Z");
    world.settle();
    assert_eq!(world.task("related").active_version.as_deref(), Some(V2));
}

#[derive(Clone, Debug)]
enum Event {
    Round,
    Prepared,
    Restart(usize),
    Away(usize),
    Back(usize),
    Channel(&'static str),
    Break(&'static str),
    Mend,
    Store(bool),
    Request,
    Later(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let version = prop::sample::select(vec![V1, V2, V3]);
    prop_oneof![
        6 => Just(Event::Round),
        3 => Just(Event::Prepared),
        1 => (0usize..2).prop_map(Event::Restart),
        1 => (0usize..2).prop_map(Event::Away),
        1 => (0usize..2).prop_map(Event::Back),
        2 => version.clone().prop_map(Event::Channel),
        1 => version.prop_map(Event::Break),
        1 => Just(Event::Mend),
        1 => any::<bool>().prop_map(Event::Store),
        2 => Just(Event::Request),
        1 => (0u16..7200).prop_map(Event::Later),
    ]
}

proptest! {
    /// Whatever happens, and wherever the shell was cut off: no server ever answers by a version that cannot be prepared
    /// or lacks the head, and once the world is calm again a request brings all of them to the channel's version.
    #[test]
    fn all_servers_end_on_one_version(events in prop::collection::vec(event(), 0..60)) {
        let mut world = started();
        for (index, event) in events.into_iter().enumerate() {
            match event {
                Event::Round => drop(world.round()),
                Event::Prepared => world.prepare_all(),
                Event::Restart(i) => world.restart(i),
                Event::Away(i) => world.servers[i].answer = None,
                Event::Back(i) if world.servers[i].answer.is_none() => world.restart(i),
                Event::Back(_) => {}
                Event::Channel(version) => world.channel = version.into(),
                // What serves already has been prepared.
                Event::Break(version) if world.active().contains(version) => {}
                Event::Break(version) => drop(world.broken.insert(version.into())),
                Event::Mend => world.broken.clear(),
                Event::Store(away) => world.store_away = away,
                Event::Request => world.request("search", &format!("r{index}")),
                Event::Later(seconds) => {
                    world.now = world.now.checked_add(SignedDuration::from_secs(seconds.into())).unwrap();
                }
            }
            prop_assert!(!world.active().contains(V3), "a version without the head");
        }
        world.broken.clear();
        world.store_away = false;
        for index in 0..world.servers.len() {
            if world.servers[index].answer.is_none() {
                world.restart(index);
            }
        }
        world.settle();
        world.channel = V2.into();
        world.request("search", "last");
        world.settle();
        // What had failed in a server before is tried again with the next request.
        world.request("search", "very last");
        world.settle();
        prop_assert_eq!((world.active(), world.phase("search")), ([V2].into(), RefreshPhase::Idle));
        prop_assert_eq!(world.round().calls, vec![], "nothing to do in a calm world");
    }
}
