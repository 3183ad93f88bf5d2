"""What ``%load_ext copilot_jupyter`` does: register, and nothing else."""

from __future__ import annotations

import atexit
import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from copilot_jupyter.notebook import transform
from copilot_jupyter.notebook.magics import FLAGS, TAKES_IDS, CopilotMagics

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

_LINE = re.compile(
    r"\s*(?:[\w.]+\s*=\s*)?%%?(?P<name>copilot\w*)\s(?:.*\s)?(?P<word>\S*)\Z", re.DOTALL
)


def load(shell: InteractiveShell) -> None:
    """Register the magics, the transformers, the settings and the completion."""
    magics = CopilotMagics(shell)
    shell.register_magics(magics)
    # Typed as a list of shells, and holds everything that %config can reach.
    configurables: list[Any] = shell.configurables
    configurables.append(magics.settings)
    transform.install(shell)
    if _complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(_complete)
    atexit.register(magics.close)


def unload(shell: InteractiveShell) -> None:
    """Take everything out again and end the runtime."""
    transform.uninstall(shell)
    if _complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(_complete)
    magics = current_magics(shell)
    if magics is None:
        return
    magics.close()
    atexit.unregister(magics.close)
    configurables: list[Any] = shell.configurables
    configurables[:] = [c for c in configurables if c not in (magics, magics.settings)]
    for kind in ("line", "cell"):
        for name in FLAGS:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop(CopilotMagics.__name__, None)


def current_magics(shell: InteractiveShell | None) -> CopilotMagics | None:
    """Return the loaded magics of a shell, None where the extension is not loaded."""
    if shell is None:
        return None
    found = shell.magics_manager.registry.get(CopilotMagics.__name__)
    return found if isinstance(found, CopilotMagics) else None


@context_matcher(identifier="copilot_jupyter")
def _complete(context: CompletionContext) -> SimpleMatcherResult:
    """Complete flags and session ids behind a magic's name, and let nothing else be offered."""
    from IPython import get_ipython

    magics, typed = current_magics(get_ipython()), _LINE.match(context.text_until_cursor)
    if magics is None or typed is None or typed["name"] not in FLAGS:
        return {"completions": []}
    name, word = typed["name"], typed["word"]
    known = [flag.name for flag in FLAGS[name]] if word.startswith("-") else []
    if not known and name in TAKES_IDS:
        known = magics.sessions.store.ids()
    found = [SimpleCompletion(text) for text in known if text.startswith(word)]
    return {"completions": found, "matched_fragment": word, "suppress": bool(found)}
