// What the lanes of the picture hold: per device, rows of spans and moments with the place in the document that each
// is from.

const GUTTER = 196;
const ROWS = { downtime: 13, state: 20, requests: 8, arcs: 14, steps: 12, data: 14, "dirty log": 12, events: 15 };

const stateClass = (name) => `state-${/^[A-Z0-9_]+$/.test(name ?? "") ? name.toLowerCase() : "unknown"}`;
const resultClass = ({ result }) => (result === "ok" ? "" : ` is-${result}`);

/** Spans in as few rows as they fit without overlap: what runs within another goes below it. */
function stacked(items) {
  const ends = [];
  for (const item of items) {
    let level = ends.findIndex((end) => end <= item.start);
    if (level < 0) level = ends.length;
    ends[level] = item.end;
    item.level = level;
  }
  return ends.map((_, level) => items.filter((item) => item.level === level));
}

const sessionsOf = (nr) => doc.sessions.map((one, at) => [one, at]).filter(([one]) => one.device === nr);

/** Failures, findings and warnings that have a moment, by device. */
const troublesByDevice = (() => {
  const all = doc.devices.map(() => []);
  const add = (device, item) => all[device]?.push(item);
  const troubles = (device, one, field) => {
    one.failures.forEach((failure, at) =>
      add(device, { kind: "failure", at: failure.at_ns, field: `${field}/failures/${at}`, class: "bad", sign: "✕" }),
    );
    one.findings.forEach((finding, at) =>
      add(finding.device, {
        kind: "finding",
        at: finding.at_ns,
        field: `${field}/findings/${at}`,
        class: SEVERITIES[finding.severity]?.[1] ?? "warn",
        sign: "◆",
      }),
    );
  };
  doc.outside.forEach((one, at) => troubles(one.device, one, `/outside/${at}`));
  const warnings = (list, field) =>
    list.forEach((one, at) => {
      if (one.device !== null && one.at_ns !== null)
        add(one.device, {
          kind: "warning",
          at: one.at_ns,
          field: `${field}/warnings/${at}`,
          class: SEVERITIES[one.severity]?.[1] ?? "warn",
          sign: "▲",
        });
    });
  doc.migrations.forEach((migration, nr) => {
    for (const [device, , side, field] of sides(nr)) troubles(device, side, field);
    warnings(migration.warnings, `/migrations/${nr}`);
  });
  warnings(doc.warnings, "");
  return all;
})();

const MARKS = {
  open: "○",
  close: "●",
  last_close: "●",
  reset: "↺",
  pci_reset: "↺",
  register: "+",
  unregister: "−",
  desync: "≠",
};

