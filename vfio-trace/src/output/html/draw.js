// Drawing: a view (a range of time, some devices) to SVG. Nothing here keeps state, so that paper gets the same
// pictures as the screen.

const HEAD = 38;
const PAD = 14;
const CHAR = 6.1;
/** More devices than this have a row each, and no more. */
const MANY = 16;

/** Steps of 1, 2, 5 times a power of ten. */
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? rough;
}

function scaleOf({ width, from, to }) {
  const span = to - from;
  const inner = Math.max(width - GUTTER - PAD, 50);
  return {
    x: (at) => GUTTER + ((at - from) / span) * inner,
    at: (x) => from + ((x - GUTTER) / inner) * span,
    left: GUTTER,
    right: GUTTER + inner,
    span,
  };
}

/** Where the axis has its lines: [[ns, label]], and from which moment the labels count if not from the origin. */
function ticks(view, scale) {
  const step = Math.max(niceStep((scale.span / (scale.right - scale.left)) * 110), 1);
  const first = Math.ceil(view.from / step) * step;
  const list = [];
  for (let at = first; at <= view.to && list.length < 60; at += step) list.push(Math.round(at));
  // Far from the origin the digits that matter come last: count from the first line then.
  const base = list.length > 0 && Math.abs(list[0]) / step > 2000 ? list[0] : null;
  const [unit, name] =
    step >= 1e8 || (base === null && step >= 1e5)
      ? [1e9, "s"]
      : step >= 1e5
        ? [1e6, "ms"]
        : step >= 100
          ? [1e3, "µs"]
          : [1, "ns"];
  const decimals = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  const label = (at) => `${base === null ? "" : "+"}${((at - (base ?? 0)) / unit).toFixed(decimals)} ${name}`;
  return { list: list.map((at) => [at, label(at)]), base };
}

/** Downtimes of the VMs to show, as [pointer, downtime]. */
const shownDowntimes = (migration) =>
  doc.migrations
    .map((one, nr) => [`/migrations/${nr}/downtime`, one.downtime, nr])
    .filter(([, downtime, nr]) => downtime !== null && (migration === null || migration === nr));

const bandOf = (scale, downtime) => {
  const x0 = Math.max(scale.x(downtime.start_ns), scale.left);
  const x1 = Math.min(scale.x(downtime.end_ns), scale.right);
  return x1 < scale.left || x0 > scale.right ? null : [x0, Math.max(x1, x0 + 1)];
};

/** Lines of the axis and shades of the downtimes, behind everything. */
function backdrop(view, scale, height) {
  return svg(
    "g",
    { class: "backdrop", "aria-hidden": "true" },
    shownDowntimes(view.migration).map(([, downtime]) => {
      const band = bandOf(scale, downtime);
      return band && svg("rect", { class: "shade", x: band[0], y: 0, width: band[1] - band[0], height });
    }),
    ticks(view, scale).list.map(([at]) =>
      svg("line", { class: "grid", x1: scale.x(at), x2: scale.x(at), y1: 0, y2: height }),
    ),
  );
}

