//! Each rule of the advisor on an input prepared for it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use unimodel_trainer::advise::{
    AdviseInput, Decision, ItemOverlap, LabelKind, Relations, Rule, SliceComparison, TaskInput, TaskLabels, Weight,
    advise,
};
use unimodel_trainer::evaluate::report::{Comparison, Slice};
use unimodel_trainer::pipeline::{Loss, Metric};

const TASKS: [&str; 3] = ["notifications", "category", "search"];

fn compared(slice: Slice, unified: f64, single: f64, spread: f64) -> SliceComparison {
    let difference = unified - single;
    let (low, high) = (difference - spread, difference + spread);
    let comparison =
        Comparison { ratio: Some(unified / single), difference, low, high, significant: low > 0.0 || high < 0.0 };
    SliceComparison { slice, metric: Metric::HitRateAt10, comparison }
}

/// Three tasks that belong together: the same items, the same kind of label, no loss measured.
fn alike() -> AdviseInput {
    let of_task = |elements: &[&str]| TaskLabels {
        rows: 1000,
        positives: 500,
        items: 90,
        elements: elements.iter().map(|e| (*e).to_owned()).collect(),
    };
    let labels = BTreeMap::from([
        ("notifications".to_owned(), of_task(&["user_id", "age", "history"])),
        ("category".to_owned(), of_task(&["user_id", "age", "history", "genre"])),
        ("search".to_owned(), of_task(&["query"])),
    ]);
    let square = |value: f64| -> BTreeMap<String, BTreeMap<String, f64>> {
        let others = |a: &str| TASKS.iter().filter(|b| **b != a).map(|b| ((*b).to_owned(), value)).collect();
        TASKS.iter().map(|a| ((*a).to_owned(), others(a))).collect()
    };
    let overlap = ItemOverlap { jaccard: 0.8, share: 0.97 };
    let item_overlap = square(0.0).into_iter().map(|(a, row)| (a, row.into_keys().map(|b| (b, overlap)).collect()));
    let task = |name: &str| TaskInput {
        name: name.into(),
        label_kind: LabelKind::Choice,
        comparisons: vec![compared(Slice::All, 0.24, 0.235, 0.02)],
    };
    AdviseInput {
        tasks: TASKS.map(task).to_vec(),
        relations: Relations { labels, item_overlap: item_overlap.collect(), gradient_cosine: square(0.15) },
    }
}

fn set_overlap(input: &mut AdviseInput, task: &str, share: f64) {
    for between in input.relations.item_overlap.get_mut(task).unwrap().values_mut() {
        *between = ItemOverlap { jaccard: share / 2.0, share };
    }
}

fn set_gradients(input: &mut AdviseInput, task: &str, cosine: f64) {
    input.relations.gradient_cosine.get_mut(task).unwrap().values_mut().for_each(|c| *c = cosine);
}

/// The decision for the first task, and what that rule said.
fn first(input: &AdviseInput, rule: Rule) -> (Decision, Weight) {
    let advice = advise(input).tasks.swap_remove(0);
    (advice.decision, advice.findings.iter().find(|f| f.rule == rule).unwrap().weight)
}

#[test]
fn tasks_that_are_alike_are_consolidated() {
    let advice = advise(&alike());
    assert!(advice.tasks.iter().all(|t| t.decision == Decision::Consolidate));
    insta::assert_snapshot!(advice);
}

#[test]
fn a_task_that_contradicts_the_others_is_kept_separate() {
    let mut input = alike();
    input.tasks[2].comparisons =
        vec![compared(Slice::Clean, 0.97, 0.98, 0.02), compared(Slice::Misspelt, 0.71, 0.95, 0.03)];
    set_gradients(&mut input, "search", -0.4);
    let advice = advise(&input);
    let decisions: Vec<Decision> = advice.tasks.iter().map(|t| t.decision).collect();
    assert_eq!(decisions, [Decision::Consolidate, Decision::Consolidate, Decision::KeepSeparate]);
    insta::assert_snapshot!(advice);
}

#[test]
fn measured_harm_decides_alone() {
    let mut input = alike();
    input.tasks[0].comparisons = vec![compared(Slice::All, 0.23, 0.24, 0.005)];
    assert_eq!(first(&input, Rule::Measured), (Decision::KeepSeparate, Weight::DecidesAgainst));
}

#[test]
fn measured_gain_decides_alone() {
    let mut input = alike();
    input.tasks[0].comparisons = vec![compared(Slice::All, 0.25, 0.24, 0.005)];
    input.tasks[0].label_kind = LabelKind::Graded;
    set_gradients(&mut input, "notifications", -0.3);
    set_overlap(&mut input, "notifications", 0.0);
    assert_eq!(first(&input, Rule::Measured), (Decision::Consolidate, Weight::DecidesFor));
}

