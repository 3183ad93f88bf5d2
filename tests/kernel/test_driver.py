"""The kernel driver itself: it does to a kernel what front ends do, and reports what happened.

The cells here are plain Python. What they show is measured in a real
ipykernel, so that the tests of the product can trust the driver.
"""

from __future__ import annotations

import os
import signal

import nbformat
import pytest
from drivers import NotebookKernel, descendants, wait_gone

CELL_ID = "get_ipython().kernel.get_parent()['metadata'].get('cellId')"
SESSION_NAME = "import os; print(os.environ.get('JPY_SESSION_NAME'))"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    with NotebookKernel(folder / "Analysis.ipynb", answers=[]) as notebook:
        yield notebook


@pytest.fixture
def notebook(shared):
    """An emptied notebook on a kernel that the tests of this file share."""
    shared.cells.clear()
    return shared


@pytest.fixture
def fresh(tmp_path):
    """A notebook on a kernel of its own, for tests that stop or kill it."""
    with NotebookKernel(tmp_path / "Analysis.ipynb") as notebook:
        yield notebook


def test_lab_like_kernel_knows_its_notebook_and_its_cells(notebook):
    assert notebook.run(SESSION_NAME).ok().stdout.strip() == str(notebook.path)
    assert notebook.run("print(os.getcwd())").ok().stdout.strip() == str(notebook.path.parent)
    result = notebook.run(CELL_ID).ok()
    assert result.shown == repr(result.cell.id)
    assert notebook.complete("import os; os.getc") == ["getcwd", "getcwdb"]
    assert "working directory" in notebook.inspect("os.getcwd")


def test_headless_kernel_knows_neither_and_has_nobody_to_ask():
    with NotebookKernel(cell_ids=False, env={"COLOUR": "blue", "HOME": None}) as kernel:
        assert kernel.run(SESSION_NAME).ok().stdout == "None\n"
        assert kernel.run("print(os.environ.get('COLOUR'), 'HOME' in os.environ)").ok().stdout == (
            "blue False\n"
        )
        assert kernel.run(CELL_ID).ok().shown == ""
        kernel.run("input('Delete? ')").failed("StdinNotImplementedError")
        assert kernel.prompts == []


def test_questions_are_answered_in_order(notebook):
    notebook.answers.extend(["yes", "s3cret"])
    source = "import getpass\nprint(input('Go on? '), getpass.getpass('Token: '))"
    result = notebook.run(source).ok()
    assert result.stdout == "yes s3cret\n"
    seen = [(p.text, p.password, p.answer) for p in result.prompts]
    assert seen == [("Go on? ", False, "yes"), ("Token: ", True, "s3cret")]

    asked = notebook.start("print(input('And now? '))")
    assert notebook.wait_for_prompt().text == "And now? "
    assert not asked.done
    notebook.answer("by hand")
    assert notebook.finish(asked).ok().stdout == "by hand\n"


def test_payloads_rewrite_or_add_a_cell(notebook):
    show = "get_ipython().set_next_input({!r}, replace={})"
    result = notebook.run(show.format("%resume abc", True)).ok()
    assert result.next_input == "%resume abc"
    assert result.cell.source == "%resume abc"
    notebook.add("last")
    notebook.run(show.format("in between", False), cell=0).ok()
    assert [c.source for c in notebook.cells][1:] == ["in between", "last"]


def test_outputs_are_kept_as_a_front_end_keeps_them(notebook):
    result = notebook.run(
        "import sys\n"
        "from IPython.display import display, clear_output\n"
        "print('gone'); clear_output(wait=True)\n"
        "print('a'); print('b'); print('c', file=sys.stderr)\n"
        "handle = display({'text/plain': 'part'}, raw=True, display_id=True,"
        " metadata={'ours': {'turn': 1}})\n"
        "handle.update({'text/plain': 'whole'}, raw=True, metadata={'ours': {'turn': 2}})\n"
        "40 + 2"
    ).ok()
    kinds = [(o["output_type"], o.get("name")) for o in result.outputs]
    streams = sorted(kinds[:2])
    assert streams == [("stream", "stderr"), ("stream", "stdout")]
    assert kinds[2:] == [("display_data", None), ("execute_result", None)]
    assert (result.stdout, result.stderr, result.shown) == ("a\nb\n", "c\n", "whole\n42")
    assert result.displays[0]["metadata"] == {"ours": {"turn": 2}}
    assert result.messages.count("update_display_data") == 1

    notebook.run("handle.update({'text/plain': 'later'}, raw=True)").ok()
    assert result.shown == "later\n42"  # a finished cell's output still follows its display id

    saved = nbformat.read(notebook.save(), as_version=4)
    nbformat.validate(saved)
    assert saved.cells[0].id == result.cell.id
    assert [o.get("metadata") for o in saved.cells[0].outputs if "data" in o] == [{}, {}]


def test_output_metadata_is_saved_and_opened_again(notebook):
    notebook.run("display({'text/plain': 'x'}, raw=True, metadata={'ours': {'turn': 1}})").ok()
    notebook.metadata["ours"] = {"session": "abc"}
    notebook.save()
    again = NotebookKernel(notebook.path)
    assert again.cells == notebook.cells
    assert again.cells[0].outputs[0]["metadata"] == {"ours": {"turn": 1}}
    assert again.metadata["ours"] == {"session": "abc"}