/** The rows of a device: { name, height, items }. A row without items is left out. */
function deviceRows(nr) {
  const one = doc.devices[nr];
  const base = `/devices/${nr}`;
  const rows = [];
  const add = (name, items, height = ROWS[name]) => {
    if (items.length === 0) return;
    items.sort((a, b) => (a.start ?? a.at) - (b.start ?? b.at));
    rows.push({ name, height, items });
  };
  const spans = (key, make) =>
    one[key].map((span, at) => ({
      field: `${base}/${key}/${at}`,
      start: span.start_ns,
      end: span.end_ns,
      ...make(span),
    }));
  add(
    "downtime",
    doc.migrations.flatMap((migration, at) =>
      migration.devices.flatMap((pair, place) =>
        pair.downtime !== null &&
        (pair.source?.device === nr || (pair.source === null && pair.destination?.device === nr))
          ? [
              {
                kind: "downtime",
                field: `/migrations/${at}/devices/${place}/downtime`,
                start: pair.downtime.start_ns,
                end: pair.downtime.end_ns,
                class: "downtime",
                label: `downtime ${duration(pair.downtime.total_ns)}`,
              },
            ]
          : [],
      ),
    ),
  );
  add(
    "state",
    spans("states", (span) => ({
      kind: "state",
      class: `state ${stateClass(span.state)}`,
      label: span.state ?? "not certain",
    })),
  );
  add(
    "requests",
    spans("requests", (span) => ({
      kind: "request",
      class: `request${resultClass(span)}`,
      keep: span.result !== "ok",
    })),
  );
  add(
    "arcs",
    spans("arcs", (span) => ({
      kind: "arc",
      least: 2,
      class: `arc${resultClass(span)}`,
      keep: span.result !== "ok",
      label: `${span.from} → ${span.to ?? span.target}`,
    })),
  );
  const steps = spans("steps", (span) => ({
    kind: "step",
    class: `step${resultClass(span)}`,
    keep: span.result !== "ok",
    label: span.name,
  }));
  steps.sort((a, b) => a.start - b.start || b.end - a.end);
  stacked(steps).forEach((items, level) => add(level === 0 ? "steps" : "", items, ROWS.steps));
  const parts = sessionsOf(nr).flatMap(([session, at]) =>
    session.parts.map((part, place) => ({
      kind: "part",
      least: 2,
      field: `/sessions/${at}/parts/${place}`,
      start: part.first_ns,
      end: part.last_ns,
      class: `part part-${part.part}${part.failed > 0 ? " is-failed" : ""}`,
      keep: part.failed > 0,
      label: `${words(part.part)} ${bytes(part.bytes)}`,
    })),
  );
  parts.sort((a, b) => a.start - b.start);
  stacked(parts).forEach((items, level) => add(level === 0 ? "data" : "", items, ROWS.data));
  one.dirty_logs.forEach((log, at) => {
    const field = `${base}/dirty_logs/${at}`;
    const span = {
      kind: "dirty",
      field,
      start: log.start_ns,
      end: log.stop_ns ?? doc.duration_ns,
      class: `dirty${resultClass(log)}`,
      keep: true,
    };
    add("dirty log", [
      span,
      ...log.series.map((report, place) => ({
        kind: "report",
        field: `${field}/series/${place}`,
        start: report.at_ns,
        end: report.at_ns + report.duration_ns,
        class: "report",
      })),
    ]);
  });
  add("events", [
    ...one.marks.map((mark, at) => ({
      kind: "mark",
      at: mark.at_ns,
      field: `${base}/marks/${at}`,
      class: `mark${resultClass(mark)}`,
      sign: MARKS[mark.kind] ?? "·",
    })),
    ...troublesByDevice[nr].map((trouble) => ({ ...trouble, class: `mark ${trouble.class}`, keep: true })),
  ]);
  return rows;
}

/** Rows are made once per device; the picture is drawn from them many times. */
const rowsOf = (() => {
  const made = new Map();
  return (nr) => {
    if (!made.has(nr)) made.set(nr, deviceRows(nr));
    return made.get(nr);
  };
})();

/** Lanes with headings, for one migration or (null) for all devices: [{ heading, devices }]. A heading has words, and names as { field, class }. */
function groups(migration) {
  if (migration === null) {
    return doc.hosts
      .map((_, nr) => ({
        heading: [{ field: `/hosts/${nr}/label` }, { field: `/hosts/${nr}/kernel`, class: "group-note" }],
        devices: doc.devices.filter((one) => one.host === nr).map((one) => one.nr),
      }))
      .filter((group) => group.devices.length > 0);
  }
  return ["source", "destination"].flatMap((role) => {
    const devices = [
      ...new Set(
        sides(migration)
          .filter(([, one]) => one === role)
          .map(([device]) => device),
      ),
    ];
    const at = doc.migrations[migration][role];
    return devices.length === 0
      ? []
      : [
          {
            heading: [
              role,
              { field: `/hosts/${doc.devices[devices[0]].host}/label` },
              ...(at === null ? [] : [{ field: `/migrations/${migration}/${role}/comm`, class: "group-note" }]),
            ],
            devices,
          },
        ];
  });
}

/** The range that shows a migration with some margin, or the whole trace. */
function rangeOf(migration) {
  if (migration === null) return [0, Math.max(doc.duration_ns, 1000)];
  const { start_ns: start, end_ns: end } = doc.migrations[migration];
  const margin = Math.max((end - start) * 0.04, 1000);
  return [start - margin, end + margin];
}

