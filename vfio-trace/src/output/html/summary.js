// What happened, where, and what is missing: the head of the page, the list of migrations, the inventory.

/** Sentences about what a recording lacks. Null: nothing is known to be. */
function losses(nr) {
  const field = `/hosts/${nr}/losses`;
  const lost = find(field);
  const said = [];
  if (!lost.complete)
    said.push(["The recording has no end mark: it was cut, and the counters are those of up to ten seconds before."]);
  for (const [key, what] of [
    ["lost", "records lost in the ring buffer"],
    ["missed", "calls that the kernel could not probe"],
    ["unmatched", "calls whose return could not be matched"],
    ["no_room", "devices or data fds that could not be remembered"],
    ["undecoded", "records that could not be decoded"],
  ]) {
    if (lost[key] > 0) said.push([num(`${field}/${key}`, "count"), ` ${what}`]);
  }
  for (const [key, before] of [
    ["damage", ""],
    ["control", "State transitions or requests are lacking: "],
    ["data", "Reads or writes are lacking: "],
    ["other", "Other events are lacking: "],
  ]) {
    lost[key].forEach((_, at) => said.push([before, text(`${field}/${key}/${at}`)]));
  }
  return said.length > 0 ? said : null;
}

/** What is known to be complete, or not known, of one host, in a table's cell. */
function lossCell(nr) {
  const field = `/hosts/${nr}/losses`;
  const one = (key, what) => [num(`${field}/${key}`, "count"), ` ${what}`];
  return [
    one("lost", "lost"),
    ", ",
    one("missed", "missed"),
    ", ",
    one("unmatched", "unmatched"),
    ", ",
    one("no_room", "not remembered"),
    ", ",
    one("undecoded", "undecoded"),
  ];
}

function lossBanner() {
  const hosts = doc.hosts.map((_, nr) => [nr, losses(nr)]).filter(([, said]) => said !== null);
  if (hosts.length === 0) return null;
  return el(
    "div",
    { class: "banner", role: "note" },
    el("strong", {}, "▲ Not everything was seen. Figures that this can touch are bounds, and marked ≥ or ≈."),
    hosts.map(([nr, said]) =>
      el(
        "ul",
        {},
        said.map((one) => el("li", {}, host(nr), ": ", one)),
      ),
    ),
  );
}

/** What the page has no room for. */
function omittedBanner() {
  const some = [
    ["migrations", "migrations"],
    ["devices", "devices"],
    ["sessions", "data sessions"],
    ["outside", "devices with trouble outside of migrations"],
    ["entries", "entries of lists (states, arcs, steps, marks, …)"],
  ].filter(([key]) => doc.omitted[key] > 0);
  if (some.length === 0) return null;
  return el(
    "div",
    { class: "banner", role: "note" },
    el("strong", {}, "▲ This page would be too large with all that was seen. Not in it, nor in its counts:"),
    el(
      "ul",
      {},
      some.map(([key, what]) => el("li", {}, num(`/omitted/${key}`, "count"), ` ${what}`)),
    ),
    "Migrations that failed are here before others. `vfio-trace report --json` has all.",
  );
}

function hostTable() {
  const columns = [
    ["host"],
    ["kernel"],
    ["recording"],
    ["traced by"],
    ["from", "num"],
    ["to", "num"],
    ["events", "num"],
    ["losses"],
    ["its clocks at the origin", null, "CLOCK_REALTIME and CLOCK_MONOTONIC"],
  ];
  return table(
    null,
    columns,
    doc.hosts.map((one, nr) => {
      const field = `/hosts/${nr}`;
      return [
        [host(nr)],
        [text(`${field}/kernel`, "span", { class: "n" }), " ", text(`${field}/machine`, "span", { class: "dim" })],
        [text(`${field}/source`)],
        [
          "vfio-trace ",
          text(`${field}/traced_by`),
          one.command.length > 0 &&
            el(
              "div",
              { class: "dim command", title: one.command.join(" ") },
              one.command.map((_, at) => [at > 0 && " ", text(`${field}/command/${at}`)]),
            ),
        ],
        [num(`${field}/began_ns`, "at")],
        [num(`${field}/ended_ns`, "at")],
        [num(`${field}/events`, "count")],
        [lossCell(nr)],
        [
          text(`${field}/real_at_origin`, "span", { class: "n" }),
          el("div", { class: "dim" }, "monotonic ", num(`${field}/mono_at_origin_ns`, "ns")),
        ],
      ];
    }),
    { class: "hosts" },
  );
}

