"""Reads exports with what others read them with, and compares each with the JSON document of the same recording.

    exports.py SCHEMAS FOLDER

FOLDER has export.json, export.chrome.json, export.perfetto, export.TABLE.csv for every table, and (if there is a recording)
events.ndjson. Says in one line what was compared; anything else than equality is an error, told as file: what.
"""

import csv
import datetime
import json
import sys
from collections import Counter
from pathlib import Path

import jsonschema
from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BUILTIN_CLOCK_MONOTONIC, BUILTIN_CLOCK_REALTIME
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import CounterDescriptor, TrackEvent

# What the place on a track tells, and lists that have tracks of their own (docs/exports.md).
NOT_IN_ARGS = {
    "start_ns", "end_ns", "at_ns", "first_ns", "last_ns", "stop_ns", "series", "precopy_info", "parts", "devices",
    "warnings", "downtime", "buckets",
}
LIMIT = 2**63 - 1


class Wrong(Exception):
    pass


def ensure(condition, what):
    if not condition:
        raise Wrong(what)


def plain(value):
    """A value without what an annotation cannot have: null, and lists and objects of nothing."""
    if isinstance(value, dict):
        fields = {name: plain(field) for name, field in value.items() if name not in NOT_IN_ARGS}
        return {name: field for name, field in fields.items() if field not in (None, [], {})}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def frozen(value):
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)


def same(what, ours, theirs):
    """Two lists in any order."""
    ours, theirs = Counter(ours), Counter(theirs)
    lacking, extra = ours - theirs, theirs - ours
    ensure(not lacking, f"{what}: the JSON document also has {list(lacking)[:2]}")
    ensure(not extra, f"{what}: has what the JSON document has not: {list(extra)[:2]}")
    return sum(ours.values())


def origin_ns(document):
    """Its whole seconds through datetime, which has microseconds only."""
    seconds, fraction = document["origin"].removesuffix("Z").split(".")
    ensure(len(fraction) == 9, f"origin {document['origin']}")
    whole = datetime.datetime.fromisoformat(seconds + "+00:00").timestamp()
    return int(whole) * 10**9 + int(fraction)


def wall(document, at_ns):
    seconds, fraction = divmod(origin_ns(document) + at_ns, 10**9)
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


# What a timeline shows of a document: sets of
#   slices    (owner, category, name, start, end, args)
#   instants  (owner, category, name, at, args)
#   counters  (owner, name, unit, at, value)
# An owner is "all", ("host", place) or ("device", place).


