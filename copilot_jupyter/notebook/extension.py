"""What ``%load_ext copilot_jupyter`` does: register, and nothing else."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

from copilot_jupyter.notebook import transform
from copilot_jupyter.notebook.magics import FLAGS, TAKES_IDS, CopilotMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load(shell: InteractiveShell) -> None:
    """Register the magics, the transformers, the settings and the completion."""
    magics = CopilotMagics(shell)
    shell.register_magics(magics)
    # Typed as a list of shells, and holds everything that %config can reach.
    configurables: list[Any] = shell.configurables
    configurables.append(magics.settings)
    transform.install(shell)
    shell.set_hook("complete_command", _complete, re_key=r"%%?copilot")
    atexit.register(magics.close)


def unload(shell: InteractiveShell) -> None:
    """Take everything out again and end the runtime."""
    transform.uninstall(shell)
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


def _complete(shell: Any, event: Any) -> list[str]:
    """Complete flags and session ids behind a magic's name."""
    words = event.line.lstrip().split()
    magics = current_magics(shell)
    if magics is None or not words:
        return []
    name = words[0].lstrip("%")
    if event.symbol == words[0] or name not in FLAGS:
        return [f"%{known}" for known in FLAGS if f"%{known}".startswith(event.symbol)]
    if event.symbol.startswith("-"):
        return [flag.name for flag in FLAGS[name]]
    return magics.sessions.store.ids() if name in TAKES_IDS else []
