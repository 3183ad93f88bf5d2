"""A session as one text file: exported, diffed, scrubbed, and brought in on another machine."""

from __future__ import annotations

import json
import re
import shutil

import nbformat
import pytest
from desk import Desk, ask, binding, reloaded, two_lines
from drivers import NotebookKernel, descendants
from scripted_model import ScriptedModel

NAME = "talk.copilot.jsonl"
NOTEBOOK = "Talk.ipynb"
PROMPTS = ["Let's discuss TypeScript generics", "continue", "Ünïcode, “quotes”\nand lines"]


@pytest.fixture(scope="module")
def exported(shared_desk):
    """A folder with a notebook of three turns and the bundle of its session beside it."""
    notebook = shared_desk.notebook(NOTEBOOK)
    notebook.run("%copilot_resume talk --create").ok()
    for prompt in PROMPTS:
        ask(notebook, prompt).ok()
    notebook.save()
    notebook.run(f"%copilot_export {NAME}").ok()
    notebook.shutdown()
    return shared_desk.folder


@pytest.fixture
def here(desk, exported):
    """A machine with an empty state folder, and the bundle alone."""
    shutil.copy(exported / NAME, desk.folder)
    return desk


def unattended(desk):
    """Open the notebook as nbclient does: the kernel works in its folder and knows no more."""
    env = {**desk.env, "JPY_SESSION_NAME": None}
    path = desk.folder / NOTEBOOK
    return desk.opened(NotebookKernel(path, cell_ids=False, answers=None, env=env))


