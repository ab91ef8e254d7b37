//! The rules of the advice, each with its threshold.

use serde::Serialize;

use super::{AdviseInput, LabelKind, Numbers, SliceComparison, TaskAdvice, TaskInput};

/// A unified model below this share of the single-task model speaks against consolidating, even where the cases are
/// too few to call it significant.
pub const SMALLEST_RATIO: f64 = 0.95;

/// A task that has at most this share of its positives on items that any one other task ranks too does not rank the
/// same things: the item tower, which is most of what is shared, would learn nothing for it.
pub const UNSHARED_ITEMS: f64 = 0.1;

/// From this share on, the item tower learns for both.
pub const SHARED_ITEMS: f64 = 0.5;

/// Mean gradient cosine at or below which a task and the others undo each other's steps. Minibatch noise pulls
/// cosines towards zero, so that a mean this low is a conflict.
pub const CONFLICT: f64 = -0.1;

/// Mean gradient cosine from which on a step for the others helps the task.
pub const AGREEMENT: f64 = 0.1;

/// Share of its context elements that a task must have in common with one other for the context encoder to be shared
/// in more than name.
pub const SHARED_CONTEXT: f64 = 0.5;

/// A task with less than this share of all positives has too few of its own to learn good item vectors from.
pub const SMALL_TASK: f64 = 0.1;

/// What to do with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Decision {
    /// Learn it with the others.
    Consolidate,
    /// Train and host a model of its own.
    KeepSeparate,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The unified model against the single-task model.
    Measured,
    /// Whether the tasks rank the same items.
    Items,
    /// Whether their labels say the same kind of thing.
    LabelKind,
    /// Whether their gradients agree.
    Gradients,
    /// Whether their requests carry the same elements.
    Context,
    /// How many labels there are.
    Volume,
}

/// What a finding speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Weight {
    /// Settles it: consolidate.
    DecidesFor,
    /// For consolidating.
    For,
    /// Neither.
    Neutral,
    /// Against consolidating; two of these settle it.
    Against,
    /// Settles it: keep separate.
    DecidesAgainst,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What.
    pub rule: Rule,
    /// What it speaks for.
    pub weight: Weight,
    /// What was found, with its numbers.
    pub text: String,
    /// The numbers for a program.
    pub numbers: Numbers,
}

impl Finding {
    fn new(rule: Rule, weight: Weight, text: String, numbers: &[(&str, f64)]) -> Self {
        let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Self { rule, weight, text, numbers }
    }
}

/// Measured harm or gain settles the matter. Without either, a task that ranks other items stays separate, and so does
/// one that two findings speak against. All others are consolidated: one model less to train, host and mend.
pub(super) fn advise_task(input: &AdviseInput, task: &TaskInput) -> TaskAdvice {
    let alone = TaskAdvice {
        task: task.name.clone(),
        decision: Decision::KeepSeparate,
        because: "there is no other task to share a model with".into(),
        findings: Vec::new(),
    };
    if input.tasks.len() < 2 {
        return alone;
    }
    let findings = vec![
        measured(task),
        items(input, task),
        label_kind(input, task),
        gradients(input, task),
        context(input, task),
        volume(input, task),
    ];
    let (decision, because) = decide(&findings);
    TaskAdvice { decision, because, findings, ..alone }
}

fn decide(findings: &[Finding]) -> (Decision, String) {
    let settles = findings.iter().find(|f| matches!(f.weight, Weight::DecidesFor | Weight::DecidesAgainst));
    let against: Vec<&Finding> = findings.iter().filter(|f| f.weight == Weight::Against).collect();
    match settles {
        Some(f) if f.weight == Weight::DecidesFor => (Decision::Consolidate, f.text.clone()),
        Some(f) => (Decision::KeepSeparate, f.text.clone()),
        None if against.len() >= 2 => {
            let reasons: Vec<&str> = against.iter().map(|f| f.text.as_str()).collect();
            (Decision::KeepSeparate, reasons.join("; and "))
        }
        None => match against.first() {
            Some(f) => (Decision::Consolidate, format!("one finding alone speaks against it: {}", f.text)),
            None => (Decision::Consolidate, "nothing speaks against it".into()),
        },
    }
}

/// By the slice on which the unified model fares worst; where it is nowhere worse, by one on which it is better.
fn measured(task: &TaskInput) -> Finding {
    let harms = |c: &&SliceComparison| c.comparison.significant && c.comparison.difference < 0.0;
    let gains = |c: &&SliceComparison| c.comparison.significant && c.comparison.difference > 0.0;
    let ratio = |c: &SliceComparison| c.comparison.ratio.unwrap_or(f64::INFINITY);
    let by_ratio = |a: &&SliceComparison, b: &&SliceComparison| ratio(a).total_cmp(&ratio(b));
    let all = || task.comparisons.iter();
    let (weight, verdict, decisive) = if let Some(harm) = all().filter(harms).min_by(by_ratio) {
        (Weight::DecidesAgainst, "significant loss", harm)
    } else if let Some(low) = all().filter(|c| ratio(c) < SMALLEST_RATIO).min_by(by_ratio) {
        (Weight::Against, "a loss, though not significant", low)
    } else if let Some(gain) = all().find(gains) {
        (Weight::DecidesFor, "significant gain", gain)
    } else if let Some(worst) = all().min_by(by_ratio) {
        (Weight::For, "no loss shown", worst)
    } else {
        let text = "not compared with a single-task model".into();
        return Finding::new(Rule::Measured, Weight::Neutral, text, &[]);
    };
    let c = &decisive.comparison;
    let text = format!(
        "{verdict}: {} on {} is {} single-task, {:+.3} ({:+.3} to {:+.3})",
        decisive.metric.name(),
        decisive.slice.name(),
        c.ratio.map_or_else(|| "above a zero of".to_owned(), |r| format!("{r:.2} ×")),
        c.difference,
        c.low,
        c.high
    );
    let mut numbers = vec![("difference", c.difference), ("low", c.low), ("high", c.high)];
    numbers.extend(c.ratio.map(|r| ("ratio", r)));
    Finding::new(Rule::Measured, weight, text, &numbers)
}

