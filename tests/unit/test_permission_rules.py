"""Who decides what a tool may do, how it is asked, and what stays of it."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation.grants import Decision, Grants, Wish
from copilot_jupyter.notebook.tools import permission_widget, permissions
from copilot_jupyter.notebook.tools.permission_widget import PermissionButtons
from copilot_jupyter.notebook.tools.permissions import Permissions
from copilot_jupyter.notebook.tools.question import HEAD, TAIL, one_line, question, readable
from copilot_jupyter.settings import Copilot

HERE = ("churn", "notebook-1")
WISH = Wish("run_python", "print(1)")


class Asking:
    """A cell that asks: what it shows, and the permissions it goes by."""

    def __init__(self, folder: Any, **front_end: Any) -> None:
        self.settings = Copilot()
        self.grants = Grants(folder)
        self.said: list[str] = []
        self.front_end = SimpleNamespace(
            **{"kernel": object(), "can_ask": True, "execution_count": 1, **front_end}
        )
        self.permissions = Permissions(self.front_end, self.settings, self.grants, self.said.append)
        self.outputs: list[dict[str, str]] = []
        self.buttons: list[PermissionButtons] = []
        self.waits = 0

    def decide(self, wish: Wish = WISH, session: str = "churn", *, most: int = 1000) -> Decision:
        deciding = self.permissions.decide(wish, session, "notebook-1")
        for _ in range(most):
            try:
                next(deciding)
            except StopIteration as end:
                return end.value
            self.waits += 1
            time.sleep(0.001)
        deciding.close()
        raise TimeoutError

    @property
    def shown(self) -> str:
        """The one output, which is plain text when all is over."""
        [*_, last] = self.outputs
        assert set(last) == {"text/plain"}
        return last["text/plain"]


@pytest.fixture
def asking(tmp_path, monkeypatch):
    made = Asking(tmp_path)

    def display(data: dict, **_: Any) -> Any:
        made.outputs.append(data)
        return SimpleNamespace(update=lambda data, raw: made.outputs.append(data))

    monkeypatch.setattr("IPython.display.display", display)
    return made


def page(asking: Asking, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Play a page that draws the buttons; it answers once it has the question."""

    class Played(PermissionButtons):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.sent: list[dict] = []
            asking.buttons.append(self)
            self._received(self, {"op": "ready", "view": "v"}, [])

        def send(self, content: Any, buffers: Any = None) -> None:
            self.sent.append(content)
            for answer in answers:
                self._received(self, {"op": "answer", "answer": answer}, [])

    monkeypatch.setattr(permission_widget, "PermissionButtons", Played)