/** How the hosts' clocks were brought together, a line per host but the first. */
function clocks() {
  return doc.merge.map((_, at) => {
    const value = (key) => num(`/merge/${at}/${key}`, "ns");
    return el(
      "p",
      { class: "clocks" },
      el("strong", {}, "Clock of ", host(doc.merge[at].host), " "),
      text(`/merge/${at}/text`),
      " ",
      el(
        "span",
        { class: "dim" },
        "By ",
        word(`/merge/${at}/method`),
        ": moved by ",
        value("offset_ns"),
        "; its times may be ",
        value("early_ns"),
        " early or ",
        value("late_ns"),
        " late. Causality allows ",
        value("causal_min_ns"),
        " to ",
        value("causal_max_ns"),
        ", the kernels promise ",
        value("clock_error_ns"),
        ".",
      ),
    );
  });
}

/** The page's first line: the one migration's sentence, or how many ended how. */
function headline() {
  const count = doc.migrations.length;
  if (count === 0 && doc.omitted.migrations > 0) return el("h1", {}, "This page has no room for any migration");
  if (count === 0) return el("h1", {}, "No migration was seen");
  if (count === 1) return el("h1", {}, sign("/migrations/0/verdict", VERDICTS), " ", text("/migrations/0/text"));
  const some = Object.keys(VERDICTS).filter((verdict) => doc.migrations.some((one) => one.verdict === verdict));
  return el(
    "h1",
    {},
    tally("/migrations"),
    " migrations: ",
    some.map((verdict, at) => [
      at > 0 && ", ",
      el(
        "span",
        { class: `badge ${VERDICTS[verdict][1]}` },
        VERDICTS[verdict][0],
        " ",
        tally("/migrations", "verdict", verdict),
        ` ${verdict}`,
      ),
    ]),
  );
}

function header() {
  return [
    el(
      "div",
      { class: "top" },
      el("span", { class: "tool" }, "vfio-trace report"),
      el("span", { class: "dim" }, "origin ", text("/origin"), ", ", num("/duration_ns", "ns"), " traced"),
      el("button", { type: "button", id: "theme", title: "Light, dark, or as the system has it" }, "theme"),
    ),
    headline(),
    lossBanner(),
    omittedBanner(),
    ...clocks(),
    hostTable(),
  ];
}

/** `≥ 412 ms`, `≈ 412 ms ± 3.10 ms`. */
function bounded(field, downtime) {
  if (downtime === null) return NONE;
  const total = num(`${field}/total_ns`, "ns", { class: "n total" });
  const sign = { about: "≈ ", at_least: "≥ " }[downtime.bound];
  const off = downtime.uncertainty_ns !== null && [" ± ", num(`${field}/uncertainty_ns`, "ns")];
  return [sign && el("span", { class: "bound", title: words(downtime.bound) }, sign), total, off];
}

function party(field) {
  const one = find(field);
  if (one === null) return el("span", { class: "dim" }, "not seen");
  return el(
    "span",
    { class: "end" },
    host(one.host),
    " ",
    text(`${field}/comm`, "span", { class: "name" }),
    " ",
    num(`${field}/pid`, "nr", { class: "n dim" }),
  );
}

function migrationTable(choose) {
  return table(
    [tally("/migrations"), " migrations"],
    [
      ["", "num"],
      ["verdict"],
      ["source runs again"],
      ["began", "num"],
      ["took", "num"],
      ["source"],
      ["destination"],
      ["devices", "num"],
      ["downtime", "num"],
      ["what happened", "wide"],
    ],
    doc.migrations.map((one, nr) => {
      const field = `/migrations/${nr}`;
      return {
        attributes: { "data-migration": nr, click: () => choose(nr) },
        cells: [
          [
            el(
              "button",
              {
                type: "button",
                class: "choose",
                "aria-label": `show migration ${nr}`,
                click: (event) => {
                  event.stopPropagation();
                  choose(nr);
                },
              },
              num(`${field}/nr`, "nr"),
            ),
          ],
          [badge(`${field}/verdict`, VERDICTS)],
          [yesNo(`${field}/recovered`)],
          [num(`${field}/start_ns`, "at")],
          [num(`${field}/end_ns`, "ns", { minus: `${field}/start_ns` })],
          [party(`${field}/source`)],
          [party(`${field}/destination`)],
          [tally(`${field}/devices`)],
          [bounded(`${field}/downtime`, one.downtime)],
          [text(`${field}/text`)],
        ],
      };
    }),
    { class: "migrations" },
  );
}

