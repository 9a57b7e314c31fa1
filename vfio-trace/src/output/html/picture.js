// The picture on the screen: zoom, pan, select, what the pointer and the keyboard are told.

const view = { migration: null, from: 0, to: 1, width: 900 };
const shown = { head: null, lanes: null, charts: null };
const tip = document.getElementById("tip");
const live = document.getElementById("live");
const canvas = el("div", { class: "canvas" });
const crosshair = el("div", { class: "crosshair", hidden: true });
const selection = el("div", { class: "selection", hidden: true });
const range = el("span", { class: "range tick" });

const bounds = () => [Math.min(0, rangeOf(view.migration)[0]), Math.max(doc.duration_ns, rangeOf(view.migration)[1])];
const devicesShown = () => groups(view.migration).flatMap((group) => group.devices);

let due = false;
/** Draws at the next frame; several calls draw once. */
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    drawNow();
  });
}

function drawNow() {
  const focused = document.activeElement?.closest?.(".item")?.dataset.field;
  const onLanes = document.activeElement === shown.lanes;
  shown.head = drawHead(view);
  shown.lanes = drawLanes(view);
  shown.charts = drawCharts(view, devicesShown());
  canvas.replaceChildren(
    ...[shown.head, shown.lanes, shown.charts].filter((one) => one !== null),
    crosshair,
    selection,
  );
  range.textContent = `${wall(Math.max(view.from, 0))} – ${wall(view.to)} UTC, ${duration(Math.round(view.to - view.from))}`;
  if (onLanes) shown.lanes.focus({ preventScroll: true });
  if (focused !== undefined)
    [...shown.lanes.querySelectorAll(".item")]
      .find((one) => one.dataset.field === focused)
      ?.focus({ preventScroll: true });
}

/** Shows a range, within what there is and not below 100 ns. */
function show(from, to) {
  const [least, most] = bounds();
  const span = Math.min(Math.max(to - from, 100), most - least);
  const start = Math.min(Math.max(from, least), most - span);
  view.from = start;
  view.to = start + span;
  hideTip();
  draw();
}

const fit = () => show(...rangeOf(view.migration));
const pan = (part) => show(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));