def typing(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[str]:
    """Play somebody at ``input()``; return what they are asked."""
    asked, left = [], list(answers)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        found = left.pop(0)
        if isinstance(found, type):
            raise found
        return str(found)

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(permissions, "READY", 0.02)
    return asked


# -- the table --------------------------------------------------------------------------------

YES, NO, ASKS = True, False, None


@pytest.mark.parametrize(
    ("granted", "policy", "expected"),
    [
        (None, [], ASKS),
        (None, ["shell"], YES),
        (None, ["url"], ASKS),
        (True, [], YES),
        (True, ["shell"], YES),
        (False, [], NO),
        (False, ["shell"], NO),  # what the person denied here is not undone by a policy
    ],
)
@pytest.mark.parametrize("can_ask", [True, False])
def test_the_table_of_standing_answers(asking, granted, policy, expected, can_ask, monkeypatch):
    asking.front_end.can_ask = can_ask
    asking.settings.allow = policy
    if granted is not None:
        (asking.grants.allow if granted else asking.grants.deny)(*HERE, "shell")
    page(asking, monkeypatch, "once")
    decided = asking.decide(Wish("shell", "ls"))
    asks = Decision.ONCE if can_ask else Decision.NOBODY
    assert decided is {YES: Decision.SESSION, NO: Decision.DENIED, ASKS: asks}[expected]
    assert len(asking.buttons) == (expected is ASKS and can_ask)
    assert asking.permissions.standing("shell", *HERE) is expected


def test_a_grant_is_not_the_branch_s(asking, monkeypatch):
    page(asking, monkeypatch, "session")
    assert asking.decide(Wish("shell", "ls")) is Decision.SESSION
    assert asking.decide(Wish("shell", "rm x")) is Decision.SESSION
    assert len(asking.buttons) == 1
    asking.decide(Wish("shell", "ls"), "churn-fork")
    assert len(asking.buttons) == 2


def test_once_is_once(asking, monkeypatch):
    page(asking, monkeypatch, "once")
    assert [asking.decide() for _ in range(3)] == [Decision.ONCE] * 3
    assert len(asking.buttons) == 3
    assert asking.grants.of(*HERE) == {}


def test_a_grant_that_cannot_be_kept_holds_for_now_and_is_said(tmp_path, asking, monkeypatch):
    (tmp_path / "file").touch()
    asking.grants = asking.permissions._grants = Grants(tmp_path / "file")
    page(asking, monkeypatch, "session")
    assert asking.decide(Wish("shell", "ls")) is Decision.SESSION
    assert "cannot be changed" in asking.said[0]
    assert asking.decide(Wish("shell", "ls")) is Decision.SESSION
    assert len(asking.buttons) == 1


# -- nobody -----------------------------------------------------------------------------------


def test_nobody_is_told_once_how_to_allow_it(asking):
    asking.front_end.can_ask = False
    wish = Wish("insert_cell", "x = 1\ny = 2")
    assert {asking.decide(wish) for _ in range(50)} == {Decision.NOBODY}
    assert asking.said == [
        "insert_cell: x = 1 … (2 lines) → denied: nobody is here to answer. To allow it "
        "beforehand: %copilot_allow insert_cell, or Copilot.allow = ['insert_cell']."
    ]
    assert asking.outputs == []
    asking.decide(Wish("shell", "ls"))
    assert len(asking.said) == 2
    asking.front_end.execution_count += 1
    asking.decide(wish)
    assert len(asking.said) == 3


def test_a_standing_no_is_said_once(asking):
    asking.grants.deny(*HERE, "run_python")
    assert [asking.decide() for _ in range(3)] == [Decision.DENIED] * 3
    assert asking.said == [
        "run_python: print(1) → denied. %copilot_allow run_python takes it back."
    ]


# -- buttons ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "decision", "line"),
    [
        ("once", Decision.ONCE, "run_python: print(1) → allowed once"),
        ("session", Decision.SESSION, "run_python: print(1) → allowed for this session"),
        ("deny", Decision.DENIED, "run_python: print(1) → denied"),
    ],
)
def test_a_click_decides_and_one_line_stays(asking, monkeypatch, answer, decision, line):
    page(asking, monkeypatch, answer, "once")  # the first one counts
    assert asking.decide() is decision
    assert asking.shown == line
    assert asking.buttons[0].comm is None
    assert asking.said == []


def test_what_no_button_says_is_no_answer(asking, monkeypatch):
    page(asking, monkeypatch, "yes", "", None, ["once"], {"once": 1})  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        asking.decide(most=20)
    assert asking.shown == "run_python: print(1) → stopped"


def test_an_answer_to_what_was_not_shown_does_not_count(asking, monkeypatch):
    page(asking, monkeypatch)
    deciding = asking.permissions.decide(WISH, *HERE)
    buttons = None
    next(deciding)
    [buttons] = asking.buttons
    buttons._is_shown = False
    buttons._received(buttons, {"op": "answer", "answer": "once"}, [])
    assert buttons.answer is None
    deciding.close()


def test_every_view_gets_the_question_also_one_that_comes_late(asking, monkeypatch):
    page(asking, monkeypatch)
    deciding = asking.permissions.decide(WISH, *HERE)
    next(deciding)
    [buttons] = asking.buttons
    buttons._received(buttons, {"op": "ready", "view": "after a reload"}, [])
    next(deciding)
    assert [m["view"] for m in buttons.sent] == ["v", "after a reload"]
    assert {m["detail"] for m in buttons.sent} == {"print(1)"}
    deciding.close()


