//! What is answered, against plain candle.

use std::time::{Duration, Instant};

use unimodel_model::context::{Context, Value};
use unimodel_model::network::RankerConfig;
use unimodel_server::error::RankError;
use unimodel_server::ranking::{Ranking, Readiness};
use unimodel_server::request::{Candidates, Ids, ImputedFrom, RankRequest, RankResponse, Source};
use unimodel_server::runtime::Runtime;
use unimodel_server::timeout::Deadline;

use crate::fixture::{Fixture, Recipe, Served, ids, is_near, request, soon, tasks};
use crate::world::{Numbers, context};

fn rank(runtime: &Runtime, request: RankRequest) -> Result<RankResponse, RankError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(runtime.rank(request, soon()))
}

fn one(name: &str, value: Value) -> Context {
    Context::from([(name.to_owned(), value)])
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Any candidates: where they come from, which of them there are, and what is left out.
fn candidates(items: usize, numbers: &mut Numbers) -> (Candidates, Vec<u32>) {
    let all = || 0..items as u32;
    let name = |item: u32| format!("i{item}");
    let (source, chosen): (Source, Vec<u32>) = match numbers.below(3) {
        0 => (Source::All, all().collect()),
        1 => {
            let mut chosen: Vec<u32> = all().collect();
            chosen.sort_by_cached_key(|_| numbers.next());
            chosen.truncate(1 + numbers.below(items));
            (ids(chosen.iter().map(|i| name(*i))), chosen)
        }
        // As the catalogue of the fixture is made: the year of item `i` is 1950 + i, unless 4 divides i.
        _ => {
            let item = numbers.below(items) as u32;
            let year = one("year", Value::Number(f64::from(1950 + item)));
            (Source::Select(year), if item.is_multiple_of(4) { vec![] } else { vec![item] })
        }
    };
    let excluded: Vec<u32> = all().filter(|_| numbers.below(10) == 0).collect();
    let left = chosen.into_iter().filter(|item| !excluded.contains(item)).collect();
    (Candidates { source, exclude: excluded.into_iter().map(name).collect() }, left)
}

/// Large enough for several pieces.
const LARGE: usize = 4000;

#[test]
fn answers_are_those_of_plain_candle() {
    // Ranking so many again takes several pieces.
    let mut many = Recipe { items: LARGE, ..Recipe::ranked() };
    many.network.ranker = Some(RankerConfig { hidden: vec![24, 16], candidates: 1500 });
    for (recipe, cases) in [
        (Recipe::default(), 40),
        (Recipe::ranked(), 40),
        (Recipe { items: LARGE, ..Recipe::default() }, 12),
        (Recipe { items: LARGE, ..Recipe::ranked() }, 12),
        (many, 6),
    ] {
        let fixture = Fixture::new(&recipe);
        let served = Served::new(&fixture);
        let mut numbers = Numbers(recipe.items as u64);
        for _ in 0..cases {
            let head = numbers.below(3);
            let context = context(recipe.items, &mut numbers);
            let (candidates, items) = candidates(recipe.items, &mut numbers);
            let limit = 1 + numbers.below(recipe.items);
            let request = RankRequest { task: format!("h{head}").into(), context, candidates, limit };
            let full = fixture.full_context(&request.context, &Context::new());
            let expected = fixture.expected(head, &full, &items, limit);
            let response = rank(&served.runtime, request.clone()).unwrap();
            assert!(is_near(&response, &expected), "{request:?}\n{response:?}\n{expected:?}");
            assert_eq!(response.unknown, Ids::default());
            assert_eq!(&*response.model_version, "20260101T000000Z-00000001");
        }
    }
}

fn sources(response: &RankResponse) -> Vec<(&str, ImputedFrom)> {
    response.imputed.iter().map(|imputed| (&*imputed.element, imputed.source)).collect()
}

#[test]
fn a_profile_stands_in_for_what_the_request_does_not_give() {
    use ImputedFrom::{Default, Profile};
    let fixture = Fixture::new(&Recipe::default());
    let served = Served::new(&fixture);
    let items: Vec<u32> = (0..300).collect();
    let ask = |context: &Context| rank(&served.runtime, request("h0", context.clone(), Source::All, 10)).unwrap();

    let war = one("user", text("war"));
    let response = ask(&war);
    let elements = fixture.model.schema.context.iter().map(|element| &*element.name).filter(|name| *name != "user");
    let from = |name| if ["age", "country"].contains(&name) { Profile } else { Default };
    let expected: Vec<_> = elements.map(|name| (name, from(name))).collect();
    assert_eq!(sources(&response), expected, "in the schema's order");
    assert!(is_near(&response, &fixture.expected(0, &fixture.full_context(&war, &Context::new()), &items, 10)));
    assert_ne!(response.items, ask(&one("user", text("drama"))).items);

    // What the request gives wins, null does not.
    let mut given = war.clone();
    given.insert("age".into(), Value::Number(7.0));
    given.insert("country".into(), Value::Null);
    let response = ask(&given);
    assert_eq!(sources(&response)[0], ("country", Profile));
    let mut full = given.clone();
    full.insert("country".into(), text("comedy"));
    assert!(is_near(&response, &fixture.expected(0, &full, &items, 10)));

    // A user without a profile is no error.
    assert!(sources(&ask(&one("user", text("nobody")))).iter().all(|(_, source)| *source == Default));
}

#[test]
fn a_tasks_defaults_stand_in_behind_the_profile() {
    let fixture = Fixture::new(&Recipe::default());
    let mut tasks = tasks();
    tasks[0].context.defaults = one("country", text("drama"));
    tasks[0].context.defaults.insert("age".into(), Value::Number(30.5));
    let served = Served::new(&fixture);
    served.runtime.apply(&tasks).unwrap();
    let items: Vec<u32> = (0..300).collect();
    for context in
        [Context::new(), one("user", text("war")), one("user", text("drama")), one("age", Value::Number(1.0))]
    {
        let full = fixture.full_context(&context, &tasks[0].context.defaults);
        let response = rank(&served.runtime, request("h0", context, Source::All, 10)).unwrap();
        assert!(is_near(&response, &fixture.expected(0, &full, &items, 10)), "{full:?}");
    }
}

#[test]
fn unknown_candidates_are_named() {
    let fixture = Fixture::new(&Recipe::default());
    let served = Served::new(&fixture);
    let ask = |source| rank(&served.runtime, request("h0", Context::new(), source, 10)).unwrap();
    let response = ask(ids(["i3", "nothing", "i1", "", "i300"]));
    assert_eq!(response.unknown, ["nothing", "", "i300"].into_iter().collect());
    let mut ranked: Vec<&str> = response.items.ids.iter().collect();
    ranked.sort_unstable();
    assert_eq!(ranked, ["i1", "i3"]);
    let response = ask(ids(["nothing"]));
    assert_eq!((response.items.ids.len(), response.unknown.len()), (0, 1));
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let fixture = Fixture::new(&Recipe::default());
    let served = Served::new(&fixture);
    let mut tasks = tasks();
    tasks[1].context.required = vec!["query".into()];
    served.runtime.apply(&tasks).unwrap();
    let kind = |task: &str, context: Context, source| {
        rank(&served.runtime, request(task, context, source, 10)).unwrap_err().kind().name
    };
    let all = || Source::All;
    assert_eq!(kind("h9", Context::new(), all()), "unknown-task");
    assert_eq!(kind("h0", one("qeury", text("x")), all()), "unknown-element");
    assert_eq!(kind("h0", one("query", Value::Number(1.0)), all()), "wrong-type");
    assert_eq!(kind("h0", one("age", Value::Number(f64::NAN)), all()), "not-finite");
    assert_eq!(kind("h1", Context::new(), all()), "missing-element");
    assert_eq!(kind("h1", one("query", Value::Null), all()), "missing-element");
    assert_eq!(kind("h0", Context::new(), Source::Select(one("gernes", text("war")))), "unknown-attribute");
    assert_eq!(kind("h0", Context::new(), Source::Select(one("genres", Value::Number(1.0)))), "attribute-type");
    assert!(rank(&served.runtime, request("h1", one("query", text("x")), all(), 10)).is_ok());
}

#[test]
fn settings_that_do_not_fit_the_version_change_nothing() {
    let fixture = Fixture::new(&Recipe::default());
    let served = Served::new(&fixture);
    let refused = |change: &dyn Fn(&mut unimodel_server::config::ContextConfig)| {
        let mut tasks = tasks();
        tasks[0].timeout.default = Duration::from_millis(1);
        change(&mut tasks[2].context);
        served.runtime.apply(&tasks).unwrap_err().to_string()
    };
    let error = refused(&|context| context.required = vec!["counrty".into()]);
    assert!(error.starts_with("task `h2`: unknown context element `counrty` (did you mean `country`?)"), "{error}");
    let error = refused(&|context| context.defaults = one("age", text("old")));
    assert!(error.contains("context element `age` takes number, got a string"), "{error}");
    assert_eq!(served.runtime.task("h0").unwrap().timeout.default.as_secs(), 60);
}

#[test]
fn a_task_whose_head_is_missing_leaves_the_others_alone() {
    let fixture = Fixture::new(&Recipe::default());
    let served = Served::new(&fixture);
    let mut tasks = tasks();
    tasks[1].head = "future".into();
    let mut readiness = served.runtime.readiness();
    readiness.mark_unchanged();
    served.runtime.apply(&tasks).unwrap();
    assert!(readiness.has_changed().unwrap(), "who watches a task is told");
    let ask = |task| rank(&served.runtime, request(task, Context::new(), Source::All, 1));
    let error = ask("h1").unwrap_err();
    assert_eq!(error.kind().name, "not-ready");
    assert!(error.to_string().contains("version `20260101T000000Z-00000001` has no head `future`"), "{error}");
    assert!(served.runtime.task("h1").unwrap().version.as_ref().unwrap_err().contains("no head `future`"));
    readiness.mark_unchanged();
    served.runtime.activate(fixture.load());
    assert!(readiness.has_changed().unwrap());
    assert_eq!(served.runtime.unfit().len(), 1);
    assert!(ask("h0").is_ok());
}

#[test]
fn without_a_version_the_reason_is_told() {
    let served = Served::start(&tasks(), Default::default());
    served.runtime.not_ready("the store does not answer; next try in 2s".into());
    let ask = || rank(&served.runtime, request("h0", Context::new(), Source::All, 1));
    assert!(ask().unwrap_err().to_string().contains("the store does not answer"));
    assert!(matches!(&*served.runtime.readiness().borrow(), Readiness::NotReady { .. }));
    served.runtime.activate(Fixture::new(&Recipe::default()).load());
    served.runtime.not_ready("too late".into());
    assert_eq!(*served.runtime.readiness().borrow(), Readiness::Ready);
    assert!(ask().is_ok());
    served.runtime.stop();
    assert_eq!(ask().unwrap_err().kind().name, "not-ready");
    assert_eq!(*served.runtime.readiness().borrow(), Readiness::Stopping);
}

#[test]
fn a_request_whose_deadline_has_passed_is_not_computed() {
    let served = Served::new(&Fixture::new(&Recipe::default()));
    let timeout = Duration::from_millis(5);
    let past = Deadline { at: Instant::now(), timeout };
    let block = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for limit in 1..20 {
        let answer = block.block_on(served.runtime.rank(request("h0", Context::new(), Source::All, limit), past));
        assert_eq!(answer.unwrap_err(), RankError::DeadlineExceeded { timeout });
    }
    assert_eq!(served.runtime.statistics("h0").executions, 0);
    assert_eq!(served.metric("unimodel_rows_total{task=\"h0\"}"), 0.0);
}
