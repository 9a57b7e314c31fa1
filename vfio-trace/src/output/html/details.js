// One migration in figures: where the downtime went, what failed and why, phases, sessions.

const STAGES = ["stop", "save", "read", "gap", "write", "load", "start", "recover"];
const STAGE_TITLES = {
  stop: "source: arcs that stop it",
  save: "source: arcs to STOP_COPY",
  read: "source: within read() in STOP_COPY",
  gap: "nothing within VFIO: the VMM, the network, or another device's turn",
  write: "destination: within write(), after the source has entered STOP_COPY",
  load: "destination: the arc from RESUMING to STOP",
  start: "destination: arcs to RUNNING",
  recover: "source of a migration that did not come about: arcs back to RUNNING",
};

/** The stages as one bar. */
function stageBar(field, downtime) {
  let x = 0;
  const parts = downtime.stages.map((stage, at) => {
    const width = downtime.total_ns > 0 ? (stage.share_ns / downtime.total_ns) * 100 : 0;
    const rect = svg(
      "rect",
      {
        class: `stage-${stage.stage}`,
        x: x.toFixed(3),
        y: 0,
        width: width.toFixed(3),
        height: 10,
        "data-share": `${field}/stages/${at}/share_ns`,
      },
      svg("title", {}, `${stage.stage}: ${duration(stage.share_ns)}`),
    );
    x += width;
    return rect;
  });
  const label = downtime.stages.map((stage) => `${stage.stage} ${duration(stage.share_ns)}`).join(", ");
  return svg(
    "svg",
    { class: "stages", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label },
    parts,
  );
}

function stageCell(field, downtime, name) {
  const at = downtime.stages.findIndex((stage) => stage.stage === name);
  if (at < 0) return null;
  const { share_ns: share, busy_ns: busy } = downtime.stages[at];
  const here = `${field}/stages/${at}`;
  return [
    num(`${here}/share_ns`, "ns"),
    " ",
    num(`${here}/share_ns`, "percent", { over: `${field}/total_ns`, class: "n dim percent" }),
    busy !== share &&
      el(
        "div",
        { class: "dim", title: "time in which it was in progress, whatever else was" },
        "busy ",
        num(`${here}/busy_ns`, "ns"),
      ),
  ];
}

function way(one) {
  const ends = [one.source, one.destination].map((side) =>
    side === null
      ? el("span", { class: "dim" }, "not seen")
      : el("span", { class: "end" }, host(doc.devices[side.device].host), " ", device(side.device)),
  );
  return [ends[0], " → ", ends[1]];
}

function downtimeTable(nr) {
  const base = `/migrations/${nr}`;
  const { downtime, devices } = find(base);
  const rows = [];
  if (downtime !== null)
    rows.push([`${base}/downtime`, downtime, () => el("strong", {}, devices.length > 1 ? "all devices" : "VM")]);
  devices.forEach((one, at) => {
    if (one.downtime !== null) rows.push([`${base}/devices/${at}/downtime`, one.downtime, () => way(one)]);
  });
  if (rows.length === 0) return el("p", { class: "dim" }, "No device stopped: no downtime.");
  const used = STAGES.filter((name) => rows.some(([, one]) => one.stages.some((stage) => stage.stage === name)));
  const columns = [
    [""],
    ["downtime", "num"],
    ["where it went", "bar"],
    ...used.map((name) => [
      [el("span", { class: `key stage-${name}`, "aria-hidden": "true" }), name],
      "num",
      STAGE_TITLES[name],
    ]),
    ["from, to", "num"],
  ];
  const notes = rows
    .filter(([, one]) => one.why !== null)
    .map(([field, one, who]) =>
      el("li", {}, who(), ": ", { about: "≈ ", at_least: "≥ ", exact: "" }[one.bound], text(`${field}/why`)),
    );
  return [
    table(
      "Where the downtime went",
      columns,
      rows.map(([field, one, who], at) => ({
        attributes: { class: at === 0 && downtime !== null ? "sum" : null },
        cells: [
          who(),
          [bounded(field, one)],
          [stageBar(field, one)],
          ...used.map((name) => [stageCell(field, one, name)]),
          [num(`${field}/start_ns`, "at"), el("div", {}, num(`${field}/end_ns`, "at"))],
        ],
      })),
      { class: "downtime" },
    ),
    notes.length > 0 && el("ul", { class: "notes" }, notes),
    orderTable(base),
  ];
}