/// By the other task that ranks most of the same items.
fn items(input: &AdviseInput, task: &TaskInput) -> Finding {
    let overlap = input.relations.item_overlap.get(&task.name);
    let best = overlap.and_then(|o| o.iter().max_by(|a, b| a.1.share.total_cmp(&b.1.share)));
    let Some((other, best)) = best else {
        return Finding::new(Rule::Items, Weight::Neutral, "item overlap not counted".into(), &[]);
    };
    let (weight, verdict) = if best.share <= UNSHARED_ITEMS {
        (Weight::DecidesAgainst, "it ranks other items than any other task")
    } else if best.share >= SHARED_ITEMS {
        (Weight::For, "it ranks the same items")
    } else {
        (Weight::Neutral, "it ranks some of the same items")
    };
    let text = format!(
        "{verdict}: {:.0} % of its positives are on items of `{other}` (Jaccard {:.2})",
        best.share * 100.0,
        best.jaccard
    );
    Finding::new(Rule::Items, weight, text, &[("share", best.share), ("jaccard", best.jaccard)])
}

fn label_kind(input: &AdviseInput, task: &TaskInput) -> Finding {
    let same = input.tasks.iter().filter(|t| t.name != task.name && t.label_kind == task.label_kind).count();
    let kind = match task.label_kind {
        LabelKind::Choice => "a choice out of all items",
        LabelKind::Graded => "a grade of one item",
    };
    let others = input.tasks.len() - 1;
    let (weight, text) = if same == 0 {
        (Weight::Against, format!("no other task has labels of its kind ({kind})"))
    } else {
        (Weight::For, format!("labels of the same kind ({kind}) as {same} of {others} other tasks"))
    };
    Finding::new(Rule::LabelKind, weight, text, &[("sameKind", same as f64), ("others", others as f64)])
}

fn gradients(input: &AdviseInput, task: &TaskInput) -> Finding {
    let row = input.relations.gradient_cosine.get(&task.name);
    let others: Vec<(&String, f64)> =
        row.into_iter().flatten().filter(|(other, _)| **other != task.name).map(|(o, c)| (o, *c)).collect();
    let Some((worst, lowest)) = others.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Finding::new(Rule::Gradients, Weight::Neutral, "gradient agreement not measured".into(), &[]);
    };
    let mean = others.iter().map(|o| o.1).sum::<f64>() / others.len() as f64;
    let (weight, verdict) = if mean <= CONFLICT {
        (Weight::Against, "its gradients work against the other tasks'")
    } else if mean >= AGREEMENT {
        (Weight::For, "its gradients agree with the other tasks'")
    } else {
        (Weight::Neutral, "its gradients neither help nor hinder the other tasks'")
    };
    let text = format!("{verdict}: mean cosine {mean:+.2}, lowest {lowest:+.2} with `{worst}`");
    Finding::new(Rule::Gradients, weight, text, &[("mean", mean), ("lowest", *lowest)])
}

/// By the other task with which it has most elements in common. Never against: without a common element the tasks
/// still share the item tower.
fn context(input: &AdviseInput, task: &TaskInput) -> Finding {
    let labels = &input.relations.labels;
    let own = labels.get(&task.name).map(|l| l.elements.as_slice()).unwrap_or_default();
    let others = input.tasks.iter().filter(|t| t.name != task.name);
    let common = others.filter_map(|other| {
        let theirs = &labels.get(&other.name)?.elements;
        Some((own.iter().filter(|e| theirs.contains(e)).count(), &other.name))
    });
    // The first of equals.
    let best = common
        .fold(None, |best: Option<(usize, &String)>, c| if best.is_none_or(|b| c.0 > b.0) { Some(c) } else { best });
    let (count, other) = match best {
        Some((count, other)) if count > 0 => (count, other),
        _ => {
            let text = "its requests have no element in common with another task's: only the items are shared".into();
            return Finding::new(
                Rule::Context,
                Weight::Neutral,
                text,
                &[("common", 0.0), ("elements", own.len() as f64)],
            );
        }
    };
    let weight = if count as f64 >= SHARED_CONTEXT * own.len() as f64 { Weight::For } else { Weight::Neutral };
    let text = format!("{count} of the {} elements of its requests are `{other}`'s too", own.len());
    Finding::new(Rule::Context, weight, text, &[("common", count as f64), ("elements", own.len() as f64)])
}

fn volume(input: &AdviseInput, task: &TaskInput) -> Finding {
    let positives = |name: &str| input.relations.labels.get(name).map_or(0, |l| l.positives) as f64;
    let (own, all) = (positives(&task.name), input.tasks.iter().map(|t| positives(&t.name)).sum::<f64>());
    let share = own / f64::max(all, 1.0);
    let (weight, verdict) = if share < SMALL_TASK {
        (Weight::For, "it has few labels of its own, and gains from the others'")
    } else {
        (Weight::Neutral, "it has labels enough of its own")
    };
    let text = format!("{verdict}: {own} positives, {:.0} % of all", share * 100.0);
    Finding::new(Rule::Volume, weight, text, &[("positives", own), ("share", share)])
}
