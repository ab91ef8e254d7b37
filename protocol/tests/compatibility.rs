//! Guards the rule of `README.md`: what a contract has published stays as it is.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// One line per message field, enum value and method: its name to its number and type.
fn contract() -> BTreeMap<String, String> {
    let files = FileDescriptorSet::decode(unimodel_protocol::DESCRIPTORS).unwrap();
    let mut lines = BTreeMap::new();
    for file in files.file.iter().filter(|file| !file.package().starts_with("google.")) {
        let package = file.package();
        for message in &file.message_type {
            add_message(&mut lines, package, message);
        }
        for kind in &file.enum_type {
            add_enum(&mut lines, package, kind);
        }
        for service in &file.service {
            for method in &service.method {
                let name = format!("rpc {package}.{}/{}", service.name(), method.name());
                let stream = |streams: bool| if streams { "stream " } else { "" };
                let (from, to) = (stream(method.client_streaming()), stream(method.server_streaming()));
                lines.insert(name, format!("{from}{} -> {to}{}", method.input_type(), method.output_type()));
            }
        }
    }
    lines
}

fn add_message(lines: &mut BTreeMap<String, String>, scope: &str, message: &DescriptorProto) {
    let scope = format!("{scope}.{}", message.name());
    for field in &message.field {
        let one_of = field
            .oneof_index
            .map_or(String::new(), |i| format!(" oneof {}", message.oneof_decl[usize::try_from(i).unwrap()].name()));
        let kind = if field.type_name().is_empty() {
            field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase()
        } else {
            field.type_name().to_owned()
        };
        let label = field.label().as_str_name().trim_start_matches("LABEL_").to_lowercase();
        lines.insert(
            format!("field {scope}.{}", field.name()),
            format!("{} {label} {kind} json={}{one_of}", field.number(), field.json_name()),
        );
    }
    for nested in &message.nested_type {
        add_message(lines, &scope, nested);
    }
    for kind in &message.enum_type {
        add_enum(lines, &scope, kind);
    }
}

fn add_enum(lines: &mut BTreeMap<String, String>, scope: &str, kind: &EnumDescriptorProto) {
    for value in &kind.value {
        lines.insert(format!("value {scope}.{}.{}", kind.name(), value.name()), value.number().to_string());
    }
}

fn print(lines: &BTreeMap<String, String>) -> String {
    lines.iter().map(|(name, what)| format!("{name} = {what}\n")).collect()
}

#[test]
fn what_was_published_stays_as_it_is() {
    let published = include_str!("../contract.txt");
    let now = contract();
    for line in published.lines() {
        let (name, what) = line.split_once(" = ").unwrap();
        assert_eq!(now.get(name).map(String::as_str), Some(what), "`{name}` is published and must not change");
    }
}

#[test]
fn what_is_new_is_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contract.txt");
    let now = print(&contract());
    if std::env::var_os("UNIMODEL_WRITE_CONTRACT").is_some() {
        std::fs::write(path, now).unwrap();
        return;
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert_eq!(published, now, "run with UNIMODEL_WRITE_CONTRACT=1 to add what is new to contract.txt");
}

#[test]
fn the_task_is_the_first_field() {
    assert!(contract()["field unimodel.v1.RankRequest.task"].starts_with("1 optional string "));
}