/** `yes`, `no`, or a dash for what is not known. */
function yesNo(field) {
  const value = find(field);
  return el("span", { "data-field": field, "data-bool": true }, value === null ? NONE : value ? "yes" : "no");
}

function deviceTable() {
  return table(
    "Devices",
    [
      ["host"],
      ["device"],
      ["driver"],
      ["migration"],
      ["dirty tracking"],
      ["arcs", "num"],
      ["failed", "num"],
      ["requests", "num"],
      ["steps", "num", "of the driver"],
      ["left out", "num", "steps, marks and answers about the size that were left out, because there are too many"],
      ["STOP_COPY size", "num", "the driver's last estimate of what STOP_COPY moves"],
      ["asked", "num", "how often it was asked for"],
    ],
    doc.devices.map((one, nr) => {
      const field = `/devices/${nr}`;
      const flags = one.migration_flags;
      return [
        [host(one.host)],
        [device(nr)],
        [text(`${field}/driver`)],
        [
          flags === null
            ? el("span", { class: "dim" }, "not known")
            : flags.map((_, at) => [at > 0 && ", ", text(`${field}/migration_flags/${at}`)]),
        ],
        [yesNo(`${field}/dirty_tracking`)],
        [tally(`${field}/arcs`)],
        [tally(`${field}/arcs`, "result", "failed")],
        [tally(`${field}/requests`)],
        [tally(`${field}/steps`)],
        [
          num(`${field}/steps_left_out`, "count"),
          " + ",
          num(`${field}/marks_left_out`, "count"),
          " + ",
          num(`${field}/sizes_left_out`, "count"),
        ],
        [one.sizes.length > 0 ? num(`${field}/sizes/${one.sizes.length - 1}/stop_copy_bytes`, "bytes") : NONE],
        [tally(`${field}/sizes`)],
      ];
    }),
  );
}

function dirtyTable() {
  const rows = doc.devices.flatMap((one, nr) =>
    one.dirty_logs.map((log, at) => [nr, log, `/devices/${nr}/dirty_logs/${at}`]),
  );
  if (rows.length === 0) return null;
  return table(
    "Dirty logging by the device",
    [
      ["device"],
      ["from", "num"],
      ["to", "num"],
      ["start took", "num"],
      ["stop took", "num"],
      ["page size", "num", "asked for, and granted"],
      ["ranges", "num"],
      ["span", "num"],
      ["reports", "num"],
      ["failed", "num"],
      ["within them", "num"],
      ["dirty pages", "num"],
      ["not counted", "num", "reports that worked and whose bitmap was not counted"],
      ["start"],
    ],
    rows.map(([nr, log, field]) => [
      [host(doc.devices[nr].host), " ", device(nr)],
      [num(`${field}/start_ns`, "at")],
      [log.stop_ns === null ? "still on" : num(`${field}/stop_ns`, "at")],
      [num(`${field}/start_duration_ns`, "ns")],
      [num(`${field}/stop_duration_ns`, "ns")],
      [num(`${field}/page_size_bytes`, "bytes"), " / ", num(`${field}/granted_page_size_bytes`, "bytes")],
      [num(`${field}/ranges`, "count")],
      [num(`${field}/span_bytes`, "bytes")],
      [num(`${field}/reports`, "count")],
      [num(`${field}/reports_failed`, "count", { class: log.reports_failed > 0 ? "n bad" : "n" })],
      [num(`${field}/reports_ns`, "ns")],
      [num(`${field}/dirty_pages`, "count")],
      [num(`${field}/reports_uncounted`, "count")],
      [outcome(field)],
    ]),
  );
}

/** How something ended, and with which error. */
function outcome(field) {
  const { result, errno } = find(field);
  const kind = { ok: "good", failed: "bad", refused: "bad", unknown: "warn" }[result];
  return [
    el("span", { class: kind }, text(`${field}/result`)),
    errno !== null && [" ", text(`${field}/errno`, "span", { class: "name" })],
  ];
}