def timeline(document):
    slices, instants, counters = [], [], []
    devices = document["devices"]

    def slice_(owner, category, name, start, end, item, **more):
        slices.append((owner, category, name, start, max(start, end), frozen({**item, **more})))

    def instant(owner, category, name, at, item, **more):
        instants.append((owner, category, name, at, frozen({**item, **more})))

    def warnings(of, migration):
        for warning in of["warnings"]:
            owner = "all" if warning["device"] is None else ("device", warning["device"])
            at = warning["at_ns"]
            if at is None:
                at = 0 if migration is None else migration["start_ns"]
            nr = None if migration is None else migration["nr"]
            instant(owner, "warning", warning["code"], at, warning, migration=nr)

    for nr, host in enumerate(document["hosts"]):
        slice_(("host", nr), "host", "traced", host["began_ns"], host["ended_ns"], host)
    for nr, device in enumerate(devices):
        owner = ("device", nr)
        for span in device["states"]:
            slice_(owner, "state", span["state"] or "not known", span["start_ns"], span["end_ns"], span)
        for arc in device["arcs"]:
            slice_(owner, "arc", f"{arc['from']} → {arc['to'] or '?'}", arc["start_ns"], arc["end_ns"], arc)
        for request in device["requests"]:
            name = f"set_state {request['target']}"
            slice_(owner, "request", name, request["start_ns"], request["end_ns"], request)
        for step in device["steps"]:
            slice_(owner, "step", step["name"], step["start_ns"], step["end_ns"], step)
        for log in device["dirty_logs"]:
            stop = log["stop_ns"]
            end = document["hosts"][device["host"]]["ended_ns"] if stop is None else stop
            slice_(owner, "dirty_log", "dirty tracking", log["start_ns"], end, log, stopped=stop is not None)
            for report in log["series"]:
                if report["dirty_pages"] is not None:
                    counters.append((owner, "dirty_pages", "pages", report["at_ns"], report["dirty_pages"]))
        for mark in device["marks"]:
            instant(owner, "mark", mark["kind"], mark["at_ns"], mark)
        for size in device["sizes"]:
            if size["stop_copy_bytes"] is not None:
                counters.append((owner, "stop_copy_bytes", "bytes", size["at_ns"], size["stop_copy_bytes"]))
    for session in document["sessions"]:
        owner = ("device", session["device"])
        name = f"session {session['session']} ({session['direction'] or '?'})"
        slice_(owner, "session", name, session["start_ns"], session["end_ns"], session)
        for part in session["parts"]:
            slice_(owner, "part", part["part"], part["first_ns"], part["last_ns"], part, session=session["session"])
        name = {"save": "read_bytes", "resume": "written_bytes"}.get(session["direction"])
        for point in session["series"] if name else []:
            counters.append((owner, name, "bytes", point["at_ns"], point["bytes"]))
        for point in session["precopy_info"]:
            for name in ("initial_bytes", "dirty_bytes"):
                if point[name] is not None:
                    counters.append((owner, name, "bytes", point["at_ns"], point[name]))
    found = [*document["outside"]]
    for migration in document["migrations"]:
        name = f"migration {migration['nr']}: {migration['verdict']}"
        slice_("all", "migration", name, migration["start_ns"], migration["end_ns"], migration)
        spans = [("all", migration["downtime"])]
        for device in migration["devices"]:
            sides = [side for side in (device["source"], device["destination"]) if side]
            spans += [(("device", sides[0]["device"]), device["downtime"])] if sides else []
            found += sides
        for owner, span in spans:
            if span:
                more = {"migration": migration["nr"]}
                slice_(owner, "downtime", "downtime", span["start_ns"], span["end_ns"], span, **more)
        warnings(migration, migration)
    for owner, side in ((("device", side["device"]), side) for side in found):
        for failure in side["failures"]:
            instant(owner, "failure", f"failed: {failure['what']}", failure["at_ns"], failure)
        for finding in side["findings"]:
            instant(owner, "finding", finding["code"], finding["at_ns"], finding)
    warnings(document, None)
    return slices, instants, counters


def arrows(document):
    """(device, start) of the arc to STOP_COPY, and of the arc that loads, for devices of which both sides were seen."""
    found = []
    for migration in document["migrations"]:
        for device in migration["devices"]:
            ends = []
            for side, wanted in (
                (device["source"], lambda arc: arc["to"] == "STOP_COPY"),
                (device["destination"], lambda arc: (arc["from"], arc["to"]) == ("RESUMING", "STOP")),
            ):
                arcs = document["devices"][side["device"]]["arcs"] if side else []
                arcs = [
                    (side["device"], arc["start_ns"])
                    for arc in arcs
                    if wanted(arc) and side["start_ns"] <= arc["start_ns"] and arc["end_ns"] <= side["end_ns"]
                ]
                ends += arcs[-1:]
            if len(ends) == 2 and ends[0][1] <= ends[1][1]:
                found.append(tuple(ends))
    return found


def nested(what, spans):
    """Slices of one track must be apart, or one within the other: viewers have no place for others."""
    open_ends = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        ensure(not open_ends or end <= open_ends[-1], f"{what}: slices overlap at {start}")
        open_ends.append(end)


def device_name(device):
    return device["name"] or f"device {device['nr']}"


def host_name(document, nr):
    return document["hosts"][nr]["label"]


# Perfetto


def no_unknown(message):
    """Every field number and type is one that Perfetto's definitions have."""
    ensure(len(UnknownFieldSet(message)) == 0, f"fields that {message.DESCRIPTOR.full_name} does not have")
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                no_unknown(one)


def annotation(of):
    if of.dict_entries:
        return {entry.name: annotation(entry) for entry in of.dict_entries}
    if of.array_values:
        return [annotation(item) for item in of.array_values]
    kind = of.WhichOneof("value")
    return None if kind is None else getattr(of, kind)


