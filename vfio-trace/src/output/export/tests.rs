//! Tests of each format of the same document; `cargo xtask test` checks that other programs can read them.

use std::path::Path;

use prost::Message as _;
use serde_json::Value;

use super::{fixture::document, protos::TracePacket, *};
use crate::{report::document::json_schema, units::schema_check::TestSchema};

fn json() -> Value {
    let mut text = Vec::new();
    write_json(&document(), false, &mut text).unwrap();
    assert_eq!(text.last(), Some(&b'\n'));
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_document_is_as_its_schema_says() {
    let schema = TestSchema::parse(&json_schema().to_string()).unwrap();
    let document = json();
    schema.check_value(&document).unwrap();
    let mut pretty = Vec::new();
    write_json(&fixture::document(), true, &mut pretty).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&pretty).unwrap(), document);
    // The checker sees each field of each thing: it notices if one is missing.
    let mut gone = 0;
    each_object(&document, &mut Vec::new(), &mut |path, field| {
        let mut without = document.clone();
        without.pointer_mut(path).unwrap().as_object_mut().unwrap().remove(field);
        assert!(schema.check_value(&without).is_err(), "{path}/{field}");
        gone += 1;
    });
    assert!(gone > 500, "{gone}");
}

fn each_object(value: &Value, path: &mut Vec<String>, tell: &mut impl FnMut(&str, &str)) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            let here = if path.is_empty() { String::new() } else { format!("/{}", path.join("/")) };
            fields.keys().for_each(|name| tell(&here, name));
            fields.iter().map(|(name, value)| (name.clone(), value)).collect()
        },
        Value::Array(items) => {
            (0..).zip(items).map(|(nr, value): (u32, _)| (nr.to_string(), value)).collect()
        },
        _ => Vec::new(),
    };
    for (name, child) in children {
        path.push(name);
        each_object(child, path, tell);
        path.pop();
    }
}

#[test]
fn microseconds_have_all_digits() {
    let mut text = Vec::new();
    write_chrome(&document(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\"ts\":2000.100,\"dur\":0.800"), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value.get("traceEvents").unwrap().as_array().unwrap().len() > 60);
}

fn packets(mut bytes: &[u8]) -> Vec<TracePacket> {
    let mut packets = Vec::new();
    while let Some((&tag, rest)) = bytes.split_first() {
        assert_eq!(tag, 0x0a);
        bytes = rest;
        packets.push(TracePacket::decode_length_delimited(&mut bytes).unwrap());
    }
    packets
}

#[test]
fn packets_of_a_trace() {
    let mut bytes = Vec::new();
    write_perfetto(&document(), &mut bytes).unwrap();
    let packets = packets(&bytes);
    let clocks = packets[0].clock_snapshot.as_ref().unwrap();
    assert_eq!(clocks.primary_trace_clock, Some(protos::MONOTONIC));
    let first = packets.iter().find_map(|packet| packet.timestamp).unwrap();
    assert_eq!(first, 123_456_789_012_345 + 10_000, "the migration begins 10 µs behind the origin");
    let begun = packets.iter().filter_map(|packet| packet.track_event.as_ref());
    let (begins, ends): (Vec<_>, Vec<_>) = begun
        .filter_map(|event| event.r#type)
        .filter(|kind| [protos::SLICE_BEGIN, protos::SLICE_END].contains(kind))
        .partition(|kind| *kind == protos::SLICE_BEGIN);
    assert_eq!(begins.len(), ends.len());
}

#[test]
fn a_host_that_booted_later_has_its_wall_clock() {
    let mut late = document();
    late.hosts[0].mono_at_origin_ns = -1;
    let mut bytes = Vec::new();
    write_perfetto(&late, &mut bytes).unwrap();
    let packets = packets(&bytes);
    assert_eq!(packets[0].clock_snapshot.as_ref().unwrap().primary_trace_clock, Some(protos::REALTIME));
    let first = packets.iter().find_map(|packet| packet.timestamp);
    assert_eq!(first, Some(1_795_380_273_000_000_001 + 10_000));
}

fn csv(table: CsvTable) -> String {
    let mut text = Vec::new();
    write_csv(&document(), table, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn tables_are_quoted_where_it_is_needed() {
    let requests = csv(CsvTable::Requests);
    assert!(requests.starts_with("device,name,time,start_ns,end_ns,target,"), "{requests}");
    assert!(requests.ends_with(",ok,,40,41,\"CPU 0,\"\"KVM\"\"\\n\"\n"), "{requests}");
    assert!(
        csv(CsvTable::Arcs)
            .contains("\n0,0000:75:00.1,2026-11-22T20:44:33.000010001Z,10000,11001,1001,RUNNING,,")
    );
    let mut nothing = document();
    nothing.devices.clear();
    let mut text = Vec::new();
    write_csv(&nothing, CsvTable::States, &mut text).unwrap();
    assert_eq!(text, b"device,name,time,start_ns,end_ns,state\n");
}

#[test]
fn columns_are_as_documented() {
    let manual = include_str!("../../../../docs/exports.md");
    for (table, name, _) in CsvTable::ALL {
        let text = csv(table);
        let header: Vec<String> =
            text.lines().next().unwrap().split(',').map(|name| format!("`{name}`")).collect();
        let (begin, end) = (format!("| `{name}` |"), format!("| {} |", header.join(", ")));
        assert!(manual.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end)), "{name}: {end}");
    }
}

/// Writes all formats of the test document to files, for programs that read them.
#[test]
#[ignore = "writes files: cargo xtask test names the folder, and checks them"]
fn files_for_others() {
    let folder = std::env::var_os("VFIO_TRACE_EXPORT_DIR").expect("VFIO_TRACE_EXPORT_DIR names a folder");
    let file = |name: &str| std::fs::File::create(Path::new(&folder).join(name)).unwrap();
    write_json(&document(), false, file("export.json")).unwrap();
    write_chrome(&document(), file("export.chrome.json")).unwrap();
    write_perfetto(&document(), file("export.perfetto")).unwrap();
    for (table, name, _) in CsvTable::ALL {
        write_csv(&document(), table, file(&format!("export.{name}.csv"))).unwrap();
    }
}
