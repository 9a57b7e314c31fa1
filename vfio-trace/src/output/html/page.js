// Puts the page together.

const byId = (id) => document.getElementById(id);

/** Shows one migration, or (null) all of them. */
function choose(nr) {
  view.migration = nr;
  document.querySelectorAll("section.migration").forEach((section) => {
    section.classList.toggle("away", nr !== null && Number(section.dataset.migration) !== nr);
  });
  document.querySelectorAll("table.migrations tbody tr").forEach((row) => {
    const chosen = Number(row.dataset.migration) === nr && nr !== null;
    row.classList.toggle("chosen", chosen);
    row.querySelector("button")?.setAttribute("aria-pressed", String(chosen));
  });
  byId("all")?.setAttribute("aria-pressed", String(nr === null));
  [view.from, view.to] = rangeOf(nr);
  draw();
}

const THEMES = ["system", "light", "dark"];

function theme() {
  const button = byId("theme");
  let at = 0;
  const set = () => {
    if (at === 0) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = THEMES[at];
    button.textContent = `theme: ${THEMES[at]}`;
  };
  button.addEventListener("click", () => {
    at = (at + 1) % THEMES.length;
    set();
  });
  set();
}

/** On paper every migration has a picture of its own range. */
function paper() {
  const before = () => {
    doc.migrations.forEach((_, nr) => {
      const [from, to] = rangeOf(nr);
      const still = { migration: nr, from, to, width: 1040 };
      const place = document.querySelector(`#migration-${nr} .print-picture`);
      place.replaceChildren(
        ...[
          legend(),
          drawHead(still),
          drawLanes(still),
          drawCharts(
            still,
            groups(nr).flatMap((group) => group.devices),
          ),
        ].filter((one) => one !== null),
      );
    });
  };
  const after = () => document.querySelectorAll(".print-picture").forEach((place) => place.replaceChildren());
  addEventListener("beforeprint", before);
  addEventListener("afterprint", after);
}

function rest() {
  const used = new Set(doc.migrations.flatMap((_, nr) => sides(nr).flatMap(([, , side]) => side.sessions)));
  const others = doc.sessions.map((one) => one.nr).filter((nr) => !used.has(nr));
  return [
    ...outside(),
    doc.warnings.length > 0 && el("h2", {}, "Warnings that belong to no migration"),
    doc.warnings.length > 0 &&
      el(
        "ul",
        { class: "troubles" },
        doc.warnings.map((_, at) => warningItem(`/warnings/${at}`)),
      ),
    sessionTable(doc.migrations.length > 0 ? "Data sessions in no migration" : "Data sessions", others),
    dirtyTable(),
    deviceTable(),
  ].filter(Boolean);
}

function page() {
  byId("header").append(...header().filter(Boolean));
  theme();
  const count = doc.migrations.length;
  if (count > 1) {
    byId("migrations").append(
      migrationTable(choose),
      el("button", { type: "button", id: "all", click: () => choose(null) }, "all devices, all migrations"),
    );
    byId("migrations").hidden = false;
  }
  byId("details").append(...doc.migrations.map((_, nr) => migrationSection(nr)));
  byId("rest").append(...rest());
  if (doc.devices.length > 0) {
    byId("picture").append(...picture());
    byId("picture").hidden = false;
    // Paper has a picture in each migration's section.
    byId("picture").classList.toggle("screen-only", count > 0);
  }
  byId("footer").append(
    "vfio-trace ",
    text("/version"),
    ", ",
    text("/schema"),
    ". Times are on one clock, since the origin.",
  );
  const failed = doc.migrations.findIndex((one) => one.verdict === "failed");
  choose(count === 0 ? null : Math.max(failed, 0));
  paper();
}

page();