def perfetto(document, path):
    data = path.read_bytes()
    trace = Trace()
    ensure(trace.ParseFromString(data) == len(data), "not all of it was parsed")
    no_unknown(trace)
    ensure(trace.SerializeToString() == data, "Perfetto's own library writes it otherwise")
    packets = trace.packet
    first = packets[0]
    ensure(first.sequence_flags == TracePacket.SEQ_INCREMENTAL_STATE_CLEARED, "the sequence does not begin anew")
    ensure(first.first_packet_on_sequence, "the first packet is not told as that")
    clocks = {clock.clock_id: clock.timestamp for clock in first.clock_snapshot.clocks}
    clock = first.clock_snapshot.primary_trace_clock
    ensure(clocks[BUILTIN_CLOCK_REALTIME] == origin_ns(document), "another wall time")
    ensure(first.trace_packet_defaults.timestamp_clock_id == clock, "times of another clock than the trace's")
    ensure(clock == BUILTIN_CLOCK_MONOTONIC, "times are not CLOCK_MONOTONIC")
    ensure(clocks[clock] == document["hosts"][0]["mono_at_origin_ns"], "another monotonic time")

    tracks, events = {}, {}
    for packet in packets:
        ensure(packet.trusted_packet_sequence_id == first.trusted_packet_sequence_id != 0, "several sequences")
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            ensure(track.uuid != 0 and track.uuid not in tracks, f"track {track.uuid} is described twice")
            ensure(not track.HasField("parent_uuid") or track.parent_uuid in tracks, "a track before its parent")
            tracks[track.uuid] = track
        if packet.HasField("track_event"):
            event = packet.track_event
            ensure(packet.sequence_flags == TracePacket.SEQ_NEEDS_INCREMENTAL_STATE, "an event without defaults")
            ensure(event.track_uuid in tracks, "an event on a track that was not described")
            events.setdefault(event.track_uuid, []).append((packet.timestamp - clocks[clock], event))

    owners = {}
    parts = {}
    for uuid, track in tracks.items():
        if track.HasField("process"):
            owners[uuid] = ("host", len(parts))
            parts[track.process.pid] = track.process.process_name
            ensure(track.process.process_name == host_name(document, owners[uuid][1]), "a host's name")
        elif not track.HasField("parent_uuid"):
            owners[uuid] = "all"
        elif tracks[track.parent_uuid].HasField("process") and uuid not in events:
            devices = [at for at, device in enumerate(document["devices"])
                       if track.name == device_name(device) + (f" ({device['driver']})" if device["driver"] else "")
                       and ("host", device["host"]) == owners[track.parent_uuid]]
            ensure(len(devices) == 1, f"the track {track.name} is no device's")
            owners[uuid] = ("device", devices[0])
        else:
            owners[uuid] = owners[track.parent_uuid]
    ensure(len(parts) == len(document["hosts"]), "another number of hosts")

    slices, instants, counters, flows = [], [], [], {}
    for uuid, list_ in events.items():
        track, owner = tracks[uuid], owners[uuid]
        stack, now = [], None
        for at, event in list_:
            ensure(now is None or at >= now, f"{track.name}: time goes back")
            now = at
            args = {one.name: annotation(one) for one in event.debug_annotations}
            if event.type == TrackEvent.TYPE_SLICE_BEGIN:
                stack.append((at, event, args))
                for flow in [*event.flow_ids, *event.terminating_flow_ids]:
                    side = flow in event.terminating_flow_ids
                    flows.setdefault(flow, [None, None])[side] = (owner[1], at)
            elif event.type == TrackEvent.TYPE_SLICE_END:
                ensure(stack, f"{track.name}: an end without a beginning")
                start, begin, args = stack.pop()
                slices.append((owner, begin.categories[0], begin.name, start, at, frozen(args)))
            elif event.type == TrackEvent.TYPE_INSTANT:
                instants.append((owner, event.categories[0], event.name, at, frozen(args)))
            else:
                ensure(event.type == TrackEvent.TYPE_COUNTER, f"an event of type {event.type}")
                unit = {CounterDescriptor.UNIT_SIZE_BYTES: "bytes"}.get(track.counter.unit, track.counter.unit_name)
                counters.append((owner, track.name, unit, at, event.counter_value))
        ensure(not stack, f"{track.name}: a slice without an end")
    return tracks, slices, instants, counters, [tuple(ends) for ends in flows.values()]


