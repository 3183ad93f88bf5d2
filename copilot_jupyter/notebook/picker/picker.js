// The session picker's page. Everything here is text: titles are somebody else's, so elements
// are made by `make` and filled by textContent, and nothing is ever parsed as HTML.

const ROW = 48, HEAD = 28, EXTRA = 4; // heights in px, as in picker.css; rows beyond the edge
const ID = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,249}$/;
const PING = 300, SILENCE = 8000, LIVE = 5000;
const MAC = /Mac|iP(hone|ad)/.test(navigator.platform || "");
const ALT = MAC ? "⌥" : "Alt+";
let views = 0;

const make = (parent, tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const many = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const size = n => n < 1000 ? `${n} B` : n < 1e6 ? `${Math.round(n / 1000)} kB` : `${(n / 1e6).toFixed(1)} MB`;
const ago = at => {
  const s = Math.max(0, Date.now() / 1000 - at);
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (s >= length) return `${Math.floor(s / length)} ${unit} ago`;
  return "now";
};
const base = path => path.split(/[\\/]/).filter(Boolean).slice(-1)[0] || "";
const debounce = (work, ms) => {
  let timer = 0;
  const run = (...args) => { clearTimeout(timer); timer = setTimeout(() => work(...args), ms); };
  run.stop = () => clearTimeout(timer);
  return run;
};

const toRow = ([id, name, modified, bytes, folder, notebook, prompt, turns, kept, ours]) => ({
  id, name, modified, bytes, folder, notebook, prompt, turns, kept, ours,
  hay: `${id}\n${name}\n${prompt}\n${notebook || folder}`.toLowerCase(),
});

function render({ model, el }) {
  const uid = `cjp-${Date.now().toString(36)}-${++views}`;
  const rows = new Map(), live = new Map(), previews = new Map(), open = new Set();
  let here = {}, marked = [], sorted = [], kids = new Map(), items = [], tops = [0], found = 0;
  let selected = "", touched = false, all = false, known = false, failed = null, waiting = "";
  let naming = null, painting = 0, stale = false, done = 0, total = 0, left = false;

  // -- what there is on the page ---

  const root = make(el, "div", "cjp");
  const top = make(root, "div", "cjp-top");
  const label = make(top, "label", "cjp-label", "Resume a session");
  const input = make(top, "input", "cjp-input");
  Object.assign(input, { type: "search", id: `${uid}-q`, autocomplete: "off", spellcheck: false });
  label.htmlFor = input.id;
  const said = make(root, "div", "cjp-said");
  said.setAttribute("role", "alert");
  const body = make(root, "div", "cjp-body");
  const list = make(body, "div", "cjp-list");
  list.id = `${uid}-l`;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Sessions");
  const space = make(list, "div", "cjp-space");
  space.setAttribute("role", "presentation");
  const note = make(list, "div", "cjp-note");
  const pane = make(body, "section", "cjp-pane");
  pane.tabIndex = 0;
  pane.setAttribute("aria-label", "The end of the selected conversation");
  const bar = make(root, "div", "cjp-bar");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Actions");
  const foot = make(root, "div", "cjp-foot");
  const status = make(foot, "span", "cjp-status");
  status.setAttribute("role", "status");
  const doomed = make(foot, "span", "cjp-doomed");
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-expanded": "true", "aria-controls": list.id,
    "aria-autocomplete": "list", "aria-describedby": `${uid}-s`,
  })) input.setAttribute(name, value);
  status.id = `${uid}-s`;
  // Lab looks for this on the focused element itself; without it, b inserts a cell.
  for (const node of [input, pane]) node.setAttribute("data-lm-suppress-shortcuts", "true");

  const actions = {
    resume: ["Resume", "Enter", () => choose()],
    new: ["New", `${ALT}N`, () => name("new")],
    fork: ["Fork", `${ALT}F`, () => name("fork")],
    rename: ["Rename", `${ALT}R`, () => name("rename")],
    delete: ["Delete", `${ALT}D`, () => mark()],
    undo: ["Undo delete", `${ALT}U`, () => undo()],
    kept: ["Kept copies", `${ALT}K`, () => unfold()],
    cancel: ["Cancel", "Esc", () => cancel()],
  };
  const buttons = {};
  for (const [key, [text, keys, run]] of Object.entries(actions)) {
    const button = buttons[key] = make(bar, "button", `cjp-button cjp-${key}`);
    button.type = "button";
    button.setAttribute("data-lm-suppress-shortcuts", "true");
    make(button, "span", "", text);
    make(button, "kbd", "", keys).setAttribute("aria-hidden", "true");
    if (keys.startsWith(ALT)) button.setAttribute("aria-keyshortcuts", `Alt+${keys.slice(-1)}`);
    // The field keeps the focus, unless the person went to the button by Tab.
    button.addEventListener("mousedown", event => event.preventDefault());
    button.addEventListener("click", () => { run(); if (!left) input.focus({ preventScroll: true }); });
  }

  // -- talking to the kernel ---

  const send = message => { try { model.send(message); } catch { /* closed meanwhile */ } };
  const tell = (text, bad = false) => { said.textContent = text; said.classList.toggle("cjp-bad", bad); };

  const hooks = {
    ack(m) {
      known = true;
      clearInterval(pinging);
      clearTimeout(silence);
      if (m.new) here = m;
      changed();
    },
    rows(m) {
      for (const wire of m.rows) { const row = toRow(wire); rows.set(row.id, row); }
      changed();
    },
    removed(m) { for (const id of m.ids) rows.delete(id); changed(); },
    progress(m) { done = m.done; total = m.total; all = !!m.all; failed = null; changed(); },
    failed(m) { failed = m; changed(); },
    preview(m) { previews.set(m.id, m); if (m.id === selected) drawPane(); },
    live(m) {
      let news = false;
      for (const [id, who] of Object.entries(m.who))
        if ((live.get(id) || "") !== who) { live.set(id, who); news = true; }
      if (news) { paint(); drawPane(); }
    },
    marked(m) { marked = m.ids; paint(); drawBar(); },
    deleting(m) { tell(`Deleting ${many(m.ids.length, "session")}…`); },
    said(m) { setWaiting(""); tell(m.text, !m.good); changed(); },
    chosen(m) { setWaiting(""); tell(m.id ? `Chose ${m.id}.` : ""); leave(false); },
  };
  const received = m => { if (m && hooks[m.op]) hooks[m.op](m); };
  model.on("msg:custom", received);
  const ready = () => send({ op: "ready", view: uid });
  const pinging = setInterval(ready, PING);
  const silence = setTimeout(() => {
    failed = { what: "The kernel does not answer.", do: "Run the cell again, or restart the kernel." };
    changed();
  }, SILENCE);

  const ask = debounce(id => send({ op: "preview", id }), 60);
  const pushQuery = debounce(() => {
    if (naming || model.get("query") === input.value) return;
    model.set("query", input.value);
    model.save_changes();
  }, 250);
  const query = () => naming ? naming.query : input.value;
  const pulled = () => {
    if (naming || model.get("query") === input.value) return;
    input.value = model.get("query");
    refilter(true);
  };
  model.on("change:query", pulled);

  // -- the list ---

  // Rows come in batches: sorted and filtered once a frame, not once a batch.
  function changed() {
    if (stale) return;
    stale = true;
    requestAnimationFrame(() => { stale = false; sort(); refilter(false); });
  }

  function sort() {
    sorted = [...rows.values()].sort((a, b) => b.modified - a.modified || (a.id < b.id ? 1 : -1));
    kids = new Map();
    for (const row of sorted) if (row.kept && rows.has(row.kept)) {
      if (!kids.has(row.kept)) kids.set(row.kept, []);
      kids.get(row.kept).push(row);
    }
  }

  function refilter(typed) {
    const words = query().toLowerCase().split(/\s+/).filter(Boolean);
    const fits = row => { for (const w of words) if (!row.hay.includes(w)) return false; return true; };
    const groups = [[], [], []];
    found = 0;
    for (const row of sorted) {
      if (row.kept && rows.has(row.kept)) continue; // folded under its parent
      const copies = kids.get(row.id);
      if (!fits(row) && !(words.length && copies && copies.some(fits))) continue;
      const group = groups[here.notebook && row.notebook === here.notebook ? 0
        : here.folder && row.folder === here.folder ? 1 : 2];
      group.push(row);
      found++;
      if (copies && open.has(row.id)) for (const copy of copies) group.push(copy);
    }
    items = [];
    const names = ["This notebook", "This folder", groups[0].length || groups[1].length ? "All others" : "All sessions"];
    groups.forEach((group, n) => {
      if (!group.length) return;
      items.push({ head: names[n], count: group.filter(r => !(r.kept && rows.has(r.kept))).length });
      for (const row of group) items.push(row);
    });
    tops = new Float64Array(items.length + 1);
    for (let i = 0; i < items.length; i++) tops[i + 1] = tops[i] + (items[i].id ? ROW : HEAD);
    space.style.height = `${tops[items.length]}px`;
    const at = place(selected);
    if (at < 0 || typed || !touched) {
      select(items.findIndex(item => item.id), typed || !touched);
    } else paint();
    drawNote(words.length > 0);
    drawStatus();
    drawBar();
  }

  const place = id => id ? items.findIndex(item => item.id === id) : -1;

  function select(index, scroll = true) {
    const row = items[index];
    const before = selected;
    selected = row && row.id ? row.id : "";
    if (scroll && row) {
      const first = index === 1 ? 0 : tops[index], last = tops[index + 1], height = list.clientHeight;
      if (first < list.scrollTop) list.scrollTop = first;
      else if (last > list.scrollTop + height) list.scrollTop = last - height;
    }
    paint();
    if (selected !== before) {
      drawPane();
      drawBar();
      if (selected && !previews.has(selected)) ask(selected);
    }
  }

  function move(by) {
    touched = true;
    const step = by < 0 ? -1 : 1;
    let index = place(selected), rest = Math.abs(by);
    for (let i = index + step; i >= 0 && i < items.length && rest; i += step)
      if (items[i].id) { index = i; rest--; }
    select(index);
  }

  function paint() {
    if (!painting) painting = requestAnimationFrame(() => { painting = 0; draw(); });
  }

  const find = y => { // the item at a height
    let low = 0, high = items.length;
    while (low < high) { const mid = (low + high) >> 1; if (tops[mid + 1] <= y) low = mid + 1; else high = mid; }
    return low;
  };

  function draw() {
    const from = Math.max(0, find(list.scrollTop) - EXTRA);
    const to = Math.min(items.length, find(list.scrollTop + list.clientHeight) + EXTRA);
    const at = place(selected);
    const nodes = [];
    const shown = [];
    // The selected row is always there: aria-activedescendant has to name something.
    if (at >= 0 && at < from) nodes.push(drawRow(at));
    for (let i = from; i < to; i++) {
      nodes.push(items[i].id ? drawRow(i) : drawHead(i));
      if (items[i].id) shown.push(items[i].id);
    }
    if (at >= to) nodes.push(drawRow(at));
    space.replaceChildren(...nodes);
    if (at >= 0) input.setAttribute("aria-activedescendant", `${uid}-${at}`);
    else input.removeAttribute("aria-activedescendant");
    askLive(shown);
  }

  function drawHead(index) {
    const head = make(null, "div", "cjp-head", `${items[index].head} · ${items[index].count.toLocaleString("en")}`);
    head.setAttribute("role", "presentation");
    head.style.top = `${tops[index]}px`;
    return head;
  }

  const facts = row => [
    base(row.notebook) || base(row.folder),
    row.turns >= 0 ? many(row.turns, "turn") : "",
    ago(row.modified),
  ].filter(Boolean);

  function drawRow(index) {
    const row = items[index], who = live.get(row.id), copies = kids.get(row.id);
    const node = make(null, "div", "cjp-row");
    node.id = `${uid}-${index}`;
    node.dataset.id = row.id;
    node.style.top = `${tops[index]}px`;
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", String(row.id === selected));
    const doomedRow = marked.includes(row.id);
    node.classList.toggle("cjp-marked", doomedRow);
    node.classList.toggle("cjp-kept", !!row.kept && rows.has(row.kept));
    const first = make(node, "div", "cjp-line");
    make(first, "bdi", "cjp-id", row.id);
    make(first, "bdi", "cjp-name", row.name);
    const badges = [];
    if (doomedRow) badges.push(["cjp-badge cjp-gone", "will be deleted"]);
    if (who) badges.push(["cjp-badge cjp-live", `in use by ${who}`]);
    if (row.kept) badges.push(["cjp-badge", rows.has(row.kept) ? "kept copy" : `kept copy of ${row.kept}`]);
    if (copies) badges.push(["cjp-badge", `${open.has(row.id) ? "▾" : "▸"} ${copies.length} kept`]);
    if (!row.ours) badges.push(["cjp-badge", "terminal"]);
    badges.push(["cjp-badge cjp-size", size(row.bytes)]);
    for (const [name, text] of badges) make(first, "span", name, text);
    const second = make(node, "div", "cjp-line cjp-dim");
    make(second, "bdi", "cjp-prompt", row.prompt || "nothing asked yet");
    make(second, "span", "cjp-facts", facts(row).join(" · "));
    node.setAttribute("aria-label", [row.id, row.name, ...badges.map(b => b[1]), ...facts(row), row.prompt].filter(Boolean).join(", "));
    return node;
  }

  // -- around the list ---

  function drawNote(searched) {
    note.replaceChildren();
    note.hidden = items.length > 0;
    if (items.length) return;
    const say = (what, how) => { make(note, "p", "", what); if (how) make(note, "p", "cjp-dim", how); };
    if (failed) {
      say(failed.what, failed.do);
      const again = make(note, "button", "cjp-button", "Try again");
      again.type = "button";
      again.setAttribute("data-lm-suppress-shortcuts", "true");
      again.addEventListener("click", () => { failed = null; send({ op: "reload" }); changed(); input.focus(); });
    } else if (!known || (!all && !rows.size)) say("Reading the sessions…");
    else if (searched && !all) say("Nothing found so far; the rest is being read…");
    else if (searched) {
      const typed = query().trim();
      say("No session has these words in its id, name, first prompt or place.",
        ID.test(typed) && !rows.has(typed) ? `${ALT}N begins a new session named ${typed}.` : `Type other words, or press ${ALT}N to begin a new session.`);
    } else say("There is no session yet.", `${ALT}N begins one here; so does any %%copilot cell.`);
  }

  const sayStatus = debounce(text => { if (status.textContent !== text) status.textContent = text; }, 120);
  function drawStatus() {
    const n = sorted.length;
    const tops = sorted.reduce((c, r) => c + !(r.kept && rows.has(r.kept)), 0);
    let text = query().trim() ? `${found.toLocaleString("en")} of ${many(tops, "session")}` : many(tops, "session");
    if (!all && known && !failed) text += total ? ` · reading ${done.toLocaleString("en")} of ${total.toLocaleString("en")}…` : " · reading…";
    if (failed) text = n ? `${text} · ${failed.what} ${failed.do}` : "";
    sayStatus(text);
  }

  function drawBar() {
    const row = rows.get(selected), gone = marked.includes(selected);
    const off = (key, is) => { buttons[key].disabled = !!waiting || is; };
    const named = !!naming;
    buttons.resume.firstChild.textContent = named ? { new: "Begin", fork: "Fork and resume", rename: "Rename" }[naming.kind] : "Resume";
    off("resume", named ? !input.value.trim() : !row || gone);
    off("new", named);
    off("fork", named || !row || gone);
    off("rename", named || !row || gone);
    off("delete", named || !row || gone);
    buttons.undo.hidden = !marked.length;
    off("undo", named || !marked.length);
    const parent = row && (kids.has(row.id) ? row.id : kids.has(row.kept) ? row.kept : "");
    buttons.kept.hidden = !parent;
    off("kept", named);
    buttons.cancel.firstChild.textContent = named ? "Back" : "Cancel";
    doomed.textContent = marked.length ? `${many(marked.length, "session")} will be deleted when the picker closes; ${ALT}U takes that back.` : "";
  }

  function drawPane() {
    pane.replaceChildren();
    const row = rows.get(selected);
    if (!row) return;
    const head = make(pane, "div", "cjp-title");
    make(head, "bdi", "", row.name || row.id);
    const about = [row.name ? row.id : "", row.notebook || row.folder, row.turns >= 0 ? many(row.turns, "turn") : "", size(row.bytes),
      new Date(row.modified * 1000).toLocaleString()].filter(Boolean);
    make(pane, "div", "cjp-dim cjp-about", about.join(" · "));
    if (live.get(row.id)) make(pane, "div", "cjp-live cjp-about", `In use by ${live.get(row.id)}. To ask in it, fork it, or close it there.`);
    const got = previews.get(row.id);
    if (!got) { make(pane, "p", "cjp-dim", "…"); return; }
    if (got.problem) make(pane, "p", "cjp-dim", got.problem);
    else if (!got.turns.length) make(pane, "p", "cjp-dim", "Nothing was asked in it yet.");
    for (const turn of got.turns) {
      make(pane, "div", "cjp-who", turn.at ? `You · ${new Date(turn.at * 1000).toLocaleString()}` : "You");
      make(pane, "div", "cjp-text", turn.prompt);
      make(pane, "div", "cjp-who", turn.model ? `Copilot · ${turn.model}` : "Copilot");
      make(pane, "div", "cjp-text", turn.complete ? turn.answer : `${turn.answer}\n(not answered)`.trim());
    }
    pane.scrollTop = pane.scrollHeight;
  }

  // Who uses what is seen now: asked again every few seconds, for these rows only.
  let visible = [];
  const sendVisible = debounce(() => { if (known && visible.length) send({ op: "visible", ids: visible }); }, 120);
  function askLive(ids) {
    if (ids.join("\n") === visible.join("\n")) return;
    visible = ids;
    sendVisible();
  }
  const beating = setInterval(() => { if (root.offsetParent) sendVisible(); }, LIVE);

  // -- doing ---

  function setWaiting(what) {
    waiting = what;
    root.classList.toggle("cjp-waiting", !!what);
    root.setAttribute("aria-busy", String(!!what));
    drawBar();
  }

  function choose() {
    if (waiting) return;
    if (naming) { named(); return; }
    if (!selected) return;
    if (marked.includes(selected)) { tell(`${selected} is marked for deletion: take that back first (${ALT}U).`, true); return; }
    setWaiting("choose");
    tell(`Opening ${selected}…`);
    send({ op: "choose", id: selected });
  }

  function name(kind) {
    const row = rows.get(selected);
    if (waiting || naming || (kind !== "new" && (!row || marked.includes(selected)))) return;
    const typed = input.value.trim();
    let text = "";
    if (kind === "new") text = ID.test(typed) && !rows.has(typed) ? typed : here.new || "";
    if (kind === "rename") text = row.name || row.prompt.slice(0, 60);
    if (kind === "fork") {
      text = `${selected.slice(0, 240)}-fork`;
      for (let n = 2; rows.has(text); n++) text = `${selected.slice(0, 240)}-fork-${n}`;
    }
    naming = { kind, id: selected, query: input.value };
    label.textContent = { new: "Id of the new session", fork: `Id of the fork of ${selected}`, rename: `Name of ${selected}` }[kind];
    root.classList.add("cjp-naming");
    input.value = text;
    input.focus({ preventScroll: true });
    input.select();
    check();
    drawBar();
  }

  function check() {
    const text = input.value.trim();
    let wrong = "";
    if (naming.kind !== "rename" && text) {
      if (!ID.test(text)) wrong = "Use letters, digits, - and _, not beginning with -; 250 at most.";
      else if (rows.has(text)) wrong = `A session named ${text} exists already.`;
    }
    tell(wrong, true);
    return text && !wrong;
  }

  function named() {
    if (!check()) return;
    const text = input.value.trim(), { kind, id } = naming;
    if (kind === "rename") { send({ op: "rename", id, name: text }); back(); return; }
    setWaiting(kind);
    tell(kind === "new" ? `Beginning ${text}…` : `Forking ${id}…`);
    send(kind === "new" ? { op: "new", id: text } : { op: "fork", id, to: text });
  }

  function back() {
    if (!naming) return;
    const before = naming.query;
    naming = null;
    label.textContent = "Resume a session";
    root.classList.remove("cjp-naming");
    input.value = before;
    tell("");
    drawBar();
  }

  function mark() {
    if (waiting || naming || !selected) return;
    touched = true;
    tell("");
    send({ op: "delete", id: selected });
  }

  function undo() {
    if (waiting || naming || !marked.length) return;
    tell("");
    send({ op: "undo", id: marked.includes(selected) ? selected : "" });
  }

  function unfold() {
    const row = rows.get(selected);
    if (!row) return;
    touched = true;
    const parent = kids.has(row.id) ? row.id : row.kept;
    if (!kids.has(parent)) return;
    if (open.has(parent)) { open.delete(parent); selected = parent; } else open.add(parent);
    refilter(false);
    select(place(selected));
  }

  function cancel() {
    if (naming) { if (!waiting) back(); return; }
    setWaiting("cancel");
    send({ op: "cancel" });
  }

  function leave(gone) { left = gone; if (naming && !waiting) back(); }

  const page = () => Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
  const moves = {
    ArrowDown: () => move(1), ArrowUp: () => move(-1),
    PageDown: () => move(page()), PageUp: () => move(-page()),
    Home: () => move(-items.length), End: () => move(items.length),
  };
  const letters = { KeyN: "new", KeyF: "fork", KeyR: "rename", KeyD: "delete", KeyU: "undo", KeyK: "kept" };

  root.addEventListener("keydown", event => {
    event.stopPropagation();
    if (event.isComposing) return;
    const plain = !event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    const take = work => { event.preventDefault(); work(); };
    if (event.altKey && !event.ctrlKey && !event.metaKey && letters[event.code])
      return take(() => { actions[letters[event.code]][2](); if (!left) input.focus({ preventScroll: true }); });
    if (event.key === "Escape" && plain) return take(cancel);
    if (event.target !== input) return;
    if (event.key === "Enter" && plain) return take(choose);
    if (event.key === "F2" && plain) return take(() => name("rename"));
    if (event.key === "Delete" && event.shiftKey) return take(mark);
    if (!naming && plain && moves[event.key]) return take(moves[event.key]);
  });
  for (const kind of ["keyup", "keypress", "paste", "copy", "cut"])
    root.addEventListener(kind, event => event.stopPropagation());
  input.addEventListener("input", () => {
    if (naming) { check(); drawBar(); return; }
    touched = true;
    tell("");
    refilter(true);
    pushQuery();
  });
  list.addEventListener("scroll", paint);
  list.addEventListener("mousedown", event => {
    const node = event.target.closest(".cjp-row");
    if (!node) return; // a button of the note, or the scroll bar
    event.preventDefault();
    if (naming || waiting) return;
    touched = true;
    select(place(node.dataset.id), false);
    input.focus({ preventScroll: true });
  });
  list.addEventListener("dblclick", event => {
    const node = event.target.closest(".cjp-row");
    if (node && node.dataset.id === selected) choose();
  });
  const sizes = new ResizeObserver(() => paint());
  sizes.observe(list);

  // -- beginning and end ---

  drawNote(false);
  drawBar();
  sayStatus("Reading the sessions…");
  input.value = model.get("query") || "";
  const focus = tries => {
    if (left || !model.get("takes_focus")) return;
    if (root.isConnected && root.offsetParent) {
      input.focus({ preventScroll: true });
      root.scrollIntoView({ block: "nearest" });
    } else if (tries) requestAnimationFrame(() => focus(tries - 1));
  };
  focus(60);
  ready();

  return () => {
    left = true;
    clearInterval(pinging);
    clearInterval(beating);
    clearTimeout(silence);
    for (const later of [ask, pushQuery, sayStatus, sendVisible]) later.stop();
    sizes.disconnect();
    model.off("msg:custom", received);
    model.off("change:query", pulled);
  };
}

export default { render };
