//! Events to people and programs: text, ndjson.
