// The history reader's page. Prompts are text and filled in by textContent; answers are HTML
// that the kernel has made of their Markdown, in which nothing can run.

const PING = 300, SILENCE = 8000, TYPING = 300;
let views = 0;

const make = (parent, tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const shown = n => n.toLocaleString("en");

function render({ model, el }) {
  const uid = `cjh-${Date.now().toString(36)}-${++views}`;
  let first = 0, last = 0, count = 0, length = 20, known = false;
  let wanted = 0; // the turn that was jumped to, to be marked
  let atEnd = true; // whether the next page is read from its end
  let hits = [], selected = 0, searched = "";

  // -- what there is on the page ---

  const root = make(el, "div", "cjh");
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", `History of ${model.get("session")}`);
  const top = make(root, "div", "cjh-top");
  const field = (text, name, id) => {
    const label = make(top, "label", "cjh-label", text);
    const input = make(top, "input", `cjh-input ${name}`);
    input.id = label.htmlFor = `${uid}-${id}`;
    input.autocomplete = "off";
    return input;
  };
  const search = field("Search", "cjh-search", "q");
  Object.assign(search, { type: "search", spellcheck: false });
  const number = field("Turn", "cjh-number", "n");
  Object.assign(number, { type: "number", min: 1, step: 1 });
  const said = make(root, "div", "cjh-said");
  said.setAttribute("role", "alert");
  const list = make(root, "div", "cjh-hits");
  list.id = `${uid}-l`;
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Places");
  const pane = make(root, "section", "cjh-pane");
  pane.tabIndex = 0;
  pane.setAttribute("aria-label", "Turns");
  const bar = make(root, "div", "cjh-bar");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Pages");
  const buttons = {};
  for (const [key, text, keys, run] of [
    ["first", "First", "Ctrl+Home", () => go(1)],
    ["earlier", "Earlier", "PageUp", () => go(first - length, true)],
    ["later", "Later", "PageDown", () => go(last + 1)],
    ["last", "Last", "Ctrl+End", () => go(Number.MAX_SAFE_INTEGER, true)],
    ["close", "Close", "Esc", () => close()],
  ]) {
    const button = buttons[key] = make(bar, "button", `cjh-button cjh-${key}`);
    button.type = "button";
    make(button, "span", "", text);
    make(button, "kbd", "", keys).setAttribute("aria-hidden", "true");
    button.setAttribute("aria-keyshortcuts", keys.replace("Ctrl", "Control").replace("Esc", "Escape"));
    button.addEventListener("mousedown", event => event.preventDefault()); // the focus stays
    button.addEventListener("click", run);
  }
  const status = make(bar, "span", "cjh-status");
  status.setAttribute("role", "status");
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list",
  })) search.setAttribute(name, value);
  // Lab looks for this on the focused element itself; without it, b inserts a cell.
  for (const node of [search, number, pane, ...Object.values(buttons)])
    node.setAttribute("data-lm-suppress-shortcuts", "true");

  // -- talking to the kernel ---

  let silence = 0;
  const send = message => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      said.textContent = "The kernel does not answer. If it was restarted, run the cell again.";
    }, SILENCE);
    try { model.send(message); } catch { /* closed meanwhile */ }
  };
  const hooks = {
    page(m) {
      known = true;
      clearInterval(pinging);
      ({ count, length } = m);
      if ("end" in m) atEnd = m.end;
      first = m.turns.length ? m.turns[0].number : 0;
      last = m.turns.length ? m.turns[m.turns.length - 1].number : 0;
      drawPage(m);
    },
    found(m) {
      if (m.text !== search.value) return; // something else is searched for by now
      searched = m.text;
      hits = m.hits;
      selected = 0;
      drawHits(m.total);
    },
    failed(m) { said.textContent = `${m.what} ${m.do}`; },
  };
  const received = m => {
    if (!m || !hooks[m.op]) return;
    clearTimeout(silence);
    said.textContent = "";
    hooks[m.op](m);
  };
  model.on("msg:custom", received);
  const ready = () => { if (!known) send({ op: "ready" }); };
  const pinging = setInterval(ready, PING);

  // -- the page ---

  function drawPage(m) {
    pane.replaceChildren();
    if (!m.turns.length) make(pane, "p", "cjh-dim", "Nothing was asked in it yet.");
    let here = null;
    for (const turn of m.turns) {
      const node = make(pane, "article", "cjh-turn");
      node.dataset.turn = turn.number;
      node.setAttribute("aria-label", `Turn ${shown(turn.number)}`);
      make(node, "div", "cjh-who", [shown(turn.number), "you", turn.at].filter(Boolean).join(" · "));
      make(node, "div", "cjh-prompt", turn.prompt);
      make(node, "div", "cjh-who", [shown(turn.number), "copilot", turn.model, turn.used && `used ${turn.used}`].filter(Boolean).join(" · "));
      const answer = make(node, "div", "cjh-answer jp-RenderedHTMLCommon");
      answer.innerHTML = turn.html; // render.markdown's: raw HTML is text in it
      if (!turn.complete) make(node, "p", "cjh-dim", "not answered");
      if (turn.number === wanted) here = node;
    }
    buttons.first.disabled = buttons.earlier.disabled = first <= 1;
    buttons.last.disabled = buttons.later.disabled = last >= count;
    number.max = count;
    pane.scrollTop = here || !atEnd ? 0 : pane.scrollHeight;
    status.textContent = m.place[0].toUpperCase() + m.place.slice(1);
  }

  function go(to, end = false) {
    if (!known || (to < 1 && first <= 1) || (to > count && last >= count)) return;
    if (!list.hidden) leaveHits();
    wanted = 0;
    atEnd = end;
    send({ op: "page", first: Math.max(1, to) });
  }

  function jump(to) {
    const n = Math.round(Number(to));
    if (!(n >= 1 && n <= count)) {
      said.textContent = count ? `There are the turns 1 to ${shown(count)}.` : "There are no turns.";
      return;
    }
    leaveHits();
    wanted = n;
    atEnd = false;
    send({ op: "page", first: n });
    pane.focus({ preventScroll: true });
  }

  // -- what was found ---

  function drawHits(total) {
    pane.hidden = true;
    list.hidden = false;
    search.setAttribute("aria-expanded", "true");
    list.replaceChildren();
    hits.forEach(([turn, who, before, found, after], n) => {
      const node = make(list, "div", "cjh-hit");
      node.id = `${uid}-h${n}`;
      node.dataset.n = n;
      node.setAttribute("role", "option");
      make(node, "span", "cjh-who", `${shown(turn)} · ${who} `);
      make(node, "bdi", "", before);
      make(node, "mark", "", found);
      make(node, "bdi", "", after);
    });
    const many = total === 1 ? "1 place" : `${shown(total)} places`;
    status.textContent = total > hits.length ? `${many}; the newest ${hits.length}` : many;
    if (!total) make(list, "p", "cjh-hit cjh-dim", "It stands in no prompt and no answer.");
    select(0);
  }

  function select(n) {
    selected = Math.max(0, Math.min(hits.length - 1, n));
    for (const node of list.querySelectorAll("[role=option]"))
      node.setAttribute("aria-selected", String(Number(node.dataset.n) === selected));
    const node = list.querySelector("[aria-selected=true]");
    if (!node) { search.removeAttribute("aria-activedescendant"); return; }
    search.setAttribute("aria-activedescendant", node.id);
    if (node.offsetTop < list.scrollTop) list.scrollTop = node.offsetTop;
    const below = node.offsetTop + node.offsetHeight - list.clientHeight;
    if (below > list.scrollTop) list.scrollTop = below;
  }

  function leaveHits() {
    clearTimeout(typing);
    hits = [];
    searched = search.value = "";
    list.hidden = true;
    pane.hidden = false;
    search.setAttribute("aria-expanded", "false");
    search.removeAttribute("aria-activedescendant");
  }

  // -- keys ---

  function turnPage(by) {
    const room = by < 0 ? pane.scrollTop : pane.scrollHeight - pane.clientHeight - pane.scrollTop;
    if (room > 1) pane.scrollTop += by * 0.9 * pane.clientHeight;
    else if (by < 0) go(first - length, true);
    else go(last + 1);
  }

  function close() { send({ op: "close" }); clearTimeout(silence); }

  function escape() {
    if (search.value || !list.hidden) { leaveHits(); send({ op: "page", first: first || 1 }); search.focus({ preventScroll: true }); } else close();
  }

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    if (!search.value.trim()) { leaveHits(); send({ op: "page", first: first || 1 }); return; }
    typing = setTimeout(() => send({ op: "search", text: search.value }), TYPING);
  });
  root.addEventListener("keydown", event => {
    event.stopPropagation();
    if (event.isComposing || event.altKey || event.metaKey) return;
    const take = work => { event.preventDefault(); work(); };
    if (event.key === "Escape") return take(escape);
    if (event.ctrlKey) {
      if (event.key === "Home" && list.hidden) return take(() => go(1));
      if (event.key === "End" && list.hidden) return take(() => go(Number.MAX_SAFE_INTEGER, true));
      return;
    }
    if (event.target === search && !list.hidden) {
      if (event.key === "ArrowDown") return take(() => select(selected + 1));
      if (event.key === "ArrowUp") return take(() => select(selected - 1));
      if (event.key === "PageDown") return take(() => select(selected + 10));
      if (event.key === "PageUp") return take(() => select(selected - 10));
      // Not before these are the places of what stands in the field.
      if (event.key === "Enter") return take(() => { if (hits.length && searched === search.value) jump(hits[selected][0]); });
    }
    if (event.target === number && event.key === "Enter") return take(() => jump(number.value));
    if (event.key === "PageUp" && list.hidden) return take(() => turnPage(-1));
    if (event.key === "PageDown" && list.hidden) return take(() => turnPage(1));
  });
  for (const kind of ["keyup", "keypress", "paste", "copy", "cut"])
    root.addEventListener(kind, event => event.stopPropagation());
  list.addEventListener("click", event => {
    const node = event.target.closest("[role=option]");
    if (node) jump(hits[Number(node.dataset.n)][0]);
  });

  // -- beginning and end ---

  status.textContent = "Reading…";
  const focus = tries => {
    if (root.isConnected && root.offsetParent) search.focus({ preventScroll: true });
    else if (tries) requestAnimationFrame(() => focus(tries - 1));
  };
  focus(60);
  ready();

  return () => {
    clearInterval(pinging);
    clearTimeout(silence);
    clearTimeout(typing);
    model.off("msg:custom", received);
  };
}

export default { render };