/** The axis, with the downtimes as brackets and, above, where in the trace the view is. */
function drawHead(view) {
  const scale = scaleOf(view);
  const { list, base } = ticks(view, scale);
  const whole = Math.max(doc.duration_ns, 1);
  const full = (at) => GUTTER + Math.min(Math.max(at / whole, 0), 1) * (scale.right - scale.left);
  const height = HEAD + 16;
  const brackets = [];
  let free = -Infinity;
  for (const [field, downtime] of shownDowntimes(view.migration)) {
    const band = bandOf(scale, downtime);
    if (band === null) continue;
    const y = HEAD + 10;
    const label = svg("tspan", numberParts(`${field}/total_ns`, "ns")[0], duration(downtime.total_ns));
    const sign = { about: "≈ ", at_least: "≥ ", exact: "" }[downtime.bound];
    const words_ = `downtime ${sign}${duration(downtime.total_ns)}`;
    // Bold letters are wider.
    const half = (words_.length * CHAR * 1.2) / 2;
    const middle = Math.min(Math.max((band[0] + band[1]) / 2, scale.left + half), scale.right - half);
    brackets.push(svg("path", { class: "bracket", d: `M${band[0]} ${y + 6}v-5H${band[1]}v5` }));
    if (middle - half > free) {
      brackets.push(
        svg(
          "text",
          { class: "downtime-label", x: middle, y: y - 3, "text-anchor": "middle" },
          `downtime ${sign}`,
          label,
        ),
      );
      free = middle + half + 6;
    }
  }
  const node = svg(
    "svg",
    { class: "head", width: view.width, height, "aria-hidden": "true" },
    svg("rect", { class: "overview", x: scale.left, y: 2, width: scale.right - scale.left, height: 8 }),
    doc.migrations.map((one) =>
      svg("rect", {
        class: `overview-migration ${VERDICTS[one.verdict]?.[1] ?? ""}`,
        x: full(one.start_ns),
        y: 3,
        width: Math.max(full(one.end_ns) - full(one.start_ns), 1.5),
        height: 6,
      }),
    ),
    svg("rect", {
      class: "window",
      x: full(view.from) - 0.5,
      y: 0.5,
      width: Math.max(full(view.to) - full(view.from), 3),
      height: 11,
      rx: 2,
    }),
    svg("text", { class: "gutter dim", x: 8, y: 10 }, "whole trace"),
    svg("text", { class: "gutter dim tick", x: 8, y: 27 }, base === null ? "since the origin" : `${moment(base)} +`),
    list.map(([at, label], nr) => {
      const x = scale.x(at);
      // Labels at the edges would be cut.
      const anchor = x - 24 < scale.left ? "start" : x + 30 > scale.right ? "end" : "middle";
      const text_ = base !== null && nr === 0 ? "0" : label;
      return svg(
        "g",
        {},
        svg("line", { class: "grid", x1: x, x2: x, y1: 30, y2: height }),
        svg("text", { class: "tick", x, y: 27, "text-anchor": anchor }, text_),
      );
    }),
    brackets,
  );
  return node;
}

/** The visible items of a row, left to right; of those too close to tell apart, one. */
function visible(items, scale, view) {
  const kept = [];
  let last = -Infinity;
  for (const item of items) {
    const start = item.start ?? item.at;
    const end = item.end ?? item.at;
    if (end < view.from || start > view.to) continue;
    const mark = item.at !== undefined;
    const x0 = mark ? scale.x(start) : Math.max(scale.x(start), scale.left);
    const x1 = mark ? x0 : Math.min(scale.x(end), scale.right);
    if (!item.keep && x1 < last + (mark ? 5 : 0.4)) continue;
    kept.push([item, x0, Math.max(x1, x0 + (item.least ?? 1))]);
    if (!item.keep) last = Math.max(last, Math.max(x1, x0 + (mark ? 5 : 1)));
  }
  return kept;
}

const fitting = (label, width) => {
  const room = Math.floor((width - 8) / CHAR);
  if (label === undefined || room < 3) return null;
  return label.length <= room ? label : room >= 6 ? `${label.slice(0, room - 1)}…` : null;
};

/** A name in so many characters at most; its start and its end tell more than its middle. */
function short(name, most) {
  if (name.length <= most) return name;
  const head = Math.floor((most - 1) / 2);
  return `${name.slice(0, head)}…${name.slice(head + 1 - most)}`;
}

/** A name of the document, shortened to fit. */
const svgName = (field, most, attributes) =>
  svg(
    "text",
    { "data-field": field, "data-short": true, ...attributes },
    svg("title", {}, find(field)),
    short(find(field), most),
  );

