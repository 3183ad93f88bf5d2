"""The same from Python: the conversation as an object, a question as a function."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from copilot_jupyter.errors import SetupError
from copilot_jupyter.notebook.extension import current_magics

if TYPE_CHECKING:
    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.notebook.magics import CopilotMagics


def current() -> Conversation | None:
    """Return the conversation that this notebook is bound to, None where it has none yet.

    Raises
    ------
    SetupError
        If the extension is not loaded.
    SessionNotFoundError
        If the notebook is bound to a session that is gone.
    """
    return _magics().notebook.find()


def ask(prompt: str, *, model: str = "", timeout: float | None = None) -> Answer:
    """Ask, wait, and return the answer; nothing is shown.

    Parameters
    ----------
    prompt : str
    model : str, optional
        Ask this model, for this turn only.
    timeout : float, optional
        Seconds for the whole turn.

    Returns
    -------
    Answer

    Raises
    ------
    CopilotError
        The session is then as if the prompt had not been asked.
    """
    magics = _magics()
    work = magics.notebook.find_or_begin(prompt).ask(prompt, model=model, timeout=timeout)
    return magics.sessions.loop.call(work)


async def ask_async(prompt: str, *, model: str = "", timeout: float | None = None) -> Answer:
    """Ask without blocking the kernel's loop; otherwise as `ask`.

    Cancelling the task withdraws the prompt.
    """
    magics = _magics()
    work = magics.notebook.find_or_begin(prompt).ask(prompt, model=model, timeout=timeout)
    return await asyncio.wrap_future(magics.sessions.loop.submit(work))


def _magics() -> CopilotMagics:
    from IPython import get_ipython

    magics = current_magics(get_ipython())
    if magics is None:
        raise SetupError(
            "copilot_jupyter is not loaded in this shell.", "Run %load_ext copilot_jupyter first."
        )
    return magics
