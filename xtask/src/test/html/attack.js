// Run in the report's page by the check: what somebody would try who got a script in, and what became of it.

(async () => {
  const stopped = [];
  addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
  const add = (tag, fill) => {
    const node = document.createElement(tag);
    fill(node);
    document.body.append(node);
  };
  add("script", (node) => {
    node.textContent = "globalThis.hacked = true";
  });
  add("img", (node) => {
    node.src = "http://192.0.2.1/x.png";
  });
  add("style", (node) => {
    node.textContent = "body { display: none }";
  });
  add("iframe", (node) => {
    node.src = "http://192.0.2.1/";
  });
  add("div", (node) => {
    node.setAttribute("onclick", "globalThis.hacked = true");
    node.click();
  });
  await fetch("http://192.0.2.1/").catch(() => null);
  await new Promise((done) => setTimeout(done, 100));
  return { stopped, ran: Boolean(globalThis.hacked) };
})();