function orderTable(base) {
  const order = find(`${base}/order`);
  if (order.length === 0) return null;
  return table(
    "How the devices took their turns",
    [
      ["stage"],
      ["devices", "num"],
      ["order"],
      ["added up", "num", "time of all devices"],
      ["in progress", "num", "time in which it was in progress on at least one of them"],
      ["longest", "num", "what the stage would take were all devices at the same time"],
    ],
    order.map((_, at) => {
      const field = `${base}/order/${at}`;
      return [
        [text(`${field}/stage`)],
        [num(`${field}/devices`, "count")],
        [text(`${field}/order`)],
        [num(`${field}/sum_ns`, "ns")],
        [num(`${field}/union_ns`, "ns")],
        [num(`${field}/longest_ns`, "ns")],
      ];
    }),
    { class: "narrow" },
  );
}

/** The sides of a migration's devices: [device, "source" or "destination", side, pointer]. */
const sides = (nr) =>
  doc.migrations[nr].devices.flatMap((one, at) =>
    ["source", "destination"]
      .filter((role) => one[role] !== null)
      .map((role) => [one[role].device, role, one[role], `/migrations/${nr}/devices/${at}/${role}`]),
  );

function warningItem(field) {
  const one = find(field);
  return el(
    "li",
    { class: "trouble" },
    badge(`${field}/severity`, SEVERITIES),
    " ",
    text(`${field}/code`, "code"),
    " ",
    one.device !== null && [device(one.device), " "],
    one.at_ns !== null && el("span", { class: "dim" }, "at ", num(`${field}/at_ns`, "at")),
    el("div", {}, text(`${field}/text`)),
  );
}

/** Something that failed, on a device as `role` (null: in no migration). */
function failureItem(field, device_nr, role) {
  const one = find(field);
  return el(
    "li",
    { class: "trouble" },
    el("span", { class: "badge bad" }, "✕ failed"),
    " ",
    text(`${field}/what`, "strong"),
    " ",
    text(`${field}/errno`, "code"),
    " ",
    host(doc.devices[device_nr].host),
    " ",
    device(device_nr),
    el("span", { class: "dim" }, role === null ? " at " : ` ${role}, at `, num(`${field}/at_ns`, "at")),
    one.step !== null &&
      el(
        "div",
        {},
        "first step that failed within it: ",
        text(`${field}/step`, "code"),
        " ",
        text(`${field}/step_errno`, "code"),
      ),
  );
}

function findingItem(field) {
  const one = find(field);
  return el(
    "li",
    { class: "trouble" },
    badge(`${field}/severity`, SEVERITIES),
    " ",
    text(`${field}/code`, "code"),
    " ",
    device(one.device),
    el("span", { class: "dim" }, " at ", num(`${field}/at_ns`, "at")),
    el("div", {}, text(`${field}/text`)),
    one.step !== null &&
      el("div", { class: "dim" }, "step ", text(`${field}/step`, "code"), " ", text(`${field}/errno`, "code")),
    el("div", { class: "check" }, "Look at: ", text(`${field}/check`)),
  );
}

/** What failed and why, on one device. */
const troubleItems = (field, one, device_nr, role) => [
  ...one.failures.map((_, at) => failureItem(`${field}/failures/${at}`, device_nr, role)),
  ...one.findings.map((_, at) => findingItem(`${field}/findings/${at}`)),
];

/** What failed and why, in one migration. */
function trouble(nr) {
  const items = sides(nr).flatMap(([device_nr, role, side, field]) => troubleItems(field, side, device_nr, role));
  doc.migrations[nr].warnings.forEach((_, at) => items.push(warningItem(`/migrations/${nr}/warnings/${at}`)));
  return items.length > 0
    ? [el("h3", {}, "What failed, what is worth a look"), el("ul", { class: "troubles" }, items)]
    : null;
}