# Trace Event Format


def nanoseconds(number):
    """Numbers are kept as texts: three digits behind the point, exactly."""
    whole, fraction = str(number).split(".")
    ensure(len(fraction) == 3, f"a time of {number} µs")
    return int(whole) * 1000 + int(fraction)


def chrome(document, path):
    # Times as texts, so that no digit is lost on the way.
    trace = json.loads(path.read_text(), parse_float=str)
    ensure(set(trace) == {"displayTimeUnit", "otherData", "traceEvents"}, f"fields {list(trace)}")
    ensure(trace["otherData"]["origin"] == document["origin"], "another origin")
    names, ranks = {}, Counter()
    events = trace["traceEvents"]
    for event in events:
        if event["ph"] == "M":
            place = (event["pid"], event["tid"] if event["name"].startswith("thread") else None)
            if event["name"].endswith("_name"):
                ensure(place not in names, f"{place} has two names")
                names[place] = event["args"]["name"]
            else:
                ranks[place] += 1
    ensure(set(ranks) == set(names) and set(ranks.values()) == {1}, "names or ranks are missing")
    tids = [tid for _, tid in names if tid is not None]
    ensure(len(set(tids)) == len(tids), "two threads have one number")
    hosts = {pid: nr for nr, pid in enumerate(sorted(pid for pid, tid in names if tid is None)[1:])}
    for pid, nr in hosts.items():
        ensure(names[pid, None] == host_name(document, nr), f"process {pid} is no host")

    def owner(pid, name, category=None):
        if pid not in hosts:
            return "all"
        devices = [at for at, device in enumerate(document["devices"])
                   if name.startswith(device_name(device) + " ") and device["host"] == hosts[pid]]
        ensure(len(devices) <= 1, f"{name} could be several devices'")
        return ("device", devices[0]) if devices else ("host", hosts[pid])

    slices, instants, counters, flows, spans = [], [], [], {}, {}
    for event in events:
        phase, pid, tid = event["ph"], event["pid"], event["tid"]
        if phase == "M":
            continue
        at = nanoseconds(event["ts"])
        ensure(at >= 0 and (pid, None) in names, f"an event of process {pid} at {at}")
        if phase == "C":
            (unit, value), = event["args"].items()
            of = owner(pid, event["name"])
            counters.append((of, event["name"].split(" ")[-1], unit, at, value))
            continue
        name = names[pid, tid]
        if phase == "X":
            took = nanoseconds(event["dur"])
            ensure(took >= 0, f"{event['name']} took {took} ns")
            spans.setdefault((pid, tid), []).append((at, at + took))
            slices.append((owner(pid, name), event["cat"], event["name"], at, at + took, frozen(event["args"])))
        elif phase == "i":
            ensure(event["s"] == "t", "an instant of more than its thread")
            instants.append((owner(pid, name), event["cat"], event["name"], at, frozen(event["args"])))
        else:
            ensure(phase in "sf" and (phase == "s" or event["bp"] == "e"), f"an event of phase {phase}")
            flows.setdefault(event["id"], [None, None])["sf".index(phase)] = (owner(pid, name)[1], at)
            ensure(any(start == at for start, _ in spans[pid, tid]), "an arrow without a slice")
    for place, list_ in spans.items():
        nested(names[place], list_)
    return names, slices, instants, counters, [tuple(ends) for ends in flows.values()]


def compare_timeline(document, made, limit=None):
    tracks, slices, instants, counters, flows = made
    ours = timeline(document)
    capped = [(*point[:4], min(point[4], limit) if limit else point[4]) for point in ours[2]]
    counts = [
        same("slices", ours[0], slices),
        same("instants", ours[1], instants),
        same("counters", capped, counters),
        same("arrows", arrows(document), flows),
    ]
    ensure(counts[0] > 0, "nothing was compared")
    return len(tracks), counts


# Tables


def text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r\n") else str(value)


