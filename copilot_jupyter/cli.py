"""The ``copilot-jupyter`` command: provision, look, check, and show the whole thing working."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from copilot_jupyter.errors import CopilotError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default the process's own.

    Returns
    -------
    int
        The exit status: 0, 1 where something is wrong, 2 for a usage error.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except CopilotError as error:
        print(f"{error.what}\n{error.do}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="copilot-jupyter", description="A notebook that keeps its conversation."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    setup = commands.add_parser("setup", help="fetch the Copilot runtime, and the embedded model")
    setup.add_argument("--local", action="store_true", help="fetch the embedded model too")
    setup.set_defaults(run=_setup)

    doctor = commands.add_parser("doctor", help="check everything a conversation rests on")
    doctor.add_argument("session", nargs="?", default="", help="also look into this session")
    doctor.add_argument("--fix", action="store_true", help="repair what can be repaired")
    doctor.set_defaults(run=_doctor)

    sessions = commands.add_parser("sessions", help="list the sessions, last used first")
    sessions.add_argument("text", nargs="?", default="", help="only ids, names and first prompts")
    sessions.set_defaults(run=_sessions)

    enable = commands.add_parser("enable", help="have IPython load the extension at its start")
    where = enable.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this account (the default)")
    where.add_argument("--env", action="store_true", help="for this Python environment")
    enable.set_defaults(run=_enable)

    disable = commands.add_parser("disable", help="take out what `enable` wrote")
    where = disable.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this account only")
    where.add_argument("--env", action="store_true", help="for this Python environment only")
    disable.set_defaults(run=_disable)

    demo = commands.add_parser("demo", help="open the quickstart in JupyterLab, with no account")
    demo.add_argument("--no-browser", action="store_true", help="do not open a browser")
    demo.add_argument(
        "--check", action="store_true", help="run it headlessly and say what was seen"
    )
    demo.set_defaults(run=_demo)
    return parser


def _setup(options: argparse.Namespace) -> int:
    from copilot_jupyter.runtime.fetch import ensure_runtime

    print(f"runtime: {ensure_runtime(print)}")
    if options.local:
        from copilot_jupyter.runtime.model_file import fetch_model

        print(f"model:   {fetch_model(print)}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from copilot_jupyter.conversation.doctor import checks
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.settings import Copilot

    sessions = Sessions(Copilot())
    wrong = 0
    try:
        for check in checks(sessions, options.session, fix=options.fix):
            wrong += not check.ok
            print(f"{'ok   ' if check.ok else 'to do'}  {check.name:<13} {check.found}")
            if check.do:
                print(f"       {'':<13} {check.do}")
    finally:
        sessions.close()
    return 1 if wrong else 0


def _sessions(options: argparse.Namespace) -> int:
    from pathlib import Path

    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.notebook.display import listing, render, terminal
    from copilot_jupyter.settings import Copilot

    sessions = Sessions(Copilot())
    found = sessions.listed(options.text, notebook=None, folder=str(Path.cwd()))
    # A line a session for other programs, as wide as it is for a person.
    table = terminal.table if sys.stdout.isatty() else render.table
    print(listing.sessions(found, sessions, options.text, None, table)["text/plain"])
    return 0


def _enable(options: argparse.Namespace) -> int:
    from copilot_jupyter import startup

    print(startup.enable("env" if options.env else "user"))
    return 0


def _disable(options: argparse.Namespace) -> int:
    from copilot_jupyter import startup

    if not options.env:
        print(startup.disable("user"))
    if not options.user:
        print(startup.disable("env"))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from copilot_jupyter import demo

    return demo.check() if options.check else demo.run(browser=not options.no_browser)


if __name__ == "__main__":
    sys.exit(main())