/** The same of what belongs to no migration. */
function outside() {
  const items = doc.outside.flatMap((one, at) => troubleItems(`/outside/${at}`, one, one.device, null));
  return items.length > 0
    ? [el("h2", {}, "Outside of migrations"), el("ul", { class: "troubles", id: "outside" }, items)]
    : [];
}

function phaseTables(nr) {
  const tables = sides(nr)
    .filter(([, , side]) => side.phases.length > 0)
    .map(([device_nr, role, side, field]) => {
      const extra = [
        side.partial && ", its beginning was not seen",
        side.recovery !== null && [", went on by ", word(`${field}/recovery`)],
      ];
      return table(
        [
          role,
          " ",
          host(doc.devices[device_nr].host),
          " ",
          device(device_nr),
          ": ",
          el("span", {}, text(`${field}/verdict`)),
          extra,
        ],
        [["phase"], ["at", "num"], ["took", "num"], ["bytes", "num"]],
        side.phases.map((phase, at) => {
          const here = `${field}/phases/${at}`;
          return {
            attributes: { class: phase.arc ? "arc-row" : null },
            cells: [
              [text(`${here}/name`)],
              [num(`${here}/start_ns`, "at")],
              [num(`${here}/end_ns`, "ns", { minus: `${here}/start_ns` })],
              [num(`${here}/bytes`, "bytes")],
            ],
          };
        }),
      );
    });
  return tables.length > 0 ? [el("h3", {}, "Phases"), el("div", { class: "side-by-side" }, tables)] : null;
}

function streamTable(nr) {
  const devices = doc.migrations[nr].devices;
  return table(
    "Streams",
    [["device"], ["verdict"], ["paired by"], ["read", "num"], ["written", "num"], ["integrity"]],
    devices.map((one, at) => {
      const field = `/migrations/${nr}/devices/${at}`;
      return [
        way(one),
        [badge(`${field}/verdict`, VERDICTS)],
        [word(`${field}/paired_by`)],
        [num(`${field}/stream/read_bytes`, "bytes")],
        [num(`${field}/stream/written_bytes`, "bytes")],
        [word(`${field}/stream/integrity`)],
      ];
    }),
    { class: "narrow" },
  );
}

/** A histogram as small bars. */
function histogram(field, unit) {
  const { count, buckets } = find(field);
  if (count === 0) return NONE;
  const most = Math.max(...buckets.map((bucket) => bucket.count));
  // Buckets that are empty are not in the document; the axis still has them.
  const slot = (bucket) => (bucket.from === 0 ? -1 : Math.round(Math.log2(bucket.from)));
  const first = slot(buckets[0]);
  const slots = slot(buckets[buckets.length - 1]) - first + 1;
  const label = buckets.map((bucket) => `${UNITS[unit](bucket.from)} and more: ${bucket.count}`).join(", ");
  const bars = buckets.map((bucket, at) => {
    const height = Math.max(1.5, (bucket.count / most) * 22);
    return svg(
      "rect",
      {
        x: (slot(bucket) - first) * 7,
        y: 22 - height,
        width: 6,
        height,
        "data-field": `${field}/buckets/${at}/count`,
        "data-value": bucket.count,
        "data-unit": "count",
      },
      svg("title", {}, `${UNITS[unit](bucket.from)} to ${UNITS[unit](bucket.to)}: ${grouped(bucket.count)}`),
    );
  });
  return el(
    "div",
    { class: "histogram" },
    svg(
      "svg",
      { width: slots * 7, height: 23, role: "img", "aria-label": label },
      svg("path", { class: "axis-line", d: `M0 22.5h${slots * 7}` }),
      bars,
    ),
    el("div", { class: "dim" }, num(`${field}/min`, unit), " … ", num(`${field}/max`, unit)),
  );
}