def test_what_is_asked_is_not_in_the_state_that_notebooks_save(asking, monkeypatch):
    page(asking, monkeypatch)
    deciding = asking.permissions.decide(Wish("shell", "echo my-hidden-word"), *HERE)
    next(deciding)
    state = {**asking.buttons[0].get_state(), "_esm": "", "_css": ""}
    assert "hidden-word" not in str(state)
    deciding.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_the_stop_button_takes_the_question_away(asking, monkeypatch, error):
    page(asking, monkeypatch)
    deciding = asking.permissions.decide(WISH, *HERE)
    next(deciding)
    with pytest.raises(error):
        deciding.throw(error())
    assert asking.shown == "run_python: print(1) → stopped"
    assert asking.buttons[0].comm is None


def test_nobody_clicks_for_long_and_the_next_tool_of_the_cell_does_not_wait(asking, monkeypatch):
    page(asking, monkeypatch)
    asking.settings.ask_timeout = 0.1
    assert asking.decide() is Decision.UNANSWERED
    assert asking.shown.startswith("run_python: print(1) → denied: nobody answered in 0.1 s. To ")
    waits = asking.waits
    assert asking.decide(Wish("shell", "ls")) is Decision.UNANSWERED
    assert asking.decide(Wish("shell", "ls -l")) is Decision.UNANSWERED
    assert asking.waits == waits
    assert len(asking.said) == 1
    asking.front_end.execution_count += 1
    page(asking, monkeypatch, "once")
    assert asking.decide() is Decision.ONCE


def test_a_message_that_is_none_of_ours_is_nothing():
    buttons = PermissionButtons({}, ("once",))
    for content in (None, 3, "once", [], {}, {"op": "reboot"}, {"op": "answer"}):
        buttons._received(buttons, content, [])
    assert buttons.answer is None
    assert not buttons.is_drawn
    buttons.close()


# -- typed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        (["y"], Decision.ONCE),
        ([" Yes "], Decision.ONCE),
        (["s"], Decision.SESSION),
        (["n"], Decision.DENIED),
        ([""], Decision.DENIED),  # Esc in VS Code, Enter by mistake
        (["what?", "y"], Decision.ONCE),
        (["a", "b", "c", "y"], Decision.DENIED),
        ([EOFError], Decision.NOBODY),
        ([NotImplementedError], Decision.NOBODY),
    ],
)
@pytest.mark.parametrize("kernel", [object(), None], ids=["kernel", "terminal"])
def test_where_no_buttons_are_drawn_it_is_typed(
    asking, monkeypatch, capsys, typed, decision, kernel
):
    asking.front_end.kernel = kernel
    asked = typing(monkeypatch, *typed)
    assert asking.decide() is decision
    assert asked[0] == "Allow run_python? [y] once, [s] for this session, [N] no: "
    if kernel is None:
        before, after = capsys.readouterr().out, asking.said[-1]
    else:
        before, after = asking.outputs[0]["text/plain"], asking.shown
    assert "    print(1)\n" in before
    assert after.startswith(f"run_python: print(1) → {decision.value}")
    assert (asking.grants.of(*HERE) == {"run_python": True}) == (decision is Decision.SESSION)


def test_the_second_question_of_a_cell_without_buttons_comes_at_once(asking, monkeypatch):
    typing(monkeypatch, "y", "y")
    monkeypatch.setattr(permissions, "READY", 0.2)
    asking.decide()
    waits = asking.waits
    asking.decide()
    assert waits > 0
    assert asking.waits == waits


def test_the_stop_button_ends_the_typed_question_too(asking, monkeypatch):
    typing(monkeypatch, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        asking.decide()
    assert asking.shown == "run_python: print(1) → stopped"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_nobody_types_for_long(asking, monkeypatch):
    typing(monkeypatch)
    monkeypatch.setattr("builtins.input", lambda _: time.sleep(30))
    asking.settings.ask_timeout = 0.2
    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 100)  # somebody else's: pytest-timeout's, here
    began = time.monotonic()
    assert asking.decide() is Decision.UNANSWERED
    assert time.monotonic() - began < 10
    assert "nobody answered in 0.2 s" in asking.shown
    assert signal.getsignal(signal.SIGALRM) is before
    assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100


def test_off_the_main_thread_it_is_typed_without_a_limit(asking, monkeypatch):
    typing(monkeypatch, "y")
    found: list[Decision] = []
    thread = threading.Thread(target=lambda: found.append(asking.decide()))
    thread.start()
    thread.join(30)
    assert found == [Decision.ONCE]