def files(folder):
    """All files of a folder with their bytes; what shows that nothing was changed."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def answers(cells):
    asked = [cell for cell in cells if cell.source.startswith("%%copilot")]
    return [[dict(output["data"]) for output in cell.outputs] for cell in asked]


# -- exporting ---


def test_a_bundle_grows_by_lines_only(desk):
    notebook = desk.notebook()
    notebook.run("%copilot_resume talk --create").ok()
    for prompt in PROMPTS:
        ask(notebook, prompt).ok()
    path = desk.folder / NAME
    line = notebook.run(f"%copilot_export {NAME}").ok().shown
    assert line == f"Wrote {NAME}: 3 turns, {path.stat().st_size:,} bytes."
    before = path.read_bytes()
    assert str(desk.folder).encode() not in before  # a folder's name is nobody's business
    notebook.run(f"%copilot_export {NAME}").ok()
    assert path.read_bytes() == before
    notebook.run("%copilot_export again.copilot.jsonl").ok()
    assert (desk.folder / "again.copilot.jsonl").read_bytes() == before

    notebook.save()
    reloaded(notebook, notebook.restart)  # another process, another runtime
    notebook.run("%copilot_resume talk").ok()
    assert notebook.run(f"%copilot_export {NAME}").ok().shown == line
    assert path.read_bytes() == before
    ask(notebook, "One more").ok()
    line = notebook.run(f"%copilot_export {NAME}").ok().shown
    assert line == f"Wrote {NAME}: 4 turns, {path.stat().st_size:,} bytes."
    old, new = before.splitlines()[1:], path.read_bytes().splitlines()[1:]
    rest = iter(new)
    assert all(line in rest for line in old)  # each is still there, and in that order
    assert any(b"One more" in line for line in set(new) - set(old))
    assert not any(b"One more" in line for line in old)


def test_secrets_are_left_out_and_counted(desk, exported):
    planted, token = "hunter2-hunter2-hunter2", "ghp_" + "a1B2c3D4e5" * 4
    notebook = desk.notebook(env={"MY_API_TOKEN": planted})
    notebook.run("%copilot_resume talk --create").ok()
    prompts = [f"Why does {token} not work?", f"My token is {planted}, and not {planted}x?"]
    for prompt in prompts:
        ask(notebook, prompt).ok()
    line = notebook.run(f"%copilot_export {NAME}").ok().shown
    text = (desk.folder / NAME).read_text()
    assert planted not in text
    assert token not in text
    assert "‹secret:MY_API_TOKEN›" in text
    left_out = re.fullmatch(
        r"Wrote .*: 2 turns, [\d,]+ bytes\. (\d+) secrets were left out\.", line
    )
    assert left_out, line
    stored = desk.store.journal_path("talk").read_text()
    assert int(left_out[1]) == text.count("‹secret:") - stored.count("‹secret:")
    assert token in "".join(desk.prompts("talk"))  # the session itself is as it was

    # What is left is a whole conversation, which the same cells still find.
    notebook.shutdown()
    shutil.rmtree(desk.home)
    other = desk.notebook("Other.ipynb")
    said = other.run(f"%copilot_import {NAME}").ok().shown
    assert f"{left_out[1]} secrets" in said
    other.run("%copilot_resume talk").ok()
    asked = len(desk.model.requests)
    for prompt in prompts:
        assert "‹secret:" in ask(other, prompt).ok().shown
    assert len(desk.model.requests) == asked
    ask(other, "And now?").ok()
    got = desk.model.requests[-1].prompts
    assert got[-1] == "And now?"
    assert len(got) == 3
    assert not any(planted in prompt or token in prompt for prompt in got)


def test_an_export_overwrites_nothing_else(here):
    notebook = here.notebook()
    notebook.run("%copilot_resume other --create").ok()
    ask(notebook, "Something else").ok()
    (here.folder / "notes.copilot.jsonl").write_text("my notes\n")
    before = files(here.folder)
    for name in (NAME, "notes.copilot.jsonl", "notes.txt", "no/such/folder.copilot.jsonl"):
        shown = two_lines(notebook.run(f"%copilot_export {name}"), "BadInputError")
        assert name.rpartition("/")[2] in shown
        assert files(here.folder) == before


# -- bringing in ---


def test_an_imported_session_goes_on_with_all_its_turns(here, exported):
    notebook = here.notebook()
    said = notebook.run(f"%copilot_import {NAME}").ok().shown
    assert said == (
        f"talk was restored from {NAME}: 3 turns. Go on with it by %copilot_resume talk."
    )
    assert here.store.ids() == ["talk"]
    assert here.prompts("talk") == PROMPTS
    assert notebook.run("%copilot_resume talk").ok().shown == "Bound to talk."
    assert descendants(notebook.pid) == []
    ask(notebook, "And now?").ok()
    [request] = here.model.requests
    assert request.prompts == [*PROMPTS, "And now?"]
    saved = answers(nbformat.read(exported / NOTEBOOK, 4).cells)
    assert request.answers == [output["text/plain"] for [output] in saved]


def test_an_import_under_an_id_of_ones_own(here):
    notebook = here.notebook()
    said = notebook.run(f"%copilot_import {NAME} mine").ok().shown
    assert "mine was restored" in said
    assert said.endswith("%copilot_resume mine.")
    assert here.store.ids() == ["mine"]
    notebook.run("%copilot_resume mine").ok()
    replayed = ask(notebook, PROMPTS[0]).ok()
    assert binding(replayed)["session"] == "mine"
    assert here.model.requests == []
    ask(notebook, "And now?").ok()
    assert here.model.requests[0].prompts == [*PROMPTS, "And now?"]
    # An id that cannot be one, or that is taken by another conversation, is refused.
    before = here.prompts("mine")
    for bad in ("../mine", "mine"):
        shown = two_lines(notebook.run(f"%copilot_import {NAME} {bad}"), "BadInputError")
        assert bad in shown
    assert here.store.ids() == ["mine"]
    assert here.prompts("mine") == before


def test_an_import_of_what_is_here_already_changes_nothing(here):
    notebook = here.notebook()
    notebook.run(f"%copilot_import {NAME}").ok()
    before = files(here.home)
    said = notebook.run(f"%copilot_import {NAME}").ok().shown
    assert said.startswith("talk is here already, with the same 3 turns.")
    assert notebook.run(f"%copilot_resume talk --from {NAME}").ok().shown == "Bound to talk."
    assert files(here.home) == before


def test_an_import_never_overwrites_a_session_that_differs(here):
    notebook = here.notebook()
    notebook.run(f"%copilot_import {NAME}").ok()
    notebook.run("%copilot_resume talk").ok()
    notebook.run("%copilot_rewind 3").ok()
    for prompt in ("Mine", "Mine too"):
        ask(notebook, prompt).ok()
    notebook.run("%copilot_release").ok()
    ours = [*PROMPTS[:2], "Mine", "Mine too"]
    before = files(here.home / "session-state")
    what, do = two_lines(notebook.run(f"%copilot_import {NAME}"), "BadInputError").splitlines()
    assert "talk is here already and differs" in what
    assert "the same 2 turns, then it has 2 here and 1 in the file" in what
    # A line that names the file goes on working: what it has was here, and was taken out.
    bound = notebook.run(f"%copilot_resume talk --from {NAME}").ok()
    assert bound.shown == "Bound to talk."
    assert here.prompts("talk") == ours
    assert files(here.home / "session-state") == before

    offered = re.search(rf"(%copilot_import {NAME} (\S+?))\.?$", do)
    assert offered, do
    notebook.run(offered[1]).ok()
    assert here.prompts(offered[2]) == PROMPTS
    assert here.prompts("talk") == ours
    notebook.run(f"%copilot_resume {offered[2]}").ok()
    ask(notebook, "And now?").ok()
    assert here.model.requests[-1].prompts == [*PROMPTS, "And now?"]


def test_resume_from_a_bundle_anywhere(here):
    elsewhere = here.folder.parent / "a folder with spaces"
    elsewhere.mkdir()
    (here.folder / NAME).rename(elsewhere / NAME)
    notebook = here.notebook()
    two_lines(notebook.run("%copilot_resume talk"), "SessionNotFoundError")
    shown = two_lines(
        notebook.run(f'%copilot_resume other --from "{elsewhere / NAME}"'), "BadInputError"
    )
    assert "holds the session talk, not other" in shown
    assert here.store.ids() == []
    bound = notebook.run(f'%copilot_resume talk --from "{elsewhere / NAME}"').ok()
    assert bound.shown.endswith("Bound to talk.")
    ask(notebook, "And now?").ok()
    assert here.model.requests[0].prompts == [*PROMPTS, "And now?"]


def test_run_all_beside_a_committed_bundle_asks_nobody(here, exported):
    """As CI, Binder and reviewers do: outputs stripped, no account, no model, nobody there."""
    notebook = nbformat.read(exported / NOTEBOOK, as_version=4)
    saved = answers(notebook.cells)
    for cell in notebook.cells:
        cell.outputs = []
    nbformat.write(notebook, here.folder / NOTEBOOK)
    here.model.close()
    kernel = unattended(here)
    results = [result.ok() for result in kernel.run_all()]
    assert answers(kernel.cells) == saved
    assert [r.shown for r in results if "copilot_resume" in r.cell.source] == ["Bound to talk."]
    assert here.model.requests == []
    assert descendants(kernel.pid) == []
    assert here.prompts("talk") == PROMPTS


def test_a_bundle_that_is_older_than_its_notebook_asks_nobody_either(here, exported):
    """The notebook went on after its bundle was committed, and carries the later turn itself."""
    shutil.copy(exported / NOTEBOOK, here.folder)
    notebook = here.opened(NotebookKernel(here.folder / NOTEBOOK, answers=[], env=here.env))
    ask(notebook, "After the bundle").ok()
    notebook.save()
    notebook.shutdown()
    shutil.rmtree(here.home)
    here.model.forget()
    for result in unattended(here).run_all():
        result.ok()
    assert here.model.requests == []
    assert here.prompts("talk") == [*PROMPTS, "After the bundle"]


# -- what cannot be used ---


def of_another_version(data):
    return with_manifest(data, v=99)


def of_no_version(data):
    return with_manifest(data, v="one")


def with_a_path_for_an_id(data):
    return with_manifest(data, session="../../evil").replace(
        b'"sessionId":"talk"', b'"sessionId":"../../evil"'
    )


def of_500_mb(data):
    return data


def cut_off(data):
    return data[:-100]


def cut_between_lines(data):
    return b"".join(data.splitlines(keepends=True)[:-2])


def changed(data):
    assert data.count(b"continue")
    return data.replace(b"continue", b"stop now")


def with_conflict_markers(data):
    lines = data.splitlines(keepends=True)
    sides = [b"<<<<<<< HEAD\n", lines[3], b"=======\n", lines[4], b">>>>>>> theirs\n"]
    return b"".join([*lines[:3], *sides, *lines[5:]])


def with_manifest(data, **changes):
    first, _, rest = data.partition(b"\n")
    return json.dumps({**json.loads(first), **changes}).encode() + b"\n" + rest


BAD = {
    of_another_version: "newer copilot-jupyter",
    of_no_version: "version",
    with_a_path_for_an_id: "evil",
    of_500_mb: "500 MB",
    cut_off: "cut off",
    cut_between_lines: "cut off",
    changed: "changed since it was written",
    with_conflict_markers: "merge conflict",
}


@pytest.fixture(scope="module")
def empty_machine(tmp_path_factory, runtime_program):
    """A desk with a notebook open, for tests that change nothing there."""
    with ScriptedModel() as model:
        made = Desk(tmp_path_factory.mktemp("empty"), model, runtime_program)
        made.kernel = made.notebook("Empty.ipynb")
        yield made
        made.close()


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_bundle_is_two_lines_and_nothing_is_made(empty_machine, exported, spoil):
    desk, path = empty_machine, empty_machine.folder / NAME
    path.write_bytes(spoil((exported / NAME).read_bytes()))
    if spoil is of_500_mb:
        with path.open("r+b") as file:
            file.truncate(500 * 2**20)
    there = sorted(desk.folder.parent.rglob("*"))
    for source in (
        f"%copilot_import {NAME}",
        f"%copilot_import {NAME} good",
        f"%copilot_resume talk --from {NAME}",
        f"%copilot_resume talk --create --from {NAME}",
        "%copilot_resume talk",  # it lies beside the notebook
        "%copilot_resume talk --create",
    ):
        if spoil is with_a_path_for_an_id and "import" not in source and "--from" not in source:
            continue  # not a bundle of talk
        result = desk.kernel.run(source)
        shown = two_lines(result, "BadInputError")
        assert len(shown.splitlines()) == 2
        assert BAD[spoil] in shown
        assert NAME in shown
        assert result.elapsed < 5
        assert sorted(desk.folder.parent.rglob("*")) == there
    assert desk.store.ids() == []
    assert desk.model.requests == []
