//! The messages written by hand agree with generated ones, byte for byte.

#![allow(clippy::unwrap_used)]

mod fuzz;

use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp, Value};
use unimodel_protocol::{first_task, v1};

use fuzz::fuzz;

#[allow(missing_docs, dead_code, unreachable_pub)]
mod plain {
    include!(concat!(env!("OUT_DIR"), "/plain/unimodel.v1.rs"));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<f64>().prop_filter("NaN differs from itself", |x| !x.is_nan()).prop_map(Kind::NumberValue),
        ".{0,8}".prop_map(Kind::StringValue),
        any::<bool>().prop_map(Kind::BoolValue),
    ];
    leaf.prop_map(|kind| Value { kind: Some(kind) })
}

fn fields() -> impl Strategy<Value = Struct> {
    prop::collection::btree_map("[a-z_]{1,8}", value(), 0..3).prop_map(|fields| Struct { fields })
}

fn ids() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(".{0,6}", 0..20)
}

prop_compose! {
    fn request()(
        task in ".{0,10}", context in prop::option::of(fields()), with_candidates in any::<bool>(), ids in ids(),
        select in prop::option::of(fields()), all in any::<bool>(), exclude in ids(),
        limit in prop::option::of(any::<u32>()),
    ) -> plain::RankRequest {
        let candidates = with_candidates.then_some(plain::Candidates { ids, select, all, exclude });
        plain::RankRequest { task, context, candidates, limit, timeout: None }
    }
}

prop_compose! {
    fn response()(
        items in prop::collection::vec((".{0,6}", prop_oneof![Just(0.0_f32), Just(-0.0), -9.0_f32..9.0]), 0..20),
        task in ".{0,10}", model_version in ".{0,10}", seconds in prop::option::of(any::<i64>()),
        imputed in prop::collection::vec((".{0,6}", ".{0,6}"), 0..4), unknown in ids(),
        fallback in prop::option::of(("[a-z]{0,5}", ".{0,9}")),
    ) -> plain::RankResponse {
        plain::RankResponse {
            items: items.into_iter().map(|(id, score)| plain::RankedItem { id, score }).collect(),
            task,
            model_version,
            data_time: seconds.map(|seconds| Timestamp { seconds, nanos: 1 }),
            imputed: imputed.into_iter().map(|(element, source)| plain::ImputedElement { element, source }).collect(),
            unknown,
            fallback: fallback.map(|(task, reason)| plain::Fallback {
                kind: Some(plain::fallback::Kind::Task(task)),
                reason,
            }),
        }
    }
}

proptest! {
    #[test]
    fn requests_agree_with_generated_code(plain in request()) {
        let bytes = plain.encode_to_vec();
        let ours = v1::RankRequest::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(ours.encoded_len(), bytes.len());
        prop_assert_eq!(ours.encode_to_vec(), bytes);
        if let (Some(ours), Some(theirs)) = (&ours.candidates, &plain.candidates) {
            prop_assert_eq!(ours.ids.iter().collect::<Vec<_>>(), theirs.ids.iter().collect::<Vec<_>>());
            prop_assert_eq!(ours.exclude.len(), theirs.exclude.len());
        }
    }

    #[test]
    fn requests_in_pieces_decode_alike(plain in request(), at in any::<prop::sample::Index>()) {
        use bytes::Buf;
        let bytes = plain.encode_to_vec();
        let (head, tail) = bytes.split_at(at.index(bytes.len() + 1));
        let ours = v1::RankRequest::decode(head.chain(tail)).unwrap();
        prop_assert_eq!(ours.encode_to_vec(), bytes);
    }

    #[test]
    fn responses_agree_with_generated_code(plain in response()) {
        let bytes = plain.encode_to_vec();
        let ours = v1::RankResponse::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(ours.encoded_len(), bytes.len());
        prop_assert_eq!(ours.encode_to_vec(), bytes);
    }

    #[test]
    fn the_task_is_found_without_decoding(plain in request()) {
        let expected = (!plain.task.is_empty()).then_some(plain.task.as_str());
        let bytes = plain.encode_to_vec();
        prop_assert_eq!(first_task(&bytes), expected);
    }
}

#[test]
fn arbitrary_bytes_are_accepted_or_refused_as_by_generated_code() {
    fuzz(prop::collection::vec(any::<u8>(), 0..64), |bytes| {
        prop_assert_eq!(
            v1::RankRequest::decode(bytes.as_slice()).is_ok(),
            plain::RankRequest::decode(bytes.as_slice()).is_ok()
        );
        prop_assert_eq!(
            v1::RankResponse::decode(bytes.as_slice()).is_ok(),
            plain::RankResponse::decode(bytes.as_slice()).is_ok()
        );
        Ok(())
    });
}

#[test]
fn a_damaged_request_is_accepted_or_refused_as_by_generated_code() {
    fuzz((request(), any::<prop::sample::Index>(), any::<u8>()), |(plain, at, byte)| {
        let mut bytes = plain.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(
            v1::RankRequest::decode(bytes.as_slice()).is_ok(),
            plain::RankRequest::decode(bytes.as_slice()).is_ok()
        );
        Ok(())
    });
}

#[test]
fn looking_for_the_task_survives_anything() {
    fuzz(prop::collection::vec(any::<u8>(), 0..32), |bytes| {
        first_task(&bytes);
        Ok(())
    });
}

#[test]
fn a_bad_id_names_its_field() {
    // Field 3, length 4; field 1 in it, length 2, not UTF-8.
    let error = v1::RankRequest::decode(&[0x1a, 4, 0x0a, 2, 0xff, 0xfe][..]).unwrap_err().to_string();
    assert!(error.contains("Candidates.ids") && error.contains("RankRequest.candidates"), "{error}");
}

#[test]
fn a_context_nested_too_deep_is_refused() {
    let mut value = Value { kind: Some(Kind::StringValue("x".into())) };
    for _ in 0..200 {
        value = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![value] })) };
    }
    let context = Some(Struct { fields: [("history".to_owned(), value)].into() });
    let bytes = v1::RankRequest { context, ..Default::default() }.encode_to_vec();
    assert!(v1::RankRequest::decode(bytes.as_slice()).is_err());
}
