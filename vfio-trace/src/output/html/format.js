// Numbers and names of the document, and elements that show them.
//
// What is shown says where it is from: `data-field` is a JSON pointer into the document, `data-value` the number
// there. Texts go in as text nodes only: names in a recording may have been chosen by anybody.

const doc = JSON.parse(document.getElementById("document").textContent);

/** The value that a JSON pointer leads to. */
const find = (pointer) =>
  pointer
    .split("/")
    .slice(1)
    .reduce((at, key) => (at === null || at === undefined ? at : at[key]), doc);

/** `value` in units of `unit` with three significant digits, or null if that takes four. */
function threeDigits(value, unit) {
  for (const decimals of [2, 1, 0]) {
    const scale = 10 ** decimals;
    const rounded = Math.floor((value * scale) / unit + 0.5);
    if (rounded < 1000) return (rounded / scale).toFixed(decimals);
  }
  return null;
}

/** As the report's text has it: `24 B`, `1.46 KiB`. */
function bytes(value) {
  if (value < 1000) return `${value} B`;
  let unit = 1;
  for (const name of ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]) {
    unit *= 1024;
    if (value % unit === 0 && value / unit < 1000) return `${value / unit} ${name}`;
    const digits = threeDigits(value, unit);
    if (digits !== null) return `${digits} ${name}`;
  }
  return `${value} B`;
}

/** As the report's text has it: `640 ns`, `9.10 µs`, `16m40s`. */
function duration(value) {
  if (value < 0) return `−${duration(-value)}`;
  if (value < 1000) return `${value} ns`;
  for (const [name, unit] of [
    ["µs", 1e3],
    ["ms", 1e6],
    ["s", 1e9],
  ]) {
    const digits = threeDigits(value, unit);
    if (digits !== null) return `${digits} ${name}`;
  }
  const seconds = Math.floor(value / 1e9);
  const two = (number) => String(number).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}h${two(m)}m${two(s)}s` : `${m}m${two(s)}s`;
}

/** `1 234 567`. */
const grouped = (value) => String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");

/** A moment: seconds since the origin, to the microsecond. */
const moment = (value) => `${(Math.round(value / 1e3) / 1e6).toFixed(6)} s`;

const percent = (value) => `${(value * 100).toFixed(value > 0 && value < 0.0995 ? 1 : 0)} %`;

const UNITS = {
  ns: duration,
  at: moment,
  bytes,
  rate: (value) => `${bytes(Math.round(value))}/s`,
  count: grouped,
  nr: String,
  percent,
};

const NONE = "–";

/** The origin: whole seconds since 1970, and the ns after them. */
const origin = (() => {
  const match = /^(.*?)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)$/.exec(doc.origin) ?? [];
  const seconds = Date.parse(`${match[1]}${match[3]}`) / 1000;
  return Number.isNaN(seconds) ? null : { seconds, ns: Number((match[2] ?? "").padEnd(9, "0").slice(0, 9)) };
})();

/** UTC on the document's clock, `digits` of them after the point. */
function wall(at, digits = 6) {
  if (origin === null) return NONE;
  const ns = origin.ns + at;
  const date = new Date((origin.seconds + Math.floor(ns / 1e9)) * 1000);
  const rest = String(Math.floor(((ns % 1e9) + 1e9) % 1e9)).padStart(9, "0");
  return `${date.toISOString().slice(11, 19)}.${rest.slice(0, digits)}`;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. Strings among the children become text nodes. */
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const exact = {
  ns: (value) => `${grouped(value)} ns`,
  at: (value) => `${grouped(value)} ns after the origin, ${wall(value)} UTC`,
  bytes: (value) => `${grouped(value)} B`,
  rate: (value) => `${grouped(Math.round(value))} B/s`,
};

/** The attributes of a shown number, and its text. `minus` and `over` make it a difference or a ratio. */
function numberParts(field, unit, { minus, over } = {}) {
  let value = find(field) ?? null;
  if (value !== null && minus !== undefined) value = find(minus) === null ? null : value - find(minus);
  if (value !== null && over !== undefined) value = find(over) > 0 ? value / find(over) : null;
  const attributes = {
    "data-field": field,
    "data-minus": minus,
    "data-over": over,
    "data-unit": unit,
    "data-value": String(value),
  };
  return [attributes, value === null ? NONE : UNITS[unit](value), value];
}

/** A number of the document. */
function num(field, unit, options = {}) {
  const [attributes, shown, value] = numberParts(field, unit, options);
  const title = value === null ? "not known" : exact[unit]?.(value);
  return el("span", { class: options.class ?? "n", title, ...attributes }, shown);
}

/** How many elements of an array there are, or have `key` equal to `is`. */
function tally(field, key, is) {
  const list = find(field) ?? [];
  const value = key === undefined ? list.length : list.filter((one) => one[key] === is).length;
  return el(
    "span",
    { "data-count": field, "data-key": key, "data-is": is, "data-value": String(value) },
    grouped(value),
  );
}

/** A text of the document. */
function text(field, tag = "span", attributes = {}) {
  const value = find(field);
  return el(tag, { "data-field": field, ...attributes }, value ?? NONE);
}

/** A table: `columns` are [heading, class?, title?]. */
function table(caption, columns, rows, attributes = {}) {
  const head = columns.map(([name, kind, title]) => el("th", { scope: "col", class: kind, title }, name));
  const body = rows.map((row) =>
    el(
      "tr",
      row.attributes ?? {},
      (row.cells ?? row).map((cell, at) => el("td", { class: columns[at]?.[1] }, cell)),
    ),
  );
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      attributes,
      caption && el("caption", {}, caption),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, body),
    ),
  );
}

const VERDICTS = {
  completed: ["✓", "good"],
  failed: ["✕", "bad"],
  cancelled: ["⊘", "warn"],
  unfinished: ["…", "warn"],
};
const SEVERITIES = { error: ["✕", "bad"], warning: ["▲", "warn"], info: ["ℹ", "info"] };

/** A verdict or a severity, by sign, word and colour. */
function badge(field, kinds) {
  const [sign, kind] = kinds[find(field)] ?? ["?", "warn"];
  return el("span", { class: `badge ${kind}` }, el("span", { "aria-hidden": "true" }, sign), " ", text(field));
}

/** The same for a place whose text says the word too: the sign alone, and the word for who cannot see it. */
function sign(field, kinds) {
  const [shown, kind] = kinds[find(field)] ?? ["?", "warn"];
  return el(
    "span",
    { class: `badge ${kind}` },
    el("span", { "aria-hidden": "true" }, shown),
    el("span", { class: "unseen" }, text(field)),
  );
}

/** Words of the kernel and of the document, as people write them. */
const words = (name) => String(name ?? NONE).replaceAll("_", " ");

/** A word of the document with its underscores as spaces. */
const word = (field) => el("span", { "data-field": field, "data-words": true }, words(find(field)));

/** A device's name, or its place where that never became known; as text, and as an element. */
const deviceName = (nr) => doc.devices[nr]?.name ?? `device ${nr}`;
const device = (nr) => named("device", `/devices/${nr}`);

/** What a host is called among the others; the recordings themselves may say the same name twice. */
const host = (nr) => text(`/hosts/${nr}/label`, "span", { class: "name" });

function named(what, field) {
  if (find(`${field}/name`) !== null) return text(`${field}/name`, "span", { class: "name" });
  return el("span", { class: "name" }, `${what} `, num(`${field}/nr`, "nr"));
}