#[test]
fn gain_on_one_slice_does_not_outweigh_harm_on_another() {
    let mut input = alike();
    input.tasks[0].comparisons =
        vec![compared(Slice::Clean, 0.99, 0.90, 0.01), compared(Slice::Misspelt, 0.90, 0.92, 0.01)];
    assert_eq!(first(&input, Rule::Measured), (Decision::KeepSeparate, Weight::DecidesAgainst));
    input.tasks[0].comparisons[1] = compared(Slice::Misspelt, 0.85, 0.92, 0.08);
    assert_eq!(first(&input, Rule::Measured), (Decision::Consolidate, Weight::Against));
}

#[test]
fn a_ratio_below_the_threshold_needs_a_second_reason() {
    let mut input = alike();
    input.tasks[0].comparisons = vec![compared(Slice::All, 0.22, 0.24, 0.03)];
    assert_eq!(first(&input, Rule::Measured), (Decision::Consolidate, Weight::Against));
    set_gradients(&mut input, "notifications", -0.1);
    assert_eq!(first(&input, Rule::Gradients), (Decision::KeepSeparate, Weight::Against));
    input.tasks[0].comparisons = vec![compared(Slice::All, 0.229, 0.24, 0.03)];
    assert_eq!(first(&input, Rule::Measured), (Decision::Consolidate, Weight::For));
}

#[test]
fn a_task_that_ranks_other_items_is_kept_separate() {
    let mut input = alike();
    set_overlap(&mut input, "notifications", 0.1);
    assert_eq!(first(&input, Rule::Items), (Decision::KeepSeparate, Weight::DecidesAgainst));
    set_overlap(&mut input, "notifications", 0.11);
    assert_eq!(first(&input, Rule::Items), (Decision::Consolidate, Weight::Neutral));
    // One other task with the same items is enough.
    let between = input.relations.item_overlap.get_mut("notifications").unwrap().get_mut("search").unwrap();
    between.share = 0.5;
    assert_eq!(first(&input, Rule::Items), (Decision::Consolidate, Weight::For));
}

#[test]
fn another_kind_of_label_and_conflicting_gradients_decide_together() {
    let mut input = alike();
    input.tasks[0].label_kind = LabelKind::Graded;
    assert_eq!(first(&input, Rule::LabelKind), (Decision::Consolidate, Weight::Against));
    set_gradients(&mut input, "notifications", -0.2);
    assert_eq!(first(&input, Rule::LabelKind), (Decision::KeepSeparate, Weight::Against));
    input.tasks[1].label_kind = LabelKind::Graded;
    assert_eq!(first(&input, Rule::LabelKind), (Decision::Consolidate, Weight::For));
}

#[test]
fn gradients_between_the_thresholds_say_nothing() {
    let mut input = alike();
    for (cosine, weight) in [(-0.09, Weight::Neutral), (0.09, Weight::Neutral), (0.1, Weight::For)] {
        set_gradients(&mut input, "notifications", cosine);
        assert_eq!(first(&input, Rule::Gradients), (Decision::Consolidate, weight));
    }
    input.relations.gradient_cosine.clear();
    assert_eq!(first(&input, Rule::Gradients), (Decision::Consolidate, Weight::Neutral));
}

#[test]
fn requests_without_a_common_element_are_no_reason_against() {
    let mut input = alike();
    assert_eq!(first(&input, Rule::Context), (Decision::Consolidate, Weight::For));
    input.relations.labels.get_mut("notifications").unwrap().elements = vec!["source_item".into()];
    assert_eq!(first(&input, Rule::Context), (Decision::Consolidate, Weight::Neutral));
}

#[test]
fn a_small_task_gains_from_the_others() {
    let mut input = alike();
    assert_eq!(first(&input, Rule::Volume), (Decision::Consolidate, Weight::Neutral));
    input.relations.labels.get_mut("notifications").unwrap().positives = 100;
    assert_eq!(first(&input, Rule::Volume), (Decision::Consolidate, Weight::For));
}

#[test]
fn without_a_single_task_model_the_tasks_themselves_decide() {
    let mut input = alike();
    input.tasks[0].comparisons.clear();
    assert_eq!(first(&input, Rule::Measured), (Decision::Consolidate, Weight::Neutral));
}

#[test]
fn a_task_alone_has_nobody_to_share_with() {
    let mut input = alike();
    input.tasks.truncate(1);
    assert_eq!(advise(&input).tasks[0].decision, Decision::KeepSeparate);
}

#[test]
fn softmax_losses_are_choices_and_bce_is_a_grade() {
    assert_eq!(LabelKind::from(&Loss::default()), LabelKind::Choice);
    assert_eq!(LabelKind::from(&Loss::SampledSoftmax { samples: 100, soft_targets: None }), LabelKind::Choice);
    assert_eq!(LabelKind::from(&Loss::Bce {}), LabelKind::Graded);
}
