"""The same magics in terminal IPython, in a pseudo terminal."""

from __future__ import annotations

import os
import re
import sys

import pexpect
import psutil
import pytest
from drivers import wait_gone
from scripted_model import Reply

PROMPT = re.compile(r"In \[\d+\]: ")
_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Terminal:
    """An IPython at a terminal; `run` types a line and returns what came of it."""

    def __init__(self, desk):
        env = {k: v for k, v in {**os.environ, **desk.env}.items() if v is not None}
        env |= {"IPYTHONDIR": str(desk.folder / "ipython"), "TERM": "dumb", "NO_COLOR": "1"}
        args = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"]
        self.child = pexpect.spawn(
            sys.executable,
            args,
            env=env,
            cwd=str(desk.folder),
            encoding="utf-8",
            timeout=20,
            dimensions=(50, 200),
        )
        self.child.delaybeforesend = 0.02
        self.child.expect(PROMPT)

    def run(self, line):
        self.child.sendline(line)
        self.child.expect(PROMPT)
        return self.output(line)

    def output(self, line=""):
        shown = _CODES.sub("", self.child.before).replace("\r\n", "\n")
        return shown.partition(line)[2].strip() if line else shown.strip()

    def children(self):
        return psutil.Process(self.child.pid).children(recursive=True)

    def close(self):
        self.child.close(force=True)


@pytest.fixture(scope="module")
def terminal(shared_desk):
    opened = Terminal(shared_desk)
    assert opened.run("%load_ext copilot_jupyter") == ""
    yield opened
    opened.close()


@pytest.fixture
def model(shared_desk):
    shared_desk.model.forget()
    return shared_desk.model


def test_an_answer_is_printed_once(terminal, model):
    shown = terminal.run("%copilot Let's discuss TypeScript generics")
    assert shown.count("Answer 1 to: Let's discuss TypeScript generics") == 1
    assert "Out[" not in shown
    assert terminal.run("%copilot What were we discussing?").endswith("What were we discussing?")
    assert model.requests[-1].prompts == [
        "Let's discuss TypeScript generics",
        "What were we discussing?",
    ]


def test_a_streamed_answer_is_printed_once(terminal, model):
    model.will(Reply("one two three four five", chunk=4, pause=0.03))
    assert terminal.run("%copilot Count").splitlines() == ["one two three four five"]


def test_an_assigned_answer_is_an_object(terminal, model):
    assert terminal.run("x = %copilot Keep this?").count("Keep this?") == 1
    assert "'Answer 1 to: Keep this?'" in terminal.run("x.text")


def test_a_cell_of_several_lines(terminal, model):
    for line in ("%%copilot", "two", "lines", "", ""):  # two empty lines end a cell here
        terminal.child.sendline(line)
    terminal.child.expect(PROMPT)
    assert model.requests[-1].prompts[-1] == "two\nlines"


def test_errors_are_two_lines(terminal, model):
    shown = terminal.run("%copilot_resume no-such-id")
    assert len(shown.splitlines()) == 2
    assert "no-such-id" in shown
    assert "Traceback" not in shown


def test_choosing_and_deleting_ask_at_the_terminal(terminal, model, shared_desk):
    terminal.run("%copilot_new from-the-terminal")
    terminal.child.sendline("%copilot_delete from-the-terminal")
    terminal.child.expect(r"\[y/N\] ")
    assert "Nothing was deleted." in terminal.run("n")
    assert "from-the-terminal" in shared_desk.store.ids()
    terminal.child.sendline("%copilot_resume")
    terminal.child.expect("or an id")
    shown = terminal.run("from-the-terminal")
    assert "Bound to from-the-terminal" in shown


def test_control_c_during_a_slow_answer(terminal, model):
    runtime = terminal.children()
    model.will(Reply("word " * 200, chunk=5, pause=0.05))
    terminal.child.sendline("%copilot A prompt that is stopped")
    terminal.child.expect("word word")
    terminal.child.sendintr()
    terminal.child.expect(PROMPT)
    shown = terminal.output()
    assert "Traceback" not in shown
    said = [line for line in shown.splitlines() if "interrupted" in line.lower()]
    assert 1 <= len(said) <= 2  # the mark at the text that came, and the error
    assert "Answer 2 to: Next" in terminal.run("%copilot Next?")
    assert "A prompt that is stopped" not in model.requests[-1].prompts
    assert terminal.children() == runtime


def test_control_c_before_the_first_word(terminal, model):
    model.will(Reply(hang=True))
    terminal.child.sendline("%copilot A prompt that is stopped")
    model.wait_for(1)
    terminal.child.sendintr()
    terminal.child.expect(PROMPT)
    shown = terminal.output("A prompt that is stopped")
    assert "Traceback" not in shown
    assert "interrupted" in shown
    assert "Answer 2 to: Next" in terminal.run("%copilot Next?")
    assert "A prompt that is stopped" not in model.requests[-1].prompts


@pytest.mark.parametrize("way", ["exit", "end of file"])
def test_leaving_leaves_no_runtime(shared_desk, model, way):
    opened = Terminal(shared_desk)
    opened.run("%load_ext copilot_jupyter")
    opened.run("%copilot Hello")
    children = opened.children()
    assert children
    if way == "exit":
        opened.child.sendline("exit")
    else:
        opened.child.sendeof()
        opened.child.sendline("y")
    opened.child.expect(pexpect.EOF)
    assert wait_gone(children, 3) == []
    opened.close()
    assert opened.child.exitstatus == 0
