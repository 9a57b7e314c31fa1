"""Checks JSON from standard input against a schema of docs/schema, with a validator that others use.

    documented.py SCHEMA lines|document

It is stricter than the schema in one point: a field must be named, because an undocumented one is a mistake of ours.
"""

import json
import sys
from pathlib import Path

import jsonschema_rs


def strict(schema):
    """Forbids fields without a name, wherever a schema says what an object must have.

    Parts of a schema that only add to another (`then`) name some fields and require none: they stay as they are. A
    definition that names none says that there are none.
    """
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: strict(part) for name, part in schema.items()}
    if isinstance(parts.get("properties"), dict) and isinstance(parts.get("required"), list):
        parts["additionalProperties"] = False
    for one in parts.get("$defs", {}).values():
        if isinstance(one, dict) and one.keys() <= {"type", "title", "description"} and one.get("type") == "object":
            one.update(properties={}, additionalProperties=False)
    return parts


def main(schema, form):
    validator = jsonschema_rs.Draft202012Validator(strict(json.loads(Path(schema).read_text())))
    text = sys.stdin.buffer.read().decode()
    # Only line feeds end a line: a text in JSON may hold what Python takes for other line ends.
    texts = text.split("\n") if form == "lines" else [text]
    if form == "lines" and texts[-1] == "":
        texts.pop()
    for number, one in enumerate(texts, 1):
        try:
            error = next(validator.iter_errors(json.loads(one)), None)
        except json.JSONDecodeError as no_json:
            sys.exit(f"{form} {number}: no JSON: {no_json}")
        if error:
            place = "/".join(str(part) for part in error.instance_path)
            sys.exit(f"{form} {number}, /{place}: {error.message}\n{one}")
    print(len(texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