/** One item as an element. */
function drawItem(item, x0, x1, y, height) {
  const common = {
    class: `item ${item.class}`,
    role: "img",
    "aria-label": spoken(item),
    tabindex: -1,
    "data-field": item.field,
    "data-start": item.start ?? item.at,
    "data-end": item.end ?? item.at,
  };
  const place = (node) => Object.assign(node, { item });
  if (item.at !== undefined) {
    return place(
      svg(
        "g",
        common,
        svg("rect", { class: "touch", x: x0 - 6, y, width: 12, height }),
        svg("text", { x: x0, y: y + height - 3, "text-anchor": "middle" }, item.sign),
      ),
    );
  }
  const label = fitting(item.label, x1 - x0);
  const inset = { state: 1, arc: 1, part: 1, downtime: 2, dirty: 4, report: 2, request: 1, step: 1 }[item.kind] ?? 1;
  return place(
    svg(
      "g",
      common,
      svg("rect", { x: x0, y: y + inset, width: x1 - x0, height: height - 2 * inset, rx: x1 - x0 > 4 ? 1.5 : 0 }),
      label !== null && height >= 12 && svg("text", { x: x0 + 4, y: y + height / 2 + 3.6 }, label),
    ),
  );
}

function headingPart(part) {
  if (typeof part === "string") return part;
  return svg("tspan", { "data-field": part.field, "data-short": true, class: part.class }, short(find(part.field), 60));
}

/** All lanes. */
function drawLanes(view) {
  const scale = scaleOf(view);
  const nodes = [];
  const dataRow = new Map();
  let y = 2;
  const all = groups(view.migration);
  const compact = all.reduce((sum, group) => sum + group.devices.length, 0) > MANY;
  const note = compact
    ? svg("tspan", { class: "group-note", dx: 12 }, "states and troubles only: choose a migration for the rest")
    : null;
  for (const { heading, devices } of all) {
    nodes.push(
      svg("rect", { class: "group", x: 0, y, width: view.width, height: 18 }),
      svg(
        "text",
        { class: "group-name", x: 8, y: y + 13 },
        heading.map((part, at) => [at > 0 && " ", headingPart(part)]),
        note?.cloneNode(true),
      ),
    );
    y += 20;
    for (const nr of devices) {
      const top = y;
      const one = doc.devices[nr];
      nodes.push(
        one.name === null
          ? svg("text", { class: "lane-name tick", x: 8, y: y + 12 }, deviceName(nr))
          : svgName(`/devices/${nr}/name`, 18, { class: "lane-name", x: 8, y: y + 12 }),
      );
      if (one.driver !== null && !compact)
        nodes.push(svgName(`/devices/${nr}/driver`, 20, { class: "lane-driver", x: 8, y: y + 25 }));
      const rows = rowsOf(nr).filter(
        (row) => !compact || row.name === "state" || (row.name === "events" && row.items.some((item) => item.keep)),
      );
      if (rows.length === 0) y += 20;
      for (const row of rows) {
        nodes.push(
          svg(
            "text",
            { class: "row-name", x: GUTTER - 6, y: y + row.height / 2 + 3.5, "text-anchor": "end" },
            row.height >= 8 ? row.name : "",
          ),
        );
        if (row.name === "data") dataRow.set(nr, y + row.height / 2);
        nodes.push(
          svg(
            "g",
            { class: "row", "data-row": row.name },
            visible(row.items, scale, view).map(([item, x0, x1]) => drawItem(item, x0, x1, y, row.height)),
          ),
        );
        y += row.height + 1;
      }
      y = compact ? Math.max(y, top + 16) + 2 : Math.max(y, top + 30) + 5;
      nodes.push(svg("line", { class: "lane-end", x1: 0, x2: view.width, y1: y - 2, y2: y - 2 }));
    }
  }
  return svg(
    "svg",
    {
      class: "lanes",
      width: view.width,
      height: y,
      "data-from": view.from,
      "data-to": view.to,
      role: "group",
      tabindex: 0,
      "aria-label": "Swim lanes per device. Arrow keys pan, plus and minus zoom, zero fits; Enter goes to the items.",
    },
    backdrop(view, scale, y),
    links(view, scale, dataRow),
    nodes,
  );
}

