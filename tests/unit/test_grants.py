"""Standing answers: who they are for, where they lie, and what a damaged file is worth."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation import grants as module
from copilot_jupyter.conversation.grants import Decision, Grants
from copilot_jupyter.errors import StateFolderError

HERE = ("churn", "notebook-1")


@pytest.fixture
def grants(tmp_path):
    return Grants(tmp_path / "ours")


def restarted(grants):
    """The same folder, seen by the next kernel."""
    module._IN_THIS_KERNEL.pop(grants.path, None)
    return Grants(grants.path.parent)


def write(grants, text):
    grants.path.parent.mkdir(parents=True, exist_ok=True)
    grants.path.write_text(text)
    grants.path.chmod(0o600)


ONE = {"session": "churn", "notebook": "notebook-1", "tool": "shell", "allowed": True}


def test_nothing_is_granted_and_no_file_made_by_looking(grants):
    assert grants.allowed(*HERE, "shell") is None
    assert grants.of(*HERE) == {}
    assert not grants.path.parent.exists()


def test_an_answer_is_for_one_session_in_one_notebook(grants):
    grants.allow(*HERE, "shell")
    grants.deny(*HERE, "url")
    again = restarted(grants)
    assert again.of(*HERE) == {"shell": True, "url": False}
    assert again.of("churn", "notebook-2") == {}
    assert again.of("churn-fork", "notebook-1") == {}


def test_the_later_answer_counts(grants):
    grants.allow(*HERE, "shell")
    grants.deny(*HERE, "shell")
    assert grants.allowed(*HERE, "shell") is False
    grants.allow(*HERE, "shell")
    assert restarted(grants).allowed(*HERE, "shell") is True


def test_run_python_is_allowed_until_the_kernel_restarts(grants):
    grants.allow(*HERE, "run_python", "insert_cell")
    assert Grants(grants.path.parent).allowed(*HERE, "run_python") is True  # of this kernel too
    assert "run_python" not in grants.path.read_text()
    again = restarted(grants)
    assert again.of(*HERE) == {"insert_cell": True}


def test_that_run_python_is_denied_is_kept_and_taken_back_for_good(grants):
    grants.deny(*HERE, "run_python")
    again = restarted(grants)
    assert again.allowed(*HERE, "run_python") is False
    again.allow(*HERE, "run_python")
    assert again.allowed(*HERE, "run_python") is True
    assert restarted(again).allowed(*HERE, "run_python") is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_file_is_for_this_user_alone(grants):
    before = os.umask(0)
    try:
        grants.allow(*HERE, "shell")
    finally:
        os.umask(before)
    assert grants.path.stat().st_mode & 0o777 == 0o600
    assert grants.path.parent.stat().st_mode & 0o777 == 0o700
    assert {p.name for p in grants.path.parent.iterdir()} <= {"grants.json", "grants.json.mutex"}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_file_that_others_may_write_grants_nothing(grants):
    grants.allow(*HERE, "shell")
    grants.path.chmod(0o666)
    assert restarted(grants).allowed(*HERE, "shell") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"grants": 3}',
        '{"grants": {"shell": true}}',
        '{"grants": [3]}',
        '{"grants": ["shell"]}',
        "[" * 100_000,
        "\x00\xff",
        json.dumps({"grants": [{**ONE, "allowed": 1}]}),
        json.dumps({"grants": [{**ONE, "allowed": "true"}]}),
        json.dumps({"grants": [{**ONE, "tool": ["shell"]}]}),
        json.dumps({"grants": [{**ONE, "session": ""}]}),
    ],
)
def test_a_damaged_file_grants_nothing_and_is_written_anew(grants, text):
    write(grants, text)
    assert grants.of(*HERE) == {}
    grants.allow(*HERE, "url")
    assert restarted(grants).of(*HERE) == {"url": True}


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_file_is_ever_more_than_nothing(tmp_path_factory, value):
    grants = Grants(tmp_path_factory.mktemp("any"))
    write(grants, json.dumps({"grants": value}))
    assert grants.of(*HERE) == {}


def test_a_whole_file_is_read(grants):
    write(grants, json.dumps({"grants": [ONE]}))
    assert grants.allowed(*HERE, "shell") is True


def test_forget_some_or_all(grants):
    grants.allow(*HERE, "run_python", "shell", "url")
    grants.forget(*HERE, "shell")
    assert grants.of(*HERE) == {"run_python": True, "url": True}
    grants.forget(*HERE)
    assert grants.of(*HERE) == {}
    assert restarted(grants).of(*HERE) == {}


def test_a_deleted_session_leaves_no_permission_to_its_id(grants):
    grants.allow(*HERE, "run_python", "shell")
    grants.allow("other", "notebook-1", "shell")
    grants.forget_session("churn")
    assert grants.of(*HERE) == {}
    assert restarted(grants).of(*HERE) == {}
    assert grants.allowed("other", "notebook-1", "shell") is True


def test_without_an_identity_it_holds_in_this_kernel_only(grants):
    grants.allow("churn", "", "shell")
    assert grants.allowed("churn", "", "shell") is True
    assert not grants.path.exists()
    assert restarted(grants).allowed("churn", "", "shell") is None


def test_before_there_is_a_session_it_is_for_the_one_that_follows(grants):
    grants.allow("", "", "shell")
    assert grants.allowed(*HERE, "shell") is True
    grants.deny(*HERE, "shell")  # said of this one, and later
    assert grants.allowed(*HERE, "shell") is False
    grants.forget(*HERE)
    assert grants.of(*HERE) == {}
    assert not restarted(grants).of(*HERE)


def test_a_folder_that_cannot_be_written_is_said_and_the_answer_holds_for_now(tmp_path):
    (tmp_path / "ours").write_text("a file where the folder should be")
    grants = Grants(tmp_path / "ours")
    with pytest.raises(StateFolderError, match=r"grants\.json cannot be changed.*holds until"):
        grants.allow(*HERE, "shell")
    assert grants.allowed(*HERE, "shell") is True


_WRITE = """
import sys, time
from pathlib import Path
from copilot_jupyter.conversation.grants import Grants
grants = Grants(Path(sys.argv[1]))
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.001)
for n in range(40):
    grants.allow("churn", "notebook-1", f"{sys.argv[2]}-{n}")
"""


def test_two_kernels_that_write_at_once_lose_nothing(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", _WRITE, str(tmp_path), name]) for name in "ab"
    ]
    (tmp_path / "go").touch()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(Grants(tmp_path).of(*HERE)) == 80


def test_only_two_decisions_allow():
    assert [d for d in Decision if d.allows] == [Decision.ONCE, Decision.SESSION]