def tables(document):
    """Rows of each table: dicts of all that a column may show. Times of rows are in `time`."""
    devices, sessions, migrations = document["devices"], document["sessions"], document["migrations"]

    def name(nr):
        return None if nr is None else devices[nr]["name"]

    def row(item, at, **more):
        return {**item, "time": None if at is None else wall(document, at), **more}

    def of_devices(key, at, **renamed):
        rows = []
        for device in devices:
            for item in device[key]:
                item = {renamed.get(field, field): value for field, value in item.items()}
                rows.append(row(item, item[at], device=device["nr"], name=device["name"]))
        return rows

    def stages(downtime):
        return {stage["stage"]: stage for stage in downtime["stages"]}

    def total(migration, field):
        values = [one["stream"][field] for one in migration["devices"] if one["stream"][field] is not None]
        return sum(values) if values else None

    def of_migration(one):
        more = {"migration": one["nr"], "devices": len(one["devices"]), "warnings": len(one["warnings"])}
        for party in ("source", "destination"):
            for field in ("host", "pid", "comm"):
                more[f"{party}_{field}"] = one[party] and one[party][field]
        for field in ("read_bytes", "written_bytes"):
            more[field] = total(one, field)
        span = one["downtime"]
        more |= {"downtime_start_ns": span and span["start_ns"], "downtime_ns": span and span["total_ns"]}
        more |= {field: span and span[field] for field in ("bound", "uncertainty_ns")}
        for stage in ("stop", "save", "read", "gap", "write", "load", "start", "recover"):
            more[f"stage_{stage}_ns"] = span and stages(span).get(stage, {"share_ns": 0})["share_ns"]
        return row(one, one["start_ns"], **more)

    def of_downtime():
        for one in migrations:
            spans = [(None, None, one["downtime"])]
            for device in one["devices"]:
                ends = [side and side["device"] for side in (device["source"], device["destination"])]
                spans.append((*ends, device["downtime"]))
            for source, destination, span in spans:
                for stage in span["stages"] if span else []:
                    yield {
                        **span, **stage, "migration": one["nr"], "source_device": source, "source_name": name(source),
                        "destination_device": destination, "destination_name": name(destination),
                    }

    def of_device(device):
        last = device["states"][-1]["state"] if device["states"] else None
        flags = device["migration_flags"]
        return {
            **device, "device": device["nr"], "host_label": document["hosts"][device["host"]]["label"],
            "migration_flags": None if flags is None else "+".join(flags), "last_state": last,
            "arcs": len(device["arcs"]), "arcs_not_ok": sum(arc["result"] != "ok" for arc in device["arcs"]),
            "requests": len(device["requests"]), "steps": len(device["steps"]) + device["steps_left_out"],
            "sessions": sum(session["device"] == device["nr"] for session in sessions),
        }

    def of_part(session, part):
        more = {}
        for field, unit in (("size", "bytes"), ("latency", "ns")):
            values = part[f"{field}_{unit}"]
            mean = values["sum"] // values["count"] if values["count"] else None
            more |= {f"{field}_min_{unit}": values["min"], f"{field}_max_{unit}": values["max"]}
            more[f"{field}_mean_{unit}"] = mean
        nrs = {"session": session["nr"], "device": session["device"], "name": name(session["device"])}
        return row(part, part["first_ns"], **nrs, **more)

    def samples():
        for session in sessions:
            points = [("bytes", point["at_ns"], point["bytes"]) for point in session["series"]]
            for point in session["precopy_info"]:
                points += [(field, point["at_ns"], point[field]) for field in ("initial_bytes", "dirty_bytes")]
            for point in points:
                yield session["device"], session["nr"], *point
        for device in devices:
            for size in device["sizes"]:
                yield device["nr"], None, "stop_copy_bytes", size["at_ns"], size["stop_copy_bytes"]
            for log in device["dirty_logs"]:
                for report in log["series"]:
                    yield device["nr"], None, "dirty_pages", report["at_ns"], report["dirty_pages"]

    def of_sides(key):
        devices = [(one["nr"], device) for one in migrations for device in one["devices"]]
        sides = [(nr, side) for nr, device in devices for side in (device["source"], device["destination"]) if side]
        for nr, side in [*sides, *((None, outside) for outside in document["outside"])]:
            for item in side[key]:
                yield row(item, item["at_ns"], device=side["device"], name=name(side["device"]), migration=nr)

    def of_warnings():
        for nr, of in [*((one["nr"], one) for one in migrations), (None, document)]:
            for warning in of["warnings"]:
                yield row(warning, warning["at_ns"], migration=nr, name=name(warning["device"]))

    return {
        "migrations": [of_migration(one) for one in migrations],
        "downtime": list(of_downtime()),
        "devices": [of_device(device) for device in devices],
        "states": of_devices("states", "start_ns"),
        "arcs": of_devices("arcs", "start_ns"),
        "requests": of_devices("requests", "start_ns"),
        "steps": of_devices("steps", "start_ns", name="step"),
        "marks": of_devices("marks", "at_ns"),
        "sessions": [
            row(one, one["start_ns"], name=name(one["device"]), threads=len(one["threads"])) for one in sessions
        ],
        "parts": [of_part(session, part) for session in sessions for part in session["parts"]],
        "samples": [
            row({"series": series, "at_ns": at, "value": value}, at, device=device, session=session, name=name(device))
            for device, session, series, at, value in samples()
        ],
        "dirty_logs": of_devices("dirty_logs", "start_ns"),
        "failures": list(of_sides("failures")),
        "findings": list(of_sides("findings")),
        "warnings": list(of_warnings()),
    }