/** Zooms by a factor around a moment. */
function zoom(factor, around = (view.from + view.to) / 2) {
  show(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

/** Shows something between two moments, with some room at the sides. */
function zoomTo(start, end) {
  const margin = Math.max((end - start) * 0.1, 100);
  show(start - margin, end + margin);
}

function zoomToDowntime() {
  const all = shownDowntimes(view.migration).map(([, one]) => one);
  if (all.length > 0) zoomTo(Math.min(...all.map((one) => one.start_ns)), Math.max(...all.map((one) => one.end_ns)));
}

// ---------------------------------------------------------------------------------------------------------- the tip

function showTip(content, x, y) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 10) : y + 18}px`;
}

const hideTip = () => {
  tip.hidden = true;
};

function itemTip(item) {
  const [title, lines] = explain(item);
  return [
    el("div", { class: "tip-title" }, title),
    el(
      "dl",
      {},
      lines.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
  ];
}

function hover(event) {
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const scale = scaleOf(view);
  const inside = x >= scale.left && x <= scale.right;
  crosshair.hidden = !inside;
  if (inside) crosshair.style.left = `${x}px`;
  const item = event.target.closest?.(".item")?.item;
  if (item !== undefined) {
    showTip(itemTip(item), event.clientX, event.clientY);
  } else if (inside && event.target.closest?.(".charts, .head")) {
    const at = scale.at(x);
    const values = event.target.closest(".charts") ? chartValues(devicesShown(), at) : [];
    showTip(
      [
        el("div", { class: "tip-title tick" }, `${moment(at)}, ${wall(at)} UTC`),
        el(
          "dl",
          {},
          values.map(([name, value]) => [el("dt", { class: "tick" }, name), el("dd", {}, value)]),
        ),
      ],
      event.clientX,
      event.clientY,
    );
  } else {
    hideTip();
  }
}

// ------------------------------------------------------------------------------------------------------- the pointer

const pointers = new Map();
let drag = null;

function pointerDown(event) {
  if (event.button > 1) return;
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const scale = scaleOf(view);
  pointers.set(event.pointerId, x);
  if (x < scale.left) return;
  const overview = event.clientY - box.top < 13;
  const touch = event.pointerType === "touch";
  const kind =
    pointers.size === 2
      ? "pinch"
      : overview
        ? "overview"
        : event.shiftKey || event.button === 1 || touch
          ? "pan"
          : "select";
  drag = { kind, x, from: view.from, to: view.to, start: [...pointers.values()] };
  if (overview) moveWindow(x, scale);
  if (event.button === 1) event.preventDefault();
}

/** Puts the middle of the view where the overview was pressed. */
function moveWindow(x, scale) {
  const at = ((x - scale.left) / (scale.right - scale.left)) * Math.max(doc.duration_ns, 1);
  const half = (view.to - view.from) / 2;
  show(at - half, at + half);
}

function pointerMove(event) {
  const x = event.clientX - canvas.getBoundingClientRect().left;
  if (pointers.has(event.pointerId)) pointers.set(event.pointerId, x);
  if (drag === null) return hover(event);
  const scale = scaleOf({ ...view, from: drag.from, to: drag.to });
  if (Math.abs(x - drag.x) > 3 && !canvas.hasPointerCapture(event.pointerId)) canvas.setPointerCapture(event.pointerId);
  if (drag.kind === "overview") moveWindow(x, scale);
  if (drag.kind === "pan") {
    const moved = scale.at(drag.x) - scale.at(x);
    show(drag.from + moved, drag.to + moved);
  }
  if (drag.kind === "pinch" && pointers.size === 2) {
    const [[a, b], [c, d]] = [drag.start, [...pointers.values()]];
    const factor = Math.abs(a - b) / Math.max(Math.abs(c - d), 1);
    const middle = scale.at((a + b) / 2) + (scale.at((a + b) / 2) - scale.at((c + d) / 2)) * factor;
    show(middle - (scale.at((a + b) / 2) - drag.from) * factor, middle + (drag.to - scale.at((a + b) / 2)) * factor);
  }
  if (drag.kind === "select") {
    const [left, right] = [Math.min(x, drag.x), Math.max(x, drag.x)].map((one) =>
      Math.min(Math.max(one, scale.left), scale.right),
    );
    selection.hidden = right - left < 4;
    selection.style.left = `${left}px`;
    selection.style.width = `${right - left}px`;
    hideTip();
  }
}

function pointerUp(event) {
  const x = event.clientX - canvas.getBoundingClientRect().left;
  pointers.delete(event.pointerId);
  if (drag?.kind === "select" && Math.abs(x - drag.x) >= 4 && event.type === "pointerup") {
    const scale = scaleOf(view);
    const [from, to] = [scale.at(Math.min(x, drag.x)), scale.at(Math.max(x, drag.x))];
    show(Math.max(from, view.from), Math.min(to, view.to));
  }
  drag = null;
  selection.hidden = true;
}

function wheel(event) {
  const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
  if (event.ctrlKey || event.metaKey) {
    const x = event.clientX - canvas.getBoundingClientRect().left;
    zoom(Math.min(Math.max(1.0025 ** event.deltaY, 0.25), 4), scaleOf(view).at(Math.max(x, GUTTER)));
  } else if (across !== 0) {
    pan(across / 900);
  } else {
    return;
  }
  event.preventDefault();
}

// ------------------------------------------------------------------------------------------------------ the keyboard

const KEYS = {
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: fit,
  d: zoomToDowntime,
  ArrowLeft: () => pan(-0.15),
  ArrowRight: () => pan(0.15),
  Home: () => show(bounds()[0], bounds()[0] + view.to - view.from),
  End: () => show(bounds()[1] - (view.to - view.from), bounds()[1]),
  Enter: () => focusItem(shown.lanes.querySelector(".item")),
};

function focusItem(node) {
  if (!node) return;
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "nearest" });
}

/** Arrow keys among the items: along a row, or to the nearest in time in another. */
function walk(node, key) {
  const rows = [...shown.lanes.querySelectorAll(".row")].filter((row) => row.querySelector(".item") !== null);
  const row = node.closest(".row");
  if (key === "ArrowLeft") return node.previousElementSibling;
  if (key === "ArrowRight") return node.nextElementSibling;
  const other = rows[rows.indexOf(row) + (key === "ArrowUp" ? -1 : 1)];
  const at = Number(node.dataset.start);
  return [...(other?.querySelectorAll(".item") ?? [])].reduce(
    (best, one) =>
      best === null || Math.abs(Number(one.dataset.start) - at) < Math.abs(Number(best.dataset.start) - at)
        ? one
        : best,
    null,
  );
}

function keyDown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const node = event.target.closest?.(".item");
  if (node && event.key.startsWith("Arrow")) focusItem(walk(node, event.key));
  else if (node && event.key === "Escape") shown.lanes.focus();
  else if (node && event.key === "Enter") zoomTo(Number(node.dataset.start), Number(node.dataset.end));
  else if (KEYS[event.key] !== undefined) KEYS[event.key]();
  else return;
  event.preventDefault();
}

function focusIn(event) {
  const node = event.target.closest?.(".item");
  if (!node) return;
  const box = node.getBoundingClientRect();
  showTip(itemTip(node.item), Math.max(box.left, GUTTER), box.bottom - 14);
  live.textContent = spoken(node.item);
}

// ------------------------------------------------------------------------------------------------------- put together

function controls() {
  const button = (name, title, click) => el("button", { type: "button", title, click, "aria-label": title }, name);
  return el(
    "div",
    { class: "controls" },
    button("−", "zoom out (−)", () => zoom(2)),
    button("+", "zoom in (+)", () => zoom(0.5)),
    button("◀", "earlier (←)", () => pan(-0.3)),
    button("▶", "later (→)", () => pan(0.3)),
    button("fit", "fit what is shown (0)", fit),
    button("downtime", "zoom to the downtime (d)", zoomToDowntime),
    button("whole trace", "the whole trace", () => show(...bounds())),
    range,
    el(
      "span",
      { class: "dim hint" },
      "drag: zoom · Shift+drag: pan · Ctrl+wheel or pinch: zoom · double click: zoom to it, or fit",
    ),
  );
}

function picture() {
  canvas.addEventListener("pointerdown", pointerDown);
  canvas.addEventListener("pointermove", pointerMove);
  canvas.addEventListener("pointerup", pointerUp);
  canvas.addEventListener("pointercancel", pointerUp);
  canvas.addEventListener("pointerleave", () => {
    crosshair.hidden = true;
    hideTip();
  });
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("keydown", keyDown);
  canvas.addEventListener("focusin", focusIn);
  canvas.addEventListener("focusout", hideTip);
  canvas.addEventListener("dblclick", (event) => {
    const item = event.target.closest?.(".item")?.item;
    if (item?.start !== undefined) zoomTo(item.start, item.end);
    else fit();
  });
  new ResizeObserver(([entry]) => {
    const width = Math.max(Math.floor(entry.contentRect.width), 480);
    if (width !== view.width) {
      view.width = width;
      draw();
    }
  }).observe(canvas);
  return [el("h2", {}, "Picture"), controls(), legend(), canvas];
}
