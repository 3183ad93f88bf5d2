// A Module Federation container written by hand, for JupyterLab and Notebook 7.
// The kernel's side is copilot_jupyter/notebook/labcomm.py.
//
// What comes from the kernel, the notebook or a model is only ever set as textContent.
(() => {
  'use strict';

  const NAME = 'copilot-jupyter';
  const KEY = 'copilot_jupyter'; // notebook metadata, output metadata, comm target
  const SESSIONS = 'copilot-jupyter:sessions';
  const TITLE = 'Copilot sessions';
  const CAPTION = 'Choose the Copilot session of this notebook';

  // Silent where the package is missing.
  const LOAD = `try:
    __import__('copilot_jupyter.notebook.labcomm', fromlist=['_']).autoload(get_ipython())
except Exception:
    pass`;

  const STYLE = `
.copilot-tools { display: flex; justify-content: flex-end; gap: 4px; }
.copilot-tools button, .copilot-replayed {
  border: 1px solid var(--jp-border-color2); border-radius: 8px; padding: 0 6px;
  background: var(--jp-layout-color1); color: var(--jp-ui-font-color1); user-select: none;
  font-family: var(--jp-ui-font-family); font-size: var(--jp-ui-font-size0); }
.copilot-tools button:hover { cursor: pointer; background: var(--jp-layout-color2); }
.jp-Notebook .jp-Cell .copilot-answer pre {
  border-left: 2px solid var(--jp-border-color2); padding: 2px 8px; margin: 4px 0; }
.copilot-status span {
  display: inline-block; max-width: 40ch; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; unicode-bidi: isolate; line-height: 24px; vertical-align: top; }
.copilot-waiting {
  display: inline-block; width: 8px; height: 8px; border: 2px solid var(--jp-brand-color1);
  border-top-color: transparent; border-radius: 50%; font-size: 0;
  animation: 1s linear infinite copilot-turn; }
@media not (prefers-reduced-motion) { @keyframes copilot-turn { to { rotate: 1turn; } } }
@media screen { .copilot-folded {
  max-height: 480px; overflow: hidden; mask-image: linear-gradient(#000 75%, transparent); } }
@media print { .copilot-tools, .copilot-replayed { display: none; } }`;

  // -- what the application shares

  let scope; // {package: {version: {get, loaded}}}

  const need = async name => {
    const versions = Object.values(scope?.[name] || {});
    if (!versions.length) throw new Error(`${NAME}: the application does not share ${name}`);
    const found = versions.find(version => version.loaded) || versions[0];
    return (await found.get())();
  };

  const kernelOf = panel => panel.sessionContext.session?.kernel;

  const bindingOf = panel => panel?.context.model?.getMetadata(KEY);

  // -- the IPython extension

  const isPython = async kernel => (await kernel.info).language_info?.name === 'python';

  // What is asked after this runs after it.
  const load = async kernel => {
    try {
      if (!(await isPython(kernel)) || kernel.isDisposed) return;
      const quiet = { silent: true, store_history: false, stop_on_error: false };
      await kernel.requestExecute({ ...quiet, allow_stdin: false, code: LOAD }).done;
    } catch {
      // The next one is asked again.
    }
  };

  const keepLoaded = panel => {
    let seen = null; // once, and after each restart
    let restarting = false;
    const loadIfBound = async (again = false) => {
      await panel.context.ready;
      const kernel = kernelOf(panel);
      if (!kernel || panel.isDisposed || !bindingOf(panel) || (kernel === seen && !again)) return;
      seen = kernel;
      await load(kernel);
    };
    panel.sessionContext.kernelChanged.connect(() => loadIfBound());
    panel.sessionContext.statusChanged.connect((_, status) => {
      if ((status !== 'restarting' && status !== 'autorestarting') || restarting) return;
      restarting = true;
      // One step later the connection has dropped what waited for the old process; what is
      // asked then comes first in the new one, even at "Restart and Run All".
      Promise.resolve().then(() => {
        restarting = false;
        loadIfBound(true);
      });
    });
    loadIfBound();
  };

  // -- cells

  const insert = (panel, index, source, kind = 'code') => {
    const model = panel.content.model;
    if (!model || model.readOnly || !['code', 'markdown', 'raw'].includes(kind)) return false;
    const metadata = kind === 'code' ? { trusted: true } : {};
    model.sharedModel.insertCell(index, { cell_type: kind, source: String(source), metadata });
    return true;
  };

  const goTo = (panel, index) => {
    const notebook = panel.content;
    notebook.deselectAll();
    notebook.activeCellIndex = index;
    notebook.mode = 'command';
    notebook.activate();
    if (notebook.scrollToItem) notebook.scrollToItem(index).catch(() => {});
  };

  // -- what the kernel shows and asks

  // What is displayed names its session. Nothing is sent back: a comm message that arrives
  // between two cells makes ipykernel 7.4 lose the end of the second one.
  const keepBinding = panel => {
    panel.sessionContext.iopubMessage.connect((_, { content }) => {
      const said = content?.metadata?.[KEY];
      const model = panel.context.model;
      if (!said || panel.isDisposed || !model || model.readOnly) return;
      const { v, session, path, notebook_id } = said;
      const bound = { v, session, path, notebook_id };
      if (session === null) model.deleteMetadata(KEY);
      else if (session && JSON.stringify(bound) !== JSON.stringify(bindingOf(panel)))
        model.setMetadata(KEY, bound);
    });
  };

  // One comm is one cell to insert, in the window that runs it.
  const serve = (panel, kernel) => {
    if (!kernel) return;
    kernel.registerCommTarget(KEY, (comm, message) => {
      if (message.parent_header.session !== kernel.clientId) return;
      const { cell, behind, source, kind } = message.content.data;
      const at = panel.content.widgets.findIndex(widget => widget.model.id === cell);
      const ok = at >= 0 && insert(panel, at + 1 + behind, source, kind);
      // A cell that blocks the kernel's main shell hears the subshell only.
      const reply = () => comm.isDisposed || comm.send({ ok });
      (comm.subshellStarted || Promise.resolve()).then(reply, reply);
    });
  };

  // -- what is drawn in answers

  const button = (label, title, act) => {
    const node = document.createElement('button');
    Object.assign(node, { type: 'button', textContent: label, title, ariaLabel: title });
    node.setAttribute('data-lm-suppress-shortcuts', 'true');
    node.addEventListener('mousedown', event => event.stopPropagation());
    node.addEventListener('click', act);
    return node;
  };

  const cellAround = (panel, node) => {
    const around = node.closest('.jp-Cell');
    return panel.content.widgets.findIndex(cell => cell.node === around);
  };

  const toolbar = (label, ...buttons) => {
    const bar = document.createElement('div');
    Object.assign(bar, { className: 'copilot-tools', role: 'group', ariaLabel: label });
    bar.append(...buttons);
    return bar;
  };

  const tools = (panel, pre) => {
    const text = () => pre.textContent.replace(/\n+$/, ''); // as Answer.code
    const copy = button('Copy', 'Copy this code', async () => {
      (await need('@jupyterlab/apputils')).Clipboard.copyToSystem(text());
      copy.textContent = 'Copied';
      setTimeout(() => (copy.textContent = 'Copy'), 2000);
    });
    const below = button('Insert below', 'Insert this code as a new cell below', () => {
      const at = cellAround(panel, pre);
      if (at >= 0 && insert(panel, at + 1, text())) goTo(panel, at + 1);
    });
    return toolbar('Code block', copy, below);
  };

  // One that came while somebody watched stays open.
  const fold = answer => {
    const cell = answer.closest('.jp-Cell');
    const sign = answer.querySelector('.copilot-waiting');
    if (sign) {
      cell.copilotOpen = true;
      const prompt = cell.querySelector('.jp-InputPrompt').textContent;
      if (!prompt.includes('*')) sign.className = '';
      return true;
    }
    const show = open => {
      cell.copilotOpen = open;
      answer.classList.toggle('copilot-folded', !open);
      more.textContent = open ? 'Show less' : 'Show more';
      more.ariaExpanded = String(open);
    };
    const more = button('', 'Show more or less', () => show(!cell.copilotOpen));
    // Asked for its height at once, a long answer is laid out twice.
    const sized = new ResizeObserver(() => {
      if (answer.scrollHeight < 720) return;
      sized.disconnect();
      answer.addEventListener('focusin', () => show(true));
      answer.after(toolbar('Answer', more));
      show(!!cell.copilotOpen);
    });
    sized.observe(answer);
    return false;
  };

  const wasReplayed = (panel, answer) => {
    const cell = panel.content.widgets[cellAround(panel, answer)];
    const index = cell?.outputArea?.widgets.findIndex(child => child.node.contains(answer)) ?? -1;
    return index >= 0 && cell.model.outputs.get(index).metadata[KEY]?.replayed === true;
  };

  const draw = panel => {
    for (const answer of panel.content.node.querySelectorAll('div.copilot-answer')) {
      if (answer.copilotDrawn) continue;
      answer.copilotDrawn = true;
      if (fold(answer)) continue;
      for (const pre of answer.querySelectorAll('pre')) pre.before(tools(panel, pre));
      if (!wasReplayed(panel, answer)) continue;
      const title = 'This answer was stored already; no model was asked.';
      const mark = { className: 'copilot-replayed', textContent: 'replayed', title };
      answer.append(Object.assign(document.createElement('span'), mark));
    }
  };

  // Typeset at once, the formulas of a long answer stop the page for 0.2 s.
  const typesetInSteps = typesetter => {
    if (!typesetter || typesetter.copilotSteps) return;
    typesetter.copilotSteps = true;
    const typeset = typesetter.typeset.bind(typesetter);
    typesetter.typeset = async node => {
      const answer = node.querySelector('.copilot-answer');
      if (!answer || answer.children.length < 50) return typeset(node);
      for (const child of [...answer.children]) {
        if (!/[$\\]/.test(child.textContent)) continue;
        await new Promise(done => setTimeout(done));
        if (!child.isConnected) return;
        await typeset(child);
      }
    };
  };

  const keepDrawn = panel => {
    typesetInSteps(panel.content.rendermime.latexTypesetter);
    let timer = 0;
    const redraw = () => {
      timer = 0;
      if (!panel.isDisposed) draw(panel);
    };
    const soon = () => (timer = timer || requestAnimationFrame(redraw));
    new MutationObserver(soon).observe(panel.content.node, { childList: true, subtree: true });
    soon();
  };

  // -- the application around it

  const addCommand = (app, tracker, palette) => {
    app.commands.addCommand(SESSIONS, {
      label: TITLE,
      caption: CAPTION,
      isEnabled: () => !!tracker.currentWidget,
      execute: async () => {
        const panel = tracker.currentWidget;
        if (!panel) return;
        if (!kernelOf(panel)) await app.commands.execute('notebook:change-kernel');
        const kernel = kernelOf(panel);
        if (!kernel) return;
        await isPython(kernel);
        load(kernel); // before the cell
        const at = panel.content.activeCellIndex + 1;
        if (!insert(panel, at, '%copilot_resume')) return;
        goTo(panel, at);
        app.commands.execute('notebook:run-cell').catch(() => {});
      }
    });
    if (palette) palette.addItem({ command: SESSIONS, category: 'Notebook Operations' });
  };

  const addStatus = async (tracker, bar) => {
    const { Widget } = await need('@lumino/widgets');
    const { Signal } = await need('@lumino/signaling');
    const item = new Widget();
    const text = document.createElement('span');
    item.addClass('copilot-status');
    item.node.append(text);
    const changed = new Signal(item);
    let model = null;
    const update = () => {
      const name = String(bindingOf(tracker.currentWidget)?.session || '');
      text.textContent = name && `Copilot: ${name}`;
      item.node.title = name && `The Copilot session of this notebook is ${name}`;
      changed.emit();
    };
    const follow = () => {
      if (model && !model.isDisposed) model.metadataChanged.disconnect(update);
      model = tracker.currentWidget?.context.model;
      if (model) model.metadataChanged.connect(update);
      update();
    };
    const isActive = () => !!text.textContent;
    const place = { item, align: 'left', rank: 100, isActive, activeStateChanged: changed };
    bar.registerStatusItem(`${NAME}:session`, place);
    tracker.currentChanged.connect(follow);
    tracker.widgetAdded.connect((_, panel) => panel.context.ready.then(follow));
    follow();
  };

  const addButton = async (app, panel) => {
    const { ToolbarButton } = await need('@jupyterlab/ui-components');
    const onClick = () => app.commands.execute(SESSIONS);
    const made = new ToolbarButton({ label: TITLE, tooltip: CAPTION, onClick });
    await panel.revealed;
    if (panel.isDisposed) return made.dispose();
    const spacer = Array.from(panel.toolbar.names()).indexOf('spacer');
    panel.toolbar.insertItem(spacer < 0 ? 10 : spacer, 'copilotSessions', made);
  };

  const warn = error => console.warn(`${NAME}: ${error}`);

  const activate = (app, tracker, palette, bar) => {
    const style = document.createElement('style');
    style.textContent = STYLE;
    document.head.append(style);
    const attach = panel => {
      const context = panel.sessionContext;
      context.kernelChanged.connect((_, change) => serve(panel, change.newValue));
      serve(panel, kernelOf(panel));
      keepBinding(panel);
      keepLoaded(panel);
      keepDrawn(panel);
      addButton(app, panel).catch(warn);
    };
    addCommand(app, tracker, palette);
    tracker.forEach(attach);
    tracker.widgetAdded.connect((_, panel) => attach(panel));
    if (bar) addStatus(tracker, bar).catch(warn);
  };

  const plugin = async () => {
    const { INotebookTracker } = await need('@jupyterlab/notebook');
    const { ICommandPalette } = await need('@jupyterlab/apputils');
    // Notebook 7 has none.
    const { IStatusBar } = await need('@jupyterlab/statusbar').catch(() => ({}));
    const optional = [ICommandPalette, IStatusBar].filter(Boolean);
    return {
      id: `${NAME}:plugin`,
      description: 'A notebook keeps its Copilot conversation.',
      autoStart: true,
      requires: [INotebookTracker],
      optional,
      activate: (app, tracker, ...found) => {
        const service = token => token && found[optional.indexOf(token)];
        activate(app, tracker, service(ICommandPalette), service(IStatusBar));
      }
    };
  };

  (window._JUPYTERLAB = window._JUPYTERLAB || {})[NAME] = {
    init: shared => {
      scope = shared;
    },
    get: async module => {
      if (module !== './extension') throw new Error(`${NAME}: there is no module ${module}`);
      const found = await plugin();
      return () => ({ __esModule: true, default: found });
    }
  };
})();
