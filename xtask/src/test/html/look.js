// Run in the report's page by the check: what it shows, as data.

((figures) => {
  const drawn = (node) => node.getClientRects().length > 0;
  // Without what is told on hovering.
  const written = (node) =>
    [...node.childNodes]
      .filter((child) => child.nodeName !== "title")
      .map((child) => child.textContent)
      .join("");
  const attributes = (node) => ({ ...node.dataset, shown: written(node) });
  // Digits in a text that no place in the document answers for. "P2P" is a word; ticks are checked by where they are.
  const owner = "[data-field], [data-count], .tick, #live, title, style, script, [data-axis]";
  const stray = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const text = node.data.replaceAll("P2P", "");
    if (/\d/.test(text) && !node.parentElement.closest(owner))
      stray.push(`${node.data} in ${node.parentElement.outerHTML.slice(0, 200)}`);
  }
  const svg = [...document.querySelectorAll("svg.lanes")].find(drawn);
  const head = [...document.querySelectorAll("svg.head")].find(drawn);
  const items = [...(svg?.querySelectorAll(".item") ?? [])].map((node) => {
    const shape = node.querySelector("rect:not(.touch)") ?? node.querySelector("text");
    const box = shape.getBBox();
    return {
      field: node.dataset.field,
      start: Number(node.dataset.start),
      end: Number(node.dataset.end),
      x: box.x,
      width: box.width,
      moment: shape.tagName === "text",
      label: node.getAttribute("aria-label"),
    };
  });
  const texts = [...document.querySelectorAll(".canvas svg text, .print-picture svg text")].filter(
    (node) => drawn(node) && node.textContent.trim() !== "",
  );
  const overlaps = [];
  const boxes = texts.map((node) => [
    node,
    node.getBoundingClientRect(),
    node.closest("svg"),
    node.closest(".mark") !== null,
  ]);
  boxes.sort((a, b) => a[1].left - b[1].left);
  boxes.forEach(([one, a, owner_, mark], nr) => {
    for (const [other, b, svg_, mark_] of boxes.slice(nr + 1)) {
      if (b.left > a.right - 1) break;
      // Signs of two things at one moment may lie on each other.
      if (owner_ === svg_ && !(mark && mark_) && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
        overlaps.push(`"${written(one)}" and "${written(other)}"`);
    }
  });
  const ticks = [...(head?.querySelectorAll("g text.tick") ?? [])].map((node) => [
    node.textContent,
    Number(node.getAttribute("x")),
  ]);
  // How text stands out from what is behind it, as WCAG counts it.
  const luminance = (colour) => {
    const [r, g, b] = colour
      .match(/[\d.]+/g)
      .slice(0, 3)
      .map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const clear = (colour) => colour === "transparent" || /^rgba\(.*, 0\)$/.test(colour);
  const ground = (node) => {
    for (let at = node; at instanceof HTMLElement; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (!clear(backgroundColor)) return backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const contrasts = () => {
    const html = [...document.body.querySelectorAll("*")].filter(
      (node) =>
        node instanceof HTMLElement &&
        drawn(node) &&
        [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== ""),
    );
    const found = html.map((node) => [
      ratio(getComputedStyle(node).color, ground(node)),
      node.textContent.slice(0, 40),
      node.className,
    ]);
    for (const label of svg?.querySelectorAll(".item > rect:not(.touch) + text") ?? []) {
      const fill = getComputedStyle(label.previousElementSibling).fill;
      if (fill.startsWith("rgb"))
        found.push([
          ratio(getComputedStyle(label).fill, fill),
          label.textContent,
          label.parentElement.getAttribute("class"),
        ]);
    }
    return found.sort((a, b) => a[0] - b[0]);
  };
  return {
    fields: !figures ? [] : [...document.querySelectorAll("[data-field]:not(.item)")].map(attributes),
    counts: !figures ? [] : [...document.querySelectorAll("[data-count]")].map(attributes),
    shares: [...document.querySelectorAll("[data-share]")].map((node) => [
      node.dataset.share,
      Number(node.getAttribute("width")),
    ]),
    stray,
    items,
    ticks,
    overlaps,
    from: svg === undefined ? null : Number(svg.dataset.from),
    to: svg === undefined ? null : Number(svg.dataset.to),
    axis: Number(head?.querySelector(".overview").getAttribute("width")),
    base: head?.querySelector("text.gutter.tick").textContent,
    contrast: figures ? (contrasts()[0] ?? null) : null,
    lanes: document.querySelectorAll("svg.lanes .lane-name").length,
    charts: [...document.querySelectorAll("svg.charts g.chart")].map((node) => node.dataset.chart),
    wide: document.documentElement.scrollWidth - innerWidth,
    foreign: [
      ...document.querySelectorAll(
        "img, iframe, object, embed, link, audio, video, script:not([type]), [onerror], [onclick], [href], [src]",
      ),
    ].map((node) => node.outerHTML.slice(0, 100)),
    unnamed: [...document.querySelectorAll("button, [role=img], svg[tabindex]")].filter(
      (node) => !(node.textContent.trim() || node.getAttribute("aria-label")),
    ).length,
    tip: document.getElementById("tip").hidden ? null : document.getElementById("tip").textContent,
    colours: [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color],
    sections: [...document.querySelectorAll("section.migration")]
      .filter(drawn)
      .map((node) => Number(node.dataset.migration)),
  };
})