def test_errors_stop_run_all_in_both_ways(notebook):
    for source in ("a = 1", "1 / 0", "a = 2"):
        notebook.add(source)
    assert [r.status for r in notebook.run_all()] == ["ok", "error", "aborted"]
    assert [r.status for r in notebook.run_all(queued=False)] == ["ok", "error"]
    failed = notebook.run_cell(1).failed("ZeroDivisionError")
    assert failed.evalue == "division by zero"
    assert "1 / 0" in failed.traceback
    with pytest.raises(AssertionError, match=r"\[1 / 0\] ended as error"):
        failed.ok()


def test_stop_button_reaches_the_process_group(fresh):
    fresh.run("import subprocess, time; sleeper = subprocess.Popen(['sleep', '30'])").ok()
    fresh.start("print('begun'); time.sleep(30)")
    fresh.wait_for_text("begun")
    fresh.interrupt()
    assert fresh.finish(timeout=5).failed("KeyboardInterrupt").elapsed < 5
    stopped = fresh.run("sleeper.wait(5)").ok()
    assert stopped.shown == str(-signal.SIGINT)


def test_restart_keeps_id_file_and_notebook(fresh, tmp_path):
    fresh.run("x = 1").ok()
    before = (fresh.kernel_id, fresh.connection_file, fresh.connection_file.read_text())
    first = fresh.pid
    fresh.restart()
    fresh.run("x").failed("NameError")
    file = fresh.connection_file
    assert (fresh.kernel_id, file, file.read_text()) == before
    assert fresh.pid != first

    fresh.save()
    moved = fresh.rename(tmp_path / "sub" / "Renamed.ipynb")
    old = str(tmp_path / "Analysis.ipynb")
    assert moved.exists()
    assert fresh.run(SESSION_NAME).ok().stdout.strip() == old  # stale in the living kernel
    fresh.restart(now=True)
    assert fresh.run(SESSION_NAME).ok().stdout.strip() == str(moved)

    twin = fresh.copy(tmp_path / "Copy.ipynb")
    assert [c.id for c in twin.cells] == [c.id for c in fresh.cells][: len(twin.cells)]
    with twin:
        assert twin.run(SESSION_NAME).ok().stdout.strip() == str(tmp_path / "Copy.ipynb")
        assert twin.kernel_id != fresh.kernel_id


def test_kill_9_and_start_again(fresh):
    spawn = "subprocess.Popen(['sleep', '60'], start_new_session={})"
    fresh.run(f"import subprocess, time\nnear = {spawn.format(False)}").ok()
    detached = int(fresh.run(f"{spawn.format(True)}.pid").ok().shown)
    kernel_id, first = fresh.kernel_id, fresh.pid
    children = descendants(first)
    assert len(children) == 2
    running = fresh.start("print('begun'); time.sleep(30)")
    fresh.wait_for_text("begun")
    fresh.kill9()
    assert running.status == "dead"
    assert wait_gone([first], 2) == []
    assert wait_gone(children, 0.1) == children  # nobody ended them: both are orphans now
    fresh.start_again()
    assert fresh.kernel_id == kernel_id
    fresh.run("near").failed("NameError")
    # As after the real auto-restart: its signals still reach the old process group, so the
    # child in it is gone; the one with a session of its own lives on.
    assert [p.pid for p in wait_gone(children, 0.1)] == [detached]
    fresh.shutdown()
    assert [p.pid for p in fresh.orphans] == [detached]
    assert wait_gone(children, 2) == []


def test_a_kernel_that_dies_by_itself_ends_its_cell(fresh):
    spawn = "import os, subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    assert fresh.run(f"{spawn}; os._exit(3)", timeout=10).status == "dead"
    fresh.start_again()
    fresh.run("1").ok()
    fresh.shutdown()
    assert len(fresh.orphans) == 1  # found by its environment: nobody saw it start
    assert wait_gone(fresh.orphans, 1) == []


def test_timeouts_name_what_was_waited_for(notebook):
    notebook.run("import os, time; os.write(2, b'last words\\n')").ok()
    with pytest.raises(TimeoutError, match=r"(?s)waited 0\.2 s for cell \w+ \[time.*last words"):
        notebook.run("time.sleep(20)", timeout=0.2)
    notebook.interrupt()
    notebook.wait_idle(5)


def test_comms_go_both_ways(notebook):
    notebook.comm_targets["lab-extension"] = lambda comm, data: [{"got": data}]
    notebook.run(
        "from comm import create_comm\n"
        "heard = []\n"
        "known = create_comm(target_name='lab-extension', data={'op': 'read'})\n"
        "known.on_msg(lambda m: heard.append(m['content']['data']))\n"
        "unknown = create_comm(target_name='nobody', data={})\n"
        "unknown.on_close(lambda m: heard.append('closed'))"
    ).ok()
    heard = notebook.run("heard").ok()  # queued behind both answers
    assert heard.shown == "[{'got': {'op': 'read'}}, 'closed']"


def test_leaves_no_process_and_no_file(tmp_path):
    before = set(descendants(os.getpid()))
    with NotebookKernel(tmp_path / "n.ipynb") as kernel:
        pid, folder = kernel.pid, kernel.connection_file.parent
        kernel.run("import subprocess; subprocess.run(['true'])").ok()
    assert kernel.orphans == []
    assert wait_gone([pid], 2) == []
    assert wait_gone(set(descendants(os.getpid())) - before, 2) == []
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
