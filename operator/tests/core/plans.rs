//! What is to be done for an object.

use unimodel_operator::{Answer, Held, Phase, Start, Trouble, plan, ready_reason, server_config};

use crate::world::{V1, World, model};

const SEARCH: &str = "  model: {source: {uri: 'file:///s'}}
  hardwareClasses: [{name: big, resources: {requests: {cpu: 4}}}]
  tasks:
  - name: search
    hardwareClass: big
    replicas: {min: 2, max: 5}
    inference: {maxConcurrency: 8, queueDepth: 9, maxCandidates: 10}
    cache: {ttl: 30s}
    context: {required: [query], defaults: {country: US}}
    timeout: {default: 50ms, max: 1m30s}
    fallback: [{task: cheap}, {static: Popularity}]
    rollout: {to: cheap, canaryPercent: 5}
    hedging: {minDelay: 3ms}
  - {name: cheap, head: search}
";

#[test]
fn a_whole_plan() {
    let mut world = World::new(SEARCH);
    insta::assert_json_snapshot!(world.settle());
}

#[test]
fn a_server_configuration_has_the_task_and_its_guests() {
    let mut world = World::new(SEARCH);
    let plan = world.settle();
    assert_eq!(plan.workloads[0].start, Start::Version(V1.into()));
    insta::assert_json_snapshot!(server_config(&world.model, &plan.workloads[1]));
}

#[test]
fn what_changes_in_a_running_server_does_not_replace_it() {
    let environment = |spec: &str| {
        let mut world = World::new(SEARCH);
        world.model = model(spec);
        plan(&world.snapshot()).workloads[0].environment.clone()
    };
    let before = environment(SEARCH);
    for (from, to) in
        [("50ms", "60ms"), ("maxConcurrency: 8", "maxConcurrency: 4"), ("ttl: 30s", "ttl: 1m"), ("min: 2", "min: 3")]
    {
        assert_eq!(environment(&SEARCH.replace(from, to)), before, "{to}");
    }
    assert_eq!(environment(&SEARCH.replace("big", "large")), before, "another name for the same");
    for (from, to) in [("cpu: 4", "cpu: 2"), ("maxConcurrency: 8", "workers: 1"), ("hardwareClass: big", "owner: x")] {
        assert_ne!(environment(&SEARCH.replace(from, to)), before, "{to}");
    }
}

/// Written down, so that a release that would replace every server of its users is noticed.
#[test]
fn the_environment_of_an_object_is_the_same_in_every_release() {
    let world = World::new("  model: {source: {uri: 'file:///s'}}\n  tasks: [{name: search}]");
    assert_eq!(plan(&world.snapshot()).workloads[0].environment, r#"["Cpu",{},{},{},[],1]"#);
}

#[test]
fn a_route_has_the_servers_that_answer() {
    let mut world = World::new(SEARCH);
    world.settle();
    assert_eq!(plan(&world.snapshot()).routes[0].endpoints.len(), 2);
    world.servers.iter_mut().find(|server| server.task == "search").unwrap().answer.as_mut().unwrap().draining = true;
    let plan = plan(&world.snapshot());
    assert_eq!(plan.routes[0].endpoints.len(), 1);
    assert_eq!(plan.routes[0].max_concurrency, 8, "of each server");
    assert_eq!(plan.status.ready_tasks.as_deref(), Some("1/2"));
}

#[test]
fn a_task_says_what_stands_in_its_way() {
    let mut world = World::new(SEARCH);
    world.settle();
    let says = |world: &World| {
        let status = plan(&world.snapshot()).status;
        let (reason, message) = ready_reason(&status.tasks[0].conditions).unwrap();
        let (whole, _) = ready_reason(&status.conditions).unwrap();
        assert_eq!(whole, reason);
        (reason.to_owned(), message.to_owned())
    };
    let fault = |reason: &str, message: &str| Trouble::new(reason, message);
    let index = world.servers.iter().position(|server| server.task == "search").unwrap();
    let name = world.servers[index].name.clone();

    world.servers[index].answer = None;
    world.servers[index].trouble = Some(fault("CrashLoop", "exit status 1: no memory"));
    let (reason, message) = says(&world);
    assert_eq!(
        (reason.as_str(), message),
        ("CrashLoop", format!("1 of 2 servers answer; {name}: exit status 1: no memory"))
    );

    let failed = |reason: &str| Answer {
        held: vec![Held { version: V1.into(), phase: Phase::Failed(fault(reason, "it has related")) }],
        ..Answer::default()
    };
    world.servers[index].trouble = None;
    world.servers[index].answer = Some(failed("UnknownHead"));
    assert_eq!(says(&world).0, "HeadMissing");
    world.servers[index].answer = Some(failed("GoldenMismatch"));
    assert_eq!(says(&world).0, "GoldenMismatch");
    // While it tries again, that is still so.
    world.status = plan(&world.snapshot()).status;
    world.servers[index].answer = Some(Answer::default());
    assert_eq!(says(&world).0, "GoldenMismatch");
    world.status = plan(&World::new(SEARCH).snapshot()).status;
    assert_eq!(says(&world).0, "Starting");
}

#[test]
fn a_task_that_is_scaled_is_as_it_should_be_when_all_that_were_asked_for_answer() {
    let mut world = World::new(SEARCH);
    world.settle();
    let says = |world: &World| {
        let task = plan(&world.snapshot()).status.tasks[0].clone();
        let (reason, message) = ready_reason(&task.conditions).unwrap();
        (reason.to_owned(), message.to_owned(), task.replicas)
    };
    assert_eq!(says(&world), ("Serving".into(), "2 servers answer".into(), 2));
    // One more is on its way: as many as the least answer.
    world.scaled.insert("search".into(), 3);
    assert_eq!(says(&world), ("Serving".into(), "2 of 3 servers answer".into(), 3));
    // It has no place.
    let mut third = world.servers.iter().find(|server| server.task == "search").unwrap().clone();
    third.name = "search-third".into();
    third.answer = None;
    third.trouble = Some(Trouble::new("Unschedulable", "0/1 nodes are available"));
    world.servers.push(third);
    let message = "2 of 3 servers answer; search-third: 0/1 nodes are available";
    assert_eq!(says(&world), ("Unschedulable".into(), message.into(), 3));
    // An autoscaler that somebody has put out of action by asking for none.
    world.servers.pop();
    world.scaled.insert("search".into(), 0);
    assert_eq!(says(&world), ("Serving".into(), "2 servers answer".into(), 2));
}

#[test]
fn a_condition_changes_its_time_only_where_it_changes() {
    let mut world = World::new(SEARCH);
    world.settle();
    let before = world.status.clone();
    world.now = world.now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    world.round();
    assert_eq!(world.status, before, "an hour later nothing is to be written");
}