/** From what a source's data fd gave to what the destination's took. */
function links(view, scale, rows) {
  const span = (side) => {
    const parts = side.sessions.flatMap((nr) => doc.sessions[nr].parts);
    return parts.length === 0
      ? null
      : [Math.min(...parts.map((part) => part.first_ns)), Math.max(...parts.map((part) => part.last_ns))];
  };
  const clamp = (x) => Math.min(Math.max(x, scale.left - 2), scale.right + 2);
  const drawn = doc.migrations
    .filter((_, nr) => view.migration === null || nr === view.migration)
    .flatMap((one) => one.devices)
    .map((pair) => {
      if (pair.source === null || pair.destination === null) return null;
      const [from, to] = [span(pair.source), span(pair.destination)];
      const [y0, y1] = [rows.get(pair.source.device), rows.get(pair.destination.device)];
      if (from === null || to === null || y0 === undefined || y1 === undefined) return null;
      const [a, b, c, d] = [from[0], from[1], to[1], to[0]].map((at) => clamp(scale.x(at)));
      const middle = (y0 + y1) / 2;
      return svg("path", {
        class: "link",
        d: `M${a} ${y0}C${a} ${middle} ${d} ${middle} ${d} ${y1}L${c} ${y1}C${c} ${middle} ${b} ${middle} ${b} ${y0}Z`,
      });
    });
  return svg("g", { class: "links", "aria-hidden": "true" }, drawn);
}

// ------------------------------------------------------------------------------------------------------------ charts

/** Lines to draw for some devices: what, in which unit, and where from. */
function chartsOf(devices) {
  const sessions = doc.sessions.map((one, at) => [one, at]).filter(([one]) => devices.includes(one.device));
  const colour = (nr) => devices.indexOf(nr) % 7;
  const line = (nr, list, field, key, more) => ({
    nr,
    colour: colour(nr),
    ...more,
    points: list.map((one, at) => [one.at_ns, one[key], `${field}/${at}/${key}`]).filter(([, value]) => value !== null),
  });
  const moved = sessions.map(([one, at]) =>
    line(one.device, one.series, `/sessions/${at}/series`, "bytes", {
      start: [one.start_ns, 0],
      dashed: one.direction === "resume",
      name: `${deviceName(one.device)} ${one.direction ?? ""}`,
      last: `/sessions/${at}/bytes`,
    }),
  );
  const left = sessions.flatMap(([one, at]) => [
    line(one.device, one.precopy_info, `/sessions/${at}/precopy_info`, "initial_bytes", {
      dashed: true,
      name: `${deviceName(one.device)} initial`,
    }),
    line(one.device, one.precopy_info, `/sessions/${at}/precopy_info`, "dirty_bytes", {
      name: `${deviceName(one.device)} dirty`,
    }),
  ]);
  const pages = devices.flatMap((nr) =>
    doc.devices[nr].dirty_logs.map((log, at) =>
      line(nr, log.series, `/devices/${nr}/dirty_logs/${at}/series`, "dirty_pages", {
        name: deviceName(nr),
        bars: true,
      }),
    ),
  );
  return [
    { name: "bytes moved", unit: "bytes", lines: moved },
    { name: "initial and dirty bytes", unit: "bytes", lines: left },
    { name: "dirty pages per report", unit: "count", lines: pages },
  ]
    .map((chart) => ({ ...chart, lines: chart.lines.filter((one) => one.points.length > 0) }))
    .filter((chart) => chart.lines.length > 0);
}

/** Round numbers for a vertical axis, in the unit's own system. */
function levels(most, unit) {
  if (most <= 0) return [0];
  let scale = 1;
  if (unit === "bytes") while (most / scale >= 1024) scale *= 1024;
  const step = Math.max(niceStep(most / scale / 2.5), unit === "count" ? 1 : 0) * scale;
  return [0, 1, 2, 3].map((n) => n * step).filter((level) => level <= most * 1.05);
}

const CHART = 74;

