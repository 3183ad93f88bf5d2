"""The magics for this kernel: where it stands, who answers, who is signed in."""

from __future__ import annotations

from IPython.core.magic import line_magic, magics_class, no_var_expand

from copilot_jupyter.errors import BadInputError
from copilot_jupyter.notebook.magics.base import DeskMagics
from copilot_jupyter.notebook.magics.flags import no_words, one_id, parsed_line


@magics_class
class CopilotKernelMagics(DeskMagics):
    """Where this kernel stands."""

    @no_var_expand
    @line_magic
    def copilot_status(self, line: str) -> None:
        """Show the binding, what the conversation used and sent, the provider, the runtime.

        ::

            %copilot_status
        """
        from copilot_jupyter.notebook.display import listing

        no_words("copilot_status", line)
        offer = self.desk.tools.offer
        tools = (*(tool.name for tool in offer.tools), *offer.builtin)
        shown = listing.status(self.desk.notebook, self.desk.sessions, tools, self._answers())
        self.desk.show(shown)

    def _answers(self) -> dict[str, bool]:
        """Return the standing answers to tools that ask."""
        standing = dict.fromkeys(self.desk.settings.allow, True)
        return standing | self.desk.sessions.grants.of(*self.desk.notebook.held())

    @no_var_expand
    @line_magic
    def copilot_models(self, line: str) -> None:
        """List the models that the provider offers.

        ::

            %copilot_models
        """
        from copilot_jupyter.notebook.display import listing

        no_words("copilot_models", line)
        provider, names = self.desk.sessions.loop.call(self.desk.sessions.models())
        self.desk.show(listing.models(provider, names))

    @no_var_expand
    @line_magic
    def copilot_doctor(self, line: str) -> None:
        """Check the runtime, the sign-in, the state folder, the lock and the transcript.

        ::

            %copilot_doctor [ID] [--fix]

        --fix  repair a transcript that the runtime refuses; the damaged file is kept
        """
        from copilot_jupyter.conversation import doctor
        from copilot_jupyter.notebook.display import listing

        parsed = parsed_line("copilot_doctor", line)
        session = one_id("copilot_doctor", parsed)
        if not session:
            bound = self.desk.notebook.find()
            session = bound.id if bound else ""
        found = list(doctor.checks(self.desk.sessions, session, fix="--fix" in parsed))
        self.desk.show(listing.checkup(found))

    @no_var_expand
    @line_magic
    def copilot_login(self, line: str) -> None:
        """Sign in to GitHub.

        ::

            %copilot_login [--token] [--host HOST]

        --token      type a token, hidden: the way that works on a remote hub
        --host HOST  a GitHub Enterprise host

        Nothing of it reaches an output, the history, or a file of this extension.
        """
        from copilot_jupyter.notebook import sign_in

        parsed = parsed_line("copilot_login", line)
        if parsed.rest:
            raise BadInputError(
                "%copilot_login takes no words.", "Type the token when asked, never in a cell."
            )
        lines = sign_in.login(
            self.desk.sessions,
            parsed.get("--host"),
            token="--token" in parsed,
            can_ask=self.desk.front_end.can_ask,
            show=self.desk.show_for_now,
        )
        self.desk.say("\n".join(lines))

    @no_var_expand
    @line_magic
    def copilot_logout(self, line: str) -> None:
        """Sign out of GitHub.

        ::

            %copilot_logout
        """
        from copilot_jupyter.notebook import sign_in

        no_words("copilot_logout", line)
        self.desk.say("\n".join(sign_in.logout(self.desk.sessions)))