def compare_tables(document, folder):
    rows = 0
    expected = tables(document)
    found = {path.name.split(".")[1] for path in folder.glob("export.*.csv")}
    ensure(found == set(expected), f"tables {sorted(found ^ set(expected))}")
    for table, items in expected.items():
        with open(folder / f"export.{table}.csv", newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file, strict=True)
        ensure(len(set(header)) == len(header) > 1, f"{table}: header {header}")
        ensure(len(lines) == len(items), f"{table}: {len(lines)} rows instead of {len(items)}")
        for line, item in zip(lines, items):
            ensure(len(line) == len(header), f"{table}: a row of {len(line)} fields")
            for column, field in zip(header, line):
                ensure(column in item, f"{table}: a column {column} that nothing has")
                ensure(field == text(item[column]), f"{table}: {column} is {field!r}, not {text(item[column])!r}")
        rows += len(lines)
    return rows


# Schemas


def validator(path):
    schema = json.loads(path.read_text())
    checker = jsonschema.Draft202012Validator
    checker.check_schema(schema)
    return checker(schema)


def complain(found, what):
    error = jsonschema.exceptions.best_match(found)
    ensure(error is None, f"{what}: {error and (error.json_path + ': ' + error.message)}")


def compare_schemas(document, folder, schemas):
    checker = validator(schemas / "migration-1.json")
    complain(checker.iter_errors(document), "export.json")
    # Were it blind, it would find nothing wrong here either.
    refused = 0
    for holder in (document, *document["hosts"], *document["devices"], *document["sessions"], *document["migrations"]):
        for field in list(holder):
            value = holder.pop(field)
            ensure(not checker.is_valid(document), f"the schema does not miss {field}")
            holder[field] = value
            refused += 1
    ensure(checker.is_valid({**document, "more": 1}), "the schema refuses fields of later versions")
    lines = 0
    events = folder / "events.ndjson"
    if events.exists():
        checker = validator(schemas / "event-1.json")
        for line in events.read_text().splitlines():
            complain(checker.iter_errors(json.loads(line)), f"line {lines + 1} of events.ndjson")
            lines += 1
    return refused, lines


def main(schemas, folder):
    schemas, folder, what = Path(schemas), Path(folder), "export.json"
    try:
        document = json.loads((folder / what).read_text())
        refused, lines = compare_schemas(document, folder, schemas)
        what = "export.perfetto"
        # Perfetto and tables have names as a terminal may be shown them: the end of a line is an escape.
        shown = json.loads(json.dumps(document).replace("\\n", "\\\\n"))
        tracks, counts = compare_timeline(shown, perfetto(shown, folder / what), LIMIT)
        what = "export.chrome.json"
        made = chrome(document, folder / what)
        threads, others = compare_timeline(document, made)
        what = "tables"
        rows = compare_tables(shown, folder)
    except Wrong as wrong:
        sys.exit(f"{what}: {wrong}")
    ensure(counts == others, "two numbers of the same things")
    print(
        f"{counts[0]} slices, {counts[1]} instants, {counts[2]} counter values, {counts[3]} arrows on {tracks} tracks "
        f"of Perfetto and {threads} of Chrome; {rows} rows of tables; {lines} lines of events; "
        f"{refused} broken documents refused"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
