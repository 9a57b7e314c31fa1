"""Looks whether the schemas are ones, and whether what they refer to is found, with what others validate with.

    schemas.py SCHEMAS EVENTS

EVENTS is a file of events (ndjson), from which a timeline is made: it must be as its schema says, and with a broken event not.
"""

import json
import sys
from pathlib import Path

import jsonschema
from referencing import Registry, Resource


def references(value):
    """All that a schema refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def main(folder, events):
    files = sorted(Path(folder).glob("*.json"))
    schemas = {file.name: json.loads(file.read_text()) for file in files}
    resources = {schema["$id"]: Resource.from_contents(schema) for schema in schemas.values()}
    if len(resources) != len(schemas):
        sys.exit("two schemas have one $id")
    # By their names only: nothing is fetched, and nothing is found by the name of its file.
    registry = Registry().with_resources(resources.items())
    found = 0
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        resolver = registry.resolver(schema["$id"])
        for reference in references(schema):
            resolver.lookup(reference)
            found += 1
    lines = [json.loads(line) for line in Path(events).read_text().splitlines()]
    timeline = {
        "schema": "vfio-trace.timeline/1", "version": "1", "kernel": "6.12", "host": None, "device": "a",
        "driver": None, "since": lines[0]["time"], "since_mono_ns": 0, "dropped": 0, "lost": 0, "undecoded": 0,
        "events": lines,
    }
    checker = jsonschema.Draft202012Validator(schemas["timeline-1.json"], registry=registry)
    error = jsonschema.exceptions.best_match(checker.iter_errors(timeline))
    if error:
        sys.exit(f"{error.json_path}: {error.message}")
    if checker.is_valid({**timeline, "events": [{**lines[0], "kind": 7}]}):
        sys.exit("the schema of timelines does not look into events")
    print(f"{len(schemas)} schemas, {found} references; a timeline of {len(lines)} events is as its schema says")


if __name__ == "__main__":
    main(*sys.argv[1:])
