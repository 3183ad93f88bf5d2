"""The same from Python: the conversation as an object, a question as a function."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from copilot_jupyter.conversation.shield.secrets import Shield
from copilot_jupyter.conversation.stored.question import Question, checked
from copilot_jupyter.errors import SetupError, TurnCancelled, TurnInterrupted
from copilot_jupyter.notebook import turn
from copilot_jupyter.notebook.asking import Asking, Request
from copilot_jupyter.notebook.display import painters
from copilot_jupyter.notebook.extension import current_desk

if TYPE_CHECKING:
    from copilot_jupyter.conversation.answer import Answer
    from copilot_jupyter.conversation.conversation import Conversation
    from copilot_jupyter.notebook.desk import Desk


def current() -> Conversation | None:
    """Return the conversation that this notebook is bound to, None where it has none yet.

    Raises
    ------
    SetupError
        If the extension is not loaded.
    SessionNotFoundError
        If the notebook is bound to a session that is gone.
    """
    return _desk().notebook.find()


def ask(
    prompt: str, *, model: str = "", timeout: float | None = None, again: bool = False
) -> Answer:
    """Ask, wait, and return the answer, which is not shown.

    Braces in the prompt are not filled in as those of ``%copilot`` are: an f-string does that.

    What the conversation has answered already is not asked again: the n-th call with a
    prompt in a cell gets the answer it got before. At a prompt in a terminal or console
    every question is new.

    Parameters
    ----------
    prompt : str
    model : str, optional
        Ask this model, for this turn only.
    timeout : float, optional
        Seconds for the whole turn.
    again : bool, optional
        Ask the model even so, once: the n-th call that says so is answered from the store
        when the cell is run again.

    Returns
    -------
    Answer
        Its `replayed` says whether it was answered before.

    Raises
    ------
    CopilotError
        The session is then as if the prompt had not been asked, unless a tool has done
        something already.
    """
    desk, asking = _begun(prompt, model, timeout, again=again)
    return asking.answer or turn.drive_sync(desk.turn_of(asking, painters.NoPainter(desk.say)))


async def ask_async(
    prompt: str, *, model: str = "", timeout: float | None = None, again: bool = False
) -> Answer:
    """Ask without blocking the kernel's loop; otherwise as `ask`.

    Raises
    ------
    TurnCancelled
        If the task is cancelled, or the stop button pressed: the prompt is withdrawn.
    """
    desk, asking = _begun(prompt, model, timeout, again=again)
    try:
        return asking.answer or await turn.drive(desk.turn_of(asking, painters.NoPainter(desk.say)))
    except TurnInterrupted as error:
        raise TurnCancelled(*error.args) from None


def _desk() -> Desk:
    from IPython import get_ipython

    desk = current_desk(get_ipython())
    if desk is None:
        raise SetupError(
            "copilot_jupyter is not loaded in this shell.", "Run %load_ext copilot_jupyter first."
        )
    return desk


def _begun(prompt: str, model: str, timeout: float | None, *, again: bool) -> tuple[Desk, Asking]:
    desk = _desk()
    desk.check_may_ask()
    prompt = checked(prompt)
    sent = Shield.of(os.environ).scrub(prompt)
    request = Request(
        Question(prompt, sent="" if sent == prompt else sent, model=model),
        "again" if again else "",
        timeout=timeout,
        stays=True,
        offer=desk.tools.offer,
    )
    asking = Asking(desk.notebook, desk.settings, request)
    if asking.answer is not None:
        painters.show_again(asking.answer)
    return desk, asking
