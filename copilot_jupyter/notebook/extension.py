"""What ``%load_ext copilot_jupyter`` does: register, and nothing else."""

from __future__ import annotations

import atexit
import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from copilot_jupyter.errors import CopilotError
from copilot_jupyter.notebook import transform
from copilot_jupyter.notebook.desk import Desk
from copilot_jupyter.notebook.magics.ask_magics import CopilotMagics
from copilot_jupyter.notebook.magics.fix_magics import CopilotFixMagics
from copilot_jupyter.notebook.magics.flags import FLAGS, TAKES_IDS, TAKES_TOOLS
from copilot_jupyter.notebook.magics.kernel_magics import CopilotKernelMagics
from copilot_jupyter.notebook.magics.permission_magics import CopilotPermissionMagics
from copilot_jupyter.notebook.magics.reading_magics import CopilotReadingMagics
from copilot_jupyter.notebook.magics.session_magics import CopilotSessionMagics
from copilot_jupyter.settings import TOOLS_THAT_ASK

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

#: All classes of magics.
MAGICS = (
    CopilotMagics,
    CopilotFixMagics,
    CopilotSessionMagics,
    CopilotReadingMagics,
    CopilotKernelMagics,
    CopilotPermissionMagics,
)

_LINE = re.compile(
    r"\s*(?:[\w.]+\s*=\s*)?%%?(?P<name>copilot\w*)\s(?:.*\s)?(?P<word>\S*)\Z", re.DOTALL
)


def load(shell: InteractiveShell) -> None:
    """Register the magics, the transformers, the settings and the completion."""
    if current_desk(shell) is not None:  # the lab extension did it after a restart
        return
    desk = Desk(shell)  # first: its settings may be refused, and nothing is registered then
    for magics in MAGICS:
        shell.register_magics(magics(desk))
    # Typed as a list of shells, and holds everything that %config can reach.
    configurables: list[Any] = shell.configurables
    configurables.append(desk.settings)
    transform.install(shell)
    desk.executions.watch()
    if _complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(_complete)
    atexit.register(desk.close)


def unload(shell: InteractiveShell) -> None:
    """Take everything out again, then end the runtime."""
    transform.uninstall(shell)
    if _complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(_complete)
    desk = current_desk(shell)
    if desk is None:
        return
    try:
        _take_out(shell, desk)
    finally:  # it takes time, and may be interrupted
        desk.close()
        atexit.unregister(desk.close)


def _take_out(shell: InteractiveShell, desk: Desk) -> None:
    """Take out what was registered, and nothing that others put in its place since."""
    desk.executions.ignore()
    CopilotError.full_tracebacks = False
    registry = shell.magics_manager.registry
    ours = [found for found in registry.values() if isinstance(found, MAGICS)]
    for magics in ours:
        del registry[type(magics).__name__]
    configurables: list[Any] = shell.configurables
    configurables[:] = [c for c in configurables if c not in (*ours, desk.settings)]
    for kind in ("line", "cell"):
        known = shell.magics_manager.magics[kind]
        for name in FLAGS:
            if getattr(known.get(name), "__self__", None) in ours:
                del known[name]


def current_desk(shell: InteractiveShell | None) -> Desk | None:
    """Return what the magics of a shell work with, None where the extension is not loaded."""
    if shell is None:
        return None
    found = shell.magics_manager.registry.get(CopilotMagics.__name__)
    return found.desk if isinstance(found, CopilotMagics) else None


@context_matcher(identifier="copilot_jupyter")
def _complete(context: CompletionContext) -> SimpleMatcherResult:
    """Complete flags and session ids behind a magic's name, and let nothing else be offered."""
    from IPython import get_ipython

    desk, typed = current_desk(get_ipython()), _LINE.match(context.text_until_cursor)
    if desk is None or typed is None or typed["name"] not in FLAGS:
        return {"completions": []}
    name, word = typed["name"], typed["word"]
    known = [flag.name for flag in FLAGS[name]] if word.startswith("-") else []
    if not known and name in TAKES_IDS:
        known = desk.sessions.store.ids()
    elif not known and name in TAKES_TOOLS:
        known = list(TOOLS_THAT_ASK)
    found = [SimpleCompletion(text) for text in known if text.startswith(word)]
    return {"completions": found, "matched_fragment": word, "suppress": bool(found)}