function drawCharts(view, devices) {
  const scale = scaleOf(view);
  const charts = chartsOf(devices);
  if (charts.length === 0) return null;
  const height = charts.length * (CHART + 14) + 6;
  const nodes = charts.map((chart, nr) => {
    const top = nr * (CHART + 14) + 12;
    const most = Math.max(1, ...chart.lines.flatMap((one) => one.points.map(([, value]) => value)));
    const y = (value) => top + CHART - (value / most) * (CHART - 4);
    const clamp = (at) => Math.min(Math.max(scale.x(at), scale.left), scale.right);
    const drawn = chart.lines.map((one) => {
      const style = `line series-${one.colour}${one.dashed ? " dashed" : ""}`;
      if (one.bars)
        return svg(
          "g",
          { class: style },
          one.points
            .filter(([at]) => at >= view.from && at <= view.to)
            .map(([at, value]) => svg("line", { x1: scale.x(at), x2: scale.x(at), y1: y(0), y2: y(value) })),
        );
      const points = one.start ? [one.start, ...one.points] : one.points;
      // Steps: the figure holds until the next call. What lies outside is drawn at the edge.
      let path = "";
      let before = null;
      points.forEach(([at, value]) => {
        if (at > view.to) {
          if (before !== null) {
            path += `H${clamp(view.to)}`;
            before = null;
          }
          return;
        }
        if (at < view.from) {
          before = value;
          path = `M${clamp(view.from)} ${y(value).toFixed(1)}`;
          return;
        }
        path += `${path === "" ? "M" : "H"}${scale.x(at).toFixed(1)}${path === "" ? ` ${y(value).toFixed(1)}` : `V${y(value).toFixed(1)}`}`;
        before = value;
      });
      return path.includes("H") || path.includes("V") ? svg("path", { class: style, d: path }) : null;
    });
    const shown = chart.lines.slice(0, 4);
    return svg(
      "g",
      { class: "chart", "data-chart": chart.name },
      svg("text", { class: "chart-name", x: 8, y: top + 8 }, chart.name),
      shown.map((one, at) =>
        svg(
          "g",
          {},
          svg("line", {
            class: `line series-${one.colour}${one.dashed ? " dashed" : ""}`,
            x1: 8,
            x2: 24,
            y1: top + 19 + at * 13,
            y2: top + 19 + at * 13,
          }),
          svg(
            "text",
            { class: "legend-name tick", x: 29, y: top + 23 + at * 13 },
            svg("title", {}, one.name),
            short(one.name, 20),
          ),
        ),
      ),
      chart.lines.length > 4 &&
        svg("text", { class: "legend-name dim tick", x: 29, y: top + 23 + 52 }, `and ${chart.lines.length - 4} more`),
      levels(most, chart.unit).map((level) =>
        svg(
          "g",
          {},
          svg("line", { class: "level", x1: scale.left, x2: scale.right, y1: y(level), y2: y(level) }),
          svg(
            "text",
            { class: "tick", x: scale.left - 6, y: y(level) + 3.5, "text-anchor": "end" },
            UNITS[chart.unit](Math.round(level)),
          ),
        ),
      ),
      drawn,
    );
  });
  return svg(
    "svg",
    {
      class: "charts",
      width: view.width,
      height,
      role: "img",
      "aria-label": charts.map((chart) => chart.name).join(", "),
    },
    backdrop(view, scale, height),
    nodes,
  );
}

/** What the charts say at a moment: [name, number]. */
function chartValues(devices, at) {
  return chartsOf(devices).flatMap((chart) =>
    chart.lines.flatMap((one) => {
      const before = one.points.filter(([when]) => when <= at).pop();
      return before === undefined ? [] : [[`${chart.name}, ${one.name}`, num(before[2], chart.unit)]];
    }),
  );
}

/** The colours' names. */
function legend() {
  const states = ["RUNNING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P", "STOP", "STOP_COPY", "RESUMING", "ERROR"];
  const used = states.filter((name) => doc.devices.some((one) => one.states.some((span) => span.state === name)));
  const key = (style, name) =>
    el("span", { class: "key-name" }, el("span", { class: `key ${style}`, "aria-hidden": "true" }), name);
  return el(
    "div",
    { class: "legend" },
    used.map((name) => key(`state ${stateClass(name)}`, name)),
    key("arc", "arc"),
    key("arc is-failed", "failed"),
    doc.devices.some((one) => one.steps.length > 0) && key("step", "driver step"),
    doc.sessions.some((one) => one.parts.length > 0) && key("part", "data calls"),
    key("shade", "downtime"),
  );
}
