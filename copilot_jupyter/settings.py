"""The settings a person can change, as traits of one `Copilot` object.

``%config Copilot.model = "gpt-5"`` in a notebook, ``c.Copilot.model = "gpt-5"`` in
IPython's configuration, or ``COPILOT_JUPYTER_MODEL=gpt-5`` in the environment.
The runtime's own variables (``COPILOT_HOME``, ``COPILOT_PROVIDER_*``, ``COPILOT_MODEL``,
``COPILOT_OFFLINE``, ``COPILOT_CLI_PATH``, ``GH_TOKEN``) are honoured as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Int, List, TraitError, Unicode, observe, validate
from traitlets.config import Configurable

from .errors import BadInputError, CopilotError

#: Prefix of the environment variables that set a trait.
ENVIRONMENT = "COPILOT_JUPYTER_"

#: The tools that run in this kernel, all of them on by default.
KERNEL_TOOLS = ("list_variables", "inspect_variable", "read_notebook", "run_python", "insert_cell")
#: The runtime's own tools, by the name that turns them on.
BUILTIN_TOOLS = {
    "files": ("view", "grep", "glob", "create", "edit"),
    "shell": ("bash", "read_bash", "stop_bash", "list_bash"),
    "web": ("web_fetch",),
}
#: The tools of the agent that ask before they do anything.
TOOLS_THAT_ASK = ("run_python", "insert_cell", "shell", "write", "read", "url")


class _Names(List[str]):
    """A list of names; in the environment with spaces or commas between them."""

    def from_string(self, s: str) -> list[str]:
        if s.lstrip().startswith(("[", "(")):
            return list(super().from_string(s) or [])
        return [name for name in re.split(r"[\s,]+", s) if name]


class Copilot(Configurable):
    """How this kernel talks to GitHub Copilot."""

    provider = Unicode(
        "auto",
        help="Where prompts go: 'auto' (COPILOT_PROVIDER_BASE_URL if set, else GitHub sign-in), "
        "'github', 'local' (the embedded model), or the URL of an OpenAI-compatible endpoint.",
    ).tag(config=True)
    model = Unicode(
        "",
        help="The model to ask; empty means COPILOT_MODEL, else the provider's own default.",
    ).tag(config=True)
    local_model = Unicode(
        "",
        help="A GGUF file to serve for provider 'local'; empty means the small one that "
        "`copilot-jupyter setup` fetches.",
    ).tag(config=True)
    runtime = Enum(
        ("private", "shared"),
        "private",
        help="Whose the Copilot runtime is: 'private' to each kernel, or 'shared' by the kernels "
        "of this user on this host, which takes less memory.",
    ).tag(config=True)
    system_message = Unicode(
        "",
        help="What the model is told before the conversation; empty means our own short text.",
    ).tag(config=True)
    replay = Enum(
        ("auto", "only", "never"),
        "auto",
        help="What a cell does that this conversation has answered: 'auto' shows that answer and "
        "asks only what is new, 'only' never asks a model, 'never' always does.",
    ).tag(config=True)
    embed = Bool(
        True,
        help="Whether the notebook carries its turns, in the metadata of the answers' outputs.",
    ).tag(config=True)
    stall_timeout = Float(
        120.0,
        min=0.1,
        help="Seconds without any sign of life after which a turn is given up.",
    ).tag(config=True)
    idle_release = Float(
        60.0,
        min=0.1,
        help="Seconds after the last turn when the session is let go, so that a terminal or "
        "another notebook may go on with it.",
    ).tag(config=True)
    tools = _Names(
        Unicode(),
        default_value=None,
        allow_none=True,
        help="Names of the tools that the model may use; None means all that run in this kernel "
        f"({', '.join(KERNEL_TOOLS)}), and none for the embedded model. 'files', 'shell' and "
        "'web' turn on the runtime's own.",
    ).tag(config=True)
    context_budget = Int(
        8_000,
        min=100,
        help="Tokens that the values of one prompt may take together; what is over is cut, with "
        "a mark.",
    ).tag(config=True)
    images = Enum(
        ("auto", "always", "never"),
        "auto",
        help="Whether figures and pictures are sent as images: 'auto' does with GitHub Copilot, "
        "and tells other models in text what is on them.",
    ).tag(config=True)
    folders = _Names(
        Unicode(),
        help="Folders beside the notebook's own that the tools of 'files' may read and write.",
    ).tag(config=True)
    allow = _Names(
        Unicode(),
        help="Names of tools that need no question, also where nobody is there to answer: "
        f"{', '.join(TOOLS_THAT_ASK)}.",
    ).tag(config=True)
    ask_timeout = Float(
        600.0,
        min=0.1,
        help="Seconds after which a tool that asks, and gets no answer, is denied.",
    ).tag(config=True)
    full_tracebacks = Bool(
        False,
        help="Show Python's traceback above the two lines of an error.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, trait in self.traits(config=True).items():
            text = os.environ.get(ENVIRONMENT + name.upper())
            if text is None or name in kwargs:
                continue
            try:
                setattr(self, name, trait.from_string(text))
            except (TraitError, ValueError) as error:
                raise BadInputError(
                    f"The environment variable {ENVIRONMENT}{name.upper()} is set to {text!r}, "
                    f"which {name} cannot be: {error}.",
                    "Change or unset it and load the extension again.",
                ) from None
        CopilotError.full_tracebacks = self.full_tracebacks  # errors know no settings

    @validate("provider")
    def _check_provider(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if value in {"auto", "github", "local"} or value.startswith(("http://", "https://")):
            return value
        raise TraitError(
            f"Copilot.provider is {value!r}; use 'auto', 'github', 'local' or the http(s) URL "
            "of an OpenAI-compatible endpoint."
        )

    @validate("stall_timeout", "idle_release", "ask_timeout")
    def _check_seconds(self, proposal: Any) -> float:
        value: float = proposal["value"]
        if value != value:
            raise TraitError(f"Copilot.{proposal['trait'].name} is no number of seconds.")
        return value

    @validate("tools")
    def _check_tools(self, proposal: Any) -> list[str] | None:
        value: list[str] | None = proposal["value"]
        known = (*KERNEL_TOOLS, *BUILTIN_TOOLS)
        if unknown := [name for name in value or () if name not in known]:
            raise TraitError(
                f"Copilot.tools names {', '.join(map(repr, unknown))}, and no tool is called so; "
                f"there are {', '.join(known)}."
            )
        return value

    @validate("allow")
    def _check_allow(self, proposal: Any) -> list[str]:
        value: list[str] = proposal["value"]
        if unknown := [name for name in value if name not in TOOLS_THAT_ASK]:
            raise TraitError(
                f"Copilot.allow names {', '.join(map(repr, unknown))}, and no tool that asks is "
                f"called so; there are {', '.join(TOOLS_THAT_ASK)}."
            )
        return value

    @validate("local_model")
    def _check_local_model(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if value and not Path(value).is_file():
            raise TraitError(f"Copilot.local_model is {value!r}, and there is no such file.")
        return value

    @observe("full_tracebacks")
    def _pass_on_tracebacks(self, change: Any) -> None:
        CopilotError.full_tracebacks = bool(change["new"])


def state_home() -> Path:
    """Return the folder that holds the runtime's state.

    Returns
    -------
    Path
        ``COPILOT_HOME``, else ``~/.copilot``: the runtime's own rule.
    """
    return Path(os.environ.get("COPILOT_HOME") or Path.home() / ".copilot").absolute()


def cache_home() -> Path:
    """Return the folder for what can be fetched again: runtimes and local models.

    Returns
    -------
    Path
        ``COPILOT_JUPYTER_CACHE``, else ``copilot-jupyter`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    chosen = os.environ.get("COPILOT_JUPYTER_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "copilot-jupyter"