# -- what is seen -----------------------------------------------------------------------------


def test_text_that_hides_is_shown_by_its_numbers():
    hidden = "a\u202eb\u2066c\u200bd\u00a0e\x1b[2Jf\u3164g\r\nh\ri\tj\ud800"
    assert readable(hidden) == (
        "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200B⟩d⟨U+00A0⟩e⟨U+001B⟩[2Jf⟨U+3164⟩g\nh⟨U+000D⟩i\tj⟨U+D800⟩"
    )
    assert readable("größe = 'ß 日本語 👍'\n\tx\n") == "größe = 'ß 日本語 👍'\n\tx\n"


@given(st.text())
def test_nothing_that_is_shown_can_be_obeyed_or_unseen(text):
    assert all(c.isprintable() or c in "\n\t" for c in readable(text))
    line = one_line(Wish("shell", text))
    assert line.isprintable()
    assert len(line) < 200


def test_a_long_detail_is_cut_where_everybody_sees_it(asking, monkeypatch):
    page(asking, monkeypatch, "deny")
    text = "a" * HEAD + "b" * 1234 + "c" * TAIL
    asking.decide(Wish("run_python", text))
    [sent] = asking.buttons[0].sent
    assert sent["detail"] == (
        "a" * HEAD + "\n\n[… 1,234 characters in the middle are not shown …]\n\n" + "c" * TAIL
    )
    assert sent["size"] == "1 line, 13,234 characters"
    assert sent["left_out"] == "1,234 characters in the middle are not shown"
    assert f"{sent['size']}; {sent['left_out']}." in asking.outputs[0]["text/plain"]


def test_the_size_and_what_all_further_ones_are(asking, monkeypatch):
    page(asking, monkeypatch, "deny")
    asking.decide(Wish("run_python", "pass\n" * 40 + "evil()"))
    asking.decide(Wish("shell", "ls"))
    first, second = (buttons.sent[0] for buttons in asking.buttons)
    assert (first["size"], first["left_out"]) == ("41 lines, 206 characters", "")
    assert "all further code, until the kernel restarts" in first["hint"]
    assert "all further commands, in this notebook, until %copilot_deny shell" in second["hint"]
    assert "scroll" not in asking.outputs[0]["text/plain"]  # a console shows all of it


@given(st.text(), st.sampled_from(["python", "bash", "diff", "markdown", ""]))
def test_a_detail_in_colours_is_the_same_text(text, language):
    asked = question(Wish("shell", text, language=language))
    assert "".join(piece for _, piece in asked["pieces"]) == asked["detail"]


def test_code_is_in_colours():
    asked = question(Wish("run_python", "if 1: # no\n    'a'", language="python"))
    kinds = [(kind, piece) for kind, piece in asked["pieces"] if kind]
    assert kinds == [
        ("keyword", "if"),
        ("number", "1"),
        ("comment", "# no"),
        ("string", "'"),
        ("string", "a"),
        ("string", "'"),
    ]
    asked = question(Wish("write", "a\n\n-old\n+new", language="diff"))
    assert [kind for kind, _ in asked["pieces"] if kind] == ["removed", "added"]


def test_the_line_that_stays_shows_no_secret(monkeypatch):
    monkeypatch.setenv("CHURN_API_TOKEN", "hunter2-hunter2-hunter2")
    wish = Wish("shell", "curl -H 'Authorization: Bearer hunter2-hunter2-hunter2' example.org")
    assert "hunter2" not in one_line(wish)
    assert "CHURN_API_TOKEN" in one_line(wish)
    assert "hunter2" in question(wish)["detail"]  # who allows it sees what it is


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        (Wish("shell", "ls"), "shell: ls"),
        (Wish("shell", "\n  ls\n"), "shell: ls"),
        (Wish("shell", ""), "shell: "),
        (Wish("write", "/tmp/a\nlong", "writes a"), "write: writes a"),
        (Wish("url", "x" * 500), "url: " + "x" * 119 + "…"),
        (Wish("made\nup", "a"), "made up: a"),
    ],
)
def test_a_wish_in_one_line(wish, line):
    assert one_line(wish) == line
