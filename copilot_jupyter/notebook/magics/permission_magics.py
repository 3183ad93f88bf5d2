"""The magics of permissions: what the agent's tools may do unasked in this notebook."""

from __future__ import annotations

from IPython.core.magic import line_magic, magics_class, no_var_expand

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.magics.base import DeskMagics
from copilot_jupyter.notebook.magics.flags import parsed_line
from copilot_jupyter.settings import TOOLS_THAT_ASK


@magics_class
class CopilotPermissionMagics(DeskMagics):
    """What tools may do unasked."""

    @no_var_expand
    @line_magic
    def copilot_allow(self, line: str) -> None:
        """Let tools of the agent work without a question, in this notebook's conversation.

        ::

            %copilot_allow
            %copilot_allow TOOL...
            %copilot_allow --forget [TOOL...]

        Alone it lists what is allowed and denied. run_python is allowed until the kernel
        restarts; the others stay allowed until they are denied or forgotten. A branch or a
        copy of the conversation, a bundle and another notebook carry no permission.

        --forget  ask again: for these tools, or for all
        """
        parsed = parsed_line("copilot_allow", line)
        tools = _known("copilot_allow", parsed.words)
        session, notebook_id = self._here()
        if "--forget" in parsed:
            self.desk.sessions.grants.forget(session, notebook_id, *tools)
            self.desk.say(f"{', '.join(tools) or 'Every tool'} is asked for again.")
        elif tools:
            self.desk.sessions.grants.allow(session, notebook_id, *tools)
            self._tell(tools, session, "allowed")
        else:
            self._list(session, notebook_id)

    @no_var_expand
    @line_magic
    def copilot_deny(self, line: str) -> None:
        """Deny tools of the agent without a question, in this notebook's conversation.

        ::

            %copilot_deny TOOL...

        That is kept over a restart, and goes before Copilot.allow; %copilot_allow takes it back.
        """
        tools = _known("copilot_deny", parsed_line("copilot_deny", line).words)
        if not tools:
            raise BadInputError(
                "%copilot_deny names no tool.", f"There are {', '.join(TOOLS_THAT_ASK)}."
            )
        session, notebook_id = self._here()
        self.desk.sessions.grants.deny(session, notebook_id, *tools)
        self._tell(tools, session, "denied")

    def _here(self) -> tuple[str, str]:
        """Return session and notebook id; both are "" before there is a conversation.

        Raises
        ------
        BadInputError
            If it is code of the model's that asks.
        """
        if self.desk.tools.running:
            raise BadInputError(
                "Code that the model runs cannot change what it may do.",
                "Allow or deny it in a cell of your own.",
            )
        self.desk.notebook.find()
        return self.desk.notebook.held()

    def _tell(self, tools: list[str], session: str, done: str) -> None:
        from copilot_jupyter.conversation.grants import UNTIL_RESTART

        where = f"in {session}" if session else "in the conversation this notebook will have"
        brief = [t for t in tools if not session or (done == "allowed" and t in UNTIL_RESTART)]
        for names, until in (
            ([tool for tool in tools if tool not in brief], ""),
            (brief, ", until the kernel restarts"),
        ):
            if names:
                verb = "is" if len(names) == 1 else "are"
                self.desk.say(f"{', '.join(names)} {verb} {done} {where}{until}.")

    def _list(self, session: str, notebook_id: str) -> None:
        from copilot_jupyter.conversation.grants import UNTIL_RESTART
        from copilot_jupyter.notebook.display import render

        given = self.desk.sessions.grants.of(session, notebook_id)
        rows = []
        for tool in dict.fromkeys((*TOOLS_THAT_ASK, *given)):
            brief = "until the kernel restarts" if tool in UNTIL_RESTART or not session else ""
            if tool in given:
                row = ["allowed", brief] if given[tool] else ["denied", "" if session else brief]
            elif tool in self.desk.settings.allow:
                row = ["allowed", "by Copilot.allow"]
            elif tool == "read":
                row = ["allowed", "in the notebook's folder and Copilot.folders"]
            else:
                row = ["asks first", ""]
            rows.append([tool, *row])
        title = f"What tools may do in {session or 'the conversation this notebook will have'}:"
        self.desk.show(render.table(("tool", "is", ""), rows, title))


def _known(magic: str, names: list[str]) -> list[str]:
    """Return the names of tools, each once.

    Raises
    ------
    BadInputError
        If one is not a tool that asks.
    """
    for name in names:
        if name not in TOOLS_THAT_ASK:
            raise BadInputError(
                f"%{magic}: no tool that asks is called {name!r}.",
                f"There are {', '.join(TOOLS_THAT_ASK)}.",
            )
    return list(dict.fromkeys(names))