function sessionTable(caption, numbers) {
  const rows = numbers.flatMap((nr) => {
    const session = doc.sessions[nr];
    const field = `/sessions/${nr}`;
    const head = [
      [
        num(`${field}/nr`, "nr"),
        session.partial &&
          el("span", { class: "warn", title: "its start was not seen: the numbers are a part" }, " partial"),
      ],
      [host(doc.devices[session.device].host), " ", device(session.device)],
      [text(`${field}/direction`)],
      [
        num(`${field}/bytes`, "bytes"),
        session.missed_bytes !== null &&
          session.missed_bytes > 0 &&
          el("div", { class: "warn" }, num(`${field}/missed_bytes`, "bytes"), " not seen"),
      ],
      [
        el("span", { class: session.end === "error" ? "bad" : null }, word(`${field}/end`)),
        session.errno !== null && [" ", text(`${field}/errno`, "code")],
        session.calls_after_end > 0 &&
          el("div", { class: "warn" }, num(`${field}/calls_after_end`, "count"), " calls after its end"),
      ],
      [tally(`${field}/threads`), " / ", num(`${field}/concurrent_calls`, "count")],
      [
        num(`${field}/precopy_info_calls`, "count"),
        session.precopy_info_calls > 0 && [" in ", num(`${field}/precopy_info_ns`, "ns")],
      ],
    ];
    const parts = session.parts.map((_, at) => {
      const here = `${field}/parts/${at}`;
      return [
        [word(`${here}/part`)],
        [num(`${here}/bytes`, "bytes")],
        [num(`${here}/calls`, "count")],
        [num(`${here}/empty`, "count")],
        [num(`${here}/eof`, "count")],
        [num(`${here}/failed`, "count", { class: session.parts[at].failed > 0 ? "n bad" : "n" })],
        [num(`${here}/bytes_per_s`, "rate")],
        [num(`${here}/blocked_ns`, "ns")],
        [num(`${here}/busy_ns`, "ns")],
        [histogram(`${here}/size_bytes`, "bytes")],
        [histogram(`${here}/latency_ns`, "ns")],
      ];
    });
    const none = Array.from({ length: 11 }, () => [null]);
    return (parts.length > 0 ? parts : [none]).map((part, at) => ({
      attributes: { class: at > 0 ? "more" : null },
      cells: [...(at === 0 ? head : head.map(() => [null])), ...part],
    }));
  });
  if (rows.length === 0) return null;
  return table(
    caption,
    [
      ["session", "num"],
      ["device"],
      ["direction"],
      ["bytes", "num"],
      ["end"],
      ["threads", "num", "threads that called, and most calls at the same time"],
      ["PRECOPY_INFO", "num", "VFIO_MIG_GET_PRECOPY_INFO: calls, and time within them"],
      ["part", "first"],
      ["bytes", "num"],
      ["calls", "num"],
      ["empty", "num", "calls that gave nothing for now (ENOMSG)"],
      ["EOF", "num", "calls that gave nothing because all was read"],
      ["failed", "num"],
      ["throughput", "num"],
      ["blocked", "num", "time within calls; calls at the same time count each"],
      ["busy", "num", "time with at least one call in progress"],
      ["bytes per call"],
      ["time per call"],
    ],
    rows,
    { class: "sessions" },
  );
}

/** All about one migration. */
function migrationSection(nr) {
  const base = `/migrations/${nr}`;
  const sessions = sides(nr).flatMap(([, , side]) => side.sessions);
  const one = find(base);
  return el(
    "section",
    { class: "migration", id: `migration-${nr}`, "data-migration": nr },
    doc.migrations.length > 1 &&
      el(
        "h2",
        {},
        "Migration ",
        num(`${base}/nr`, "nr"),
        " ",
        sign(`${base}/verdict`, VERDICTS),
        " ",
        text(`${base}/text`, "span", { class: "sentence" }),
      ),
    el(
      "p",
      { class: "parties" },
      "source ",
      party(`${base}/source`),
      ", destination ",
      party(`${base}/destination`),
      ", from ",
      num(`${base}/start_ns`, "at"),
      " to ",
      num(`${base}/end_ns`, "at"),
      one.recovered !== null && [", source runs again: ", yesNo(`${base}/recovered`)],
    ),
    el("div", { class: "print-picture" }),
    trouble(nr),
    downtimeTable(nr),
    streamTable(nr),
    sessionTable("Data sessions", sessions),
    phaseTables(nr),
  );
}
