// A question of a tool, with buttons. What is asked is a model's text: it is only ever
// textContent, and nothing is parsed as HTML.

const PING = 300, SILENCE = 8000; // ms between two tries; without an answer of the kernel
const GUARD = 600; // ms in which nothing can be allowed: the buttons came under a pointer or a key
const ANSWERS = [["once", "Allow once"], ["session", "Allow for this session"], ["deny", "Deny"]];
const RESTARTED = "The kernel was restarted: nobody waits for an answer any more. Run the cell again.";
let views = 0;

const make = (parent, tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};

function render({ model, el }) {
  const view = `cjq-${Date.now().toString(36)}-${++views}`;
  let answer = "", asked = false, over = false, silence = 0, guard = 0;
  let about = {}; // what is asked
  let cell = null; // Lab's, while the focus is in here

  const root = make(el, "section", "cjq");
  root.setAttribute("role", "alertdialog");
  root.hidden = true;
  // A region of its own, filled later: that is what a screen reader speaks, without the focus.
  const title = make(root, "div", "cjq-title");
  title.id = `${view}-t`;
  title.setAttribute("role", "alert");
  const summary = make(root, "div", "cjq-summary");
  const detail = make(root, "pre", "cjq-detail");
  detail.id = `${view}-d`;
  detail.tabIndex = 0;
  detail.setAttribute("role", "region");
  detail.setAttribute("aria-label", "What it wants to do");
  const size = make(root, "div", "cjq-dim");
  root.setAttribute("aria-labelledby", title.id);
  root.setAttribute("aria-describedby", detail.id);
  const bar = make(root, "div", "cjq-bar");
  const hint = make(root, "div", "cjq-dim");
  hint.id = `${view}-h`;
  const status = make(root, "div", "cjq-status");
  status.setAttribute("role", "status");

  const buttons = {};
  for (const [key, text] of ANSWERS) {
    const button = buttons[key] = make(bar, "button", `cjq-button cjq-${key}`, text);
    button.type = "button";
    button.disabled = key !== "deny";
    button.addEventListener("click", () => decide(key));
  }
  buttons.session.setAttribute("aria-describedby", hint.id);
  // Lab looks for this on the focused element itself; without it, keys are the notebook's.
  for (const node of [detail, ...Object.values(buttons)]) node.setAttribute("data-lm-suppress-shortcuts", "true");

  const send = message => { try { model.send(message); } catch { /* closed meanwhile */ } };
  const tell = () => send(answer ? { op: "answer", answer } : { op: "ready", view });
  const enable = on => { for (const key in buttons) buttons[key].disabled = !on; };

  function decide(key) {
    if (answer || !asked || over) return;
    answer = key;
    clearTimeout(guard);
    enable(false);
    status.textContent = key === "deny" ? "Denying…" : "Allowing…";
    tell();
    silence = setTimeout(() => {
      answer = "";
      enable(true);
      status.textContent = "The kernel does not answer. Try again, or press the stop button.";
    }, SILENCE);
  }

  function measure() {
    const scrolls = detail.scrollHeight > detail.clientHeight;
    const note = about.left_out || (scrolls && "scroll to see all of it");
    size.textContent = `${about.size}; ${note}.`;
    size.hidden = !note;
  }
  const measuring = new ResizeObserver(measure);
  measuring.observe(detail);

  const received = message => {
    if (!message || message.op !== "question" || message.view !== view || asked) return;
    asked = true;
    about = message;
    root.hidden = false;
    summary.textContent = message.summary;
    summary.hidden = !message.summary;
    for (const [kind, text] of message.pieces) make(detail, "span", kind && `cjq-${kind}`, text);
    measure();
    hint.textContent = message.hint;
    title.textContent = message.title;
    guard = setTimeout(() => enable(true), GUARD);
    // The buttons come into view for who looks at this cell; nobody is taken here from elsewhere.
    const top = root.getBoundingClientRect().top;
    if (top >= 0 && top < window.innerHeight) root.scrollIntoView({ block: "nearest" });
  };
  model.on("msg:custom", received);

  const restarted = () => {
    over = true;
    clearTimeout(silence);
    clearTimeout(guard);
    clearInterval(telling);
    bar.hidden = hint.hidden = true;
    status.textContent = RESTARTED;
  };
  model.on("comm_live_update", restarted); // ipywidgets: the comm went with the kernel

  // The focus stays near when the answered question is taken away: Lab's keys go on working.
  root.addEventListener("focusin", () => { cell = root.closest(".jp-Cell"); });
  root.addEventListener("focusout", event => { if (event.relatedTarget) cell = null; });

  root.addEventListener("keydown", event => {
    event.stopPropagation();
    if (event.repeat && event.key !== "Tab" && event.target !== detail) event.preventDefault(); // a key that is held down decides nothing
    if (event.key === "Escape" && !event.repeat) { event.preventDefault(); decide("deny"); }
  });

  // Until it is heard: the first messages can go to a shell that the running cell blocks.
  const telling = setInterval(() => { if (answer || !asked) tell(); }, PING);
  tell();

  return () => {
    clearInterval(telling);
    clearTimeout(silence);
    clearTimeout(guard);
    measuring.disconnect();
    model.off("msg:custom", received);
    model.off("comm_live_update", restarted);
    if (document.activeElement === document.body) cell?.focus();
  };
}

export default { render };