/** A pair of `label, value` per line: what a pointer held over an item is told. */
function explain(item) {
  const { field, kind } = item;
  const one = find(field);
  const f = (key) => `${field}/${key}`;
  const time = [
    ["from", num(f("start_ns"), "at")],
    ["to", num(f("end_ns"), "at")],
    ["took", num(f("end_ns"), "ns", { minus: f("start_ns") })],
  ];
  const thread = [["thread", [one.comm !== undefined && [text(f("comm")), " "], num(f("tid"), "nr")]]];
  const ended = [["ended", outcomeIf(field, one)]];
  switch (kind) {
    case "state":
      return [one.state === null ? "state not certain" : text(f("state")), time];
    case "arc":
      return [
        [text(f("from")), " → ", text(f("to"))],
        [
          ["target", text(f("target"))],
          time[0],
          ["took", num(f("duration_ns"), "ns")],
          ...ended,
          ["thread", num(f("tid"), "nr")],
        ],
      ];
    case "request":
      return [
        ["request ", text(f("target"))],
        [...time, ["arcs", num(f("arcs"), "count")], ...ended, ...thread],
      ];
    case "step":
      return [
        text(f("name")),
        [["function", text(f("function"))], ["detail", text(f("detail"))], ...time, ...ended, ...thread],
      ];
    case "part":
      return [
        [word(f("part")), ", session ", num(`${field.split("/").slice(0, 3).join("/")}/session`, "nr")],
        [
          ["from", num(f("first_ns"), "at")],
          ["to", num(f("last_ns"), "at")],
          ["bytes", num(f("bytes"), "bytes")],
          ["calls", num(f("calls"), "count")],
          ["throughput", num(f("bytes_per_s"), "rate")],
          ["blocked", num(f("blocked_ns"), "ns")],
          ["failed", num(f("failed"), "count")],
        ],
      ];
    case "dirty":
      return [
        "dirty logging",
        [
          ["from", num(f("start_ns"), "at")],
          ["to", one.stop_ns === null ? "still on" : num(f("stop_ns"), "at")],
          ["reports", num(f("reports"), "count")],
          ["dirty pages", num(f("dirty_pages"), "count")],
          ["page size", num(f("granted_page_size_bytes"), "bytes")],
          ...ended,
        ],
      ];
    case "report":
      return [
        "dirty report",
        [
          ["at", num(f("at_ns"), "at")],
          ["took", num(f("duration_ns"), "ns")],
          ["dirty pages", num(f("dirty_pages"), "count")],
        ],
      ];
    case "downtime":
      return [
        "downtime",
        [
          ["total", bounded(field, one)],
          ...one.stages.map((stage, at) => [stage.stage, num(`${field}/stages/${at}/share_ns`, "ns")]),
        ],
      ];
    case "mark":
      return [
        word(f("kind")),
        [["at", num(f("at_ns"), "at")], ["", text(f("text"))], ["process", num(f("pid"), "nr")], ...ended],
      ];
    case "failure":
      return [
        ["failed: ", text(f("what"))],
        [
          ["at", num(f("at_ns"), "at")],
          ["errno", text(f("errno"))],
          ["step", [text(f("step")), " ", text(f("step_errno"))]],
        ],
      ];
    default:
      return [
        text(f("code")),
        [
          ["at", num(f("at_ns"), "at")],
          ["", text(f("text"))],
          ...(one.check === undefined ? [] : [["look at", text(f("check"))]]),
        ],
      ];
  }
}

const outcomeIf = (field, one) => (one.result === undefined ? NONE : outcome(field));

/** The same as one line of text, for those who do not see the picture. */
function spoken(item) {
  const one = find(item.field);
  const what =
    item.label ??
    {
      request: `request ${one.target}`,
      report: "dirty report",
      dirty: "dirty logging",
      mark: words(one.kind),
      failure: `failed: ${one.what}`,
    }[item.kind] ??
    one.code ??
    item.kind;
  const when = item.at === undefined ? `${moment(item.start)}, ${duration(item.end - item.start)}` : moment(item.at);
  const how = one.result !== undefined && one.result !== "ok" ? `, ${one.result} ${one.errno ?? ""}` : "";
  return `${what}, ${when}${how}`;
}
