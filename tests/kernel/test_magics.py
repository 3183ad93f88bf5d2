"""Every magic, with good and bad input as a person types it into a notebook."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import pytest
from desk import ask, binding, runtime_of, session_of, two_lines
from scripted_model import Reply

from copilot_jupyter.notebook.extension import MAGICS
from copilot_jupyter.notebook.magics.flags import FLAGS

FIRST = "Let's discuss TypeScript generics"
UNIQUE = iter(range(10_000))


@pytest.fixture(scope="module")
def kernel(shared_desk):
    """A notebook whose kernel all tests of this file share; saved, so that it exists."""
    notebook = shared_desk.notebook()
    notebook.save()
    return notebook


@pytest.fixture
def notebook(shared_desk, kernel):
    """The shared notebook, emptied and bound to a new session of its own."""
    shared_desk.model.forget()
    kernel.cells.clear()
    kernel.answers.clear()
    kernel.run(f"%copilot_new fresh-{next(UNIQUE)}").ok()
    return kernel


@pytest.fixture(scope="module")
def lonely(shared_desk):
    """A headless kernel: nobody to ask, no notebook."""
    return shared_desk.headless()


@pytest.fixture
def model(shared_desk):
    return shared_desk.model


def last_prompt(model):
    return model.requests[-1].prompts[-1]


# -- the manual ---


@pytest.mark.parametrize("magic", FLAGS)
def test_the_manual_of_a_magic_names_its_flags_and_no_others(magic):
    manual = next(getattr(m, magic) for m in MAGICS if hasattr(m, magic)).__doc__
    named = set(re.findall(r"--[a-z][a-z-]*", manual))
    assert named == {flag.name for flag in FLAGS[magic]}
    for flag in FLAGS[magic]:
        if flag.value:
            value = f"[{flag.value}]" if flag.optional else flag.value
            assert f"{flag.name} {value}" in manual
    assert f"%{magic}" in manual
    assert manual.splitlines()[0].endswith(".")


def test_every_magic_has_an_entry_for_its_flags():
    assert set(FLAGS) == {n for m in MAGICS for n in dir(m) if n.startswith("copilot")}


@pytest.mark.parametrize("typed", ["%copilot?", "%%copilot?", "%copilot ?", "%copilot_resume?"])
def test_help_is_the_manual_and_asks_nobody(notebook, model, typed):
    shown = notebook.run(typed).ok().everything
    for flag in FLAGS["copilot_resume" if "resume" in typed else "copilot"]:
        assert flag.name in shown
    assert model.requests == []


def test_completion_offers_magics_flags_and_ids_and_nothing_else(shared_desk, notebook):
    bound = binding(notebook.run("%copilot_new completion-target").ok())["session"]
    assert bound == "completion-target"
    assert {"%copilot", "%copilot_resume", "%copilot_doctor"} <= set(notebook.complete("%copi"))
    assert notebook.complete("%%copil") == ["%%copilot"]
    assert notebook.complete("%%copilot --") == [
        *("--again", "--attach", "--branch", "--context", "--dry-run"),
        *("--into", "--model", "--no-tools", "--rewind", "--timeout"),
    ]
    assert notebook.complete("%%copilot --mo") == ["--model"]
    assert notebook.complete("x = 1\ny = %copilot --in") == ["--into"]
    assert notebook.complete("%copilot_resume comple") == ["completion-target"]
    assert notebook.complete("  %copilot_resume comple") == ["completion-target"]
    assert notebook.complete("%copilot_resume some-id --ta") == ["--take-over"]
    assert set(notebook.complete("%copilot_delete ")) == set(shared_desk.store.ids())


def test_config_shows_and_sets(notebook, model):
    shown = notebook.run("%config Copilot").ok().everything
    for trait in ("model", "provider", "idle_release", "stall_timeout", "full_tracebacks"):
        assert f"Copilot.{trait}=" in shown
    notebook.run("%config Copilot.model = 'scripted-2'").ok()
    notebook.run("%copilot_release").ok()
    ask(notebook, "Which model?").ok()
    assert model.requests[-1].body["model"] == "scripted-2"
    notebook.run("%config Copilot.model = ''").ok()
    notebook.run("%copilot_release").ok()
    refused = notebook.run("%config Copilot.provider = 'nonsense'").everything
    assert "'auto', 'github', 'local'" in refused
    assert "Traceback" not in refused


# -- asking ---


def test_the_recipe_as_it_is_typed(notebook, model):
    """The lines of the recipe, the trap of the question mark included."""
    first = ask(notebook, FIRST)
    assert first.ok().shown == f"Answer 1 to: {FIRST}"
    assert first.outputs[0]["output_type"] == "display_data"
    second = notebook.run("%copilot What were we discussing?").ok()
    assert model.requests[-1].prompts == [FIRST, "What were we discussing?"]
    assert second.shown == "Answer 2 to: What were we discussing?"  # once: no value beside it


def test_an_answer_is_an_object_too(notebook, model):
    model.will('Here:\n```json\n{"a": 1}\n```')
    shown = notebook.run("x = %copilot What's this?").ok().shown
    assert shown.startswith("Here:")
    assert last_prompt(model) == "What's this?"
    values = notebook.run("(x.text[:5], x.json(), x.code, x.turn, x.prompt)").ok().shown
    assert values == "('Here:', {'a': 1}, ['{\"a\": 1}'], 1, \"What's this?\")"
    notebook.run("d = {}\nd['k'] = %copilot And in a dictionary?").ok()
    assert last_prompt(model) == "And in a dictionary?"
    assert notebook.run("d['k'].turn").ok().shown == "2"
    notebook.run("%%copilot --into kept\nKeep this").ok()
    assert notebook.run("kept.text").ok().shown == "'Answer 3 to: Keep this'"


@pytest.mark.parametrize("name", ["1x", "a.b", "class", "''"])
def test_into_takes_a_variable(notebook, model, name):
    assert name.strip("'") in two_lines(
        notebook.run(f"%%copilot --into {name}\nhm"), "BadInputError"
    )
    assert model.requests == []


@pytest.mark.parametrize(
    "flag", ["--model scripted-2", "--model=scripted-2", "--model 'scripted-2'"]
)
def test_a_model_for_one_turn_only(notebook, model, flag):
    ask(notebook, "Before").ok()
    answered = notebook.run(f"%%copilot {flag}\nWith another").ok()
    assert model.requests[-1].body["model"] == "scripted-2"
    assert binding(answered)["model"] == "scripted-2"
    ask(notebook, "After").ok()
    assert [r.body["model"] for r in model.requests] == ["scripted", "scripted-2", "scripted"]


def test_a_timeout_withdraws_the_turn(notebook, model, shared_desk):
    model.will(Reply("word " * 200, chunk=5, pause=0.05))
    late = notebook.run("%%copilot --timeout 0.3\nToo slow")
    said = two_lines(late, "TurnStalledError")
    assert "0.3 s" in said
    assert "--timeout" in said
    assert late.elapsed < 1
    assert late.shown.endswith("(failed; not kept in the session)")
    asked = ask(notebook, "And now?")
    assert model.requests[-1].prompts == ["And now?"]
    assert shared_desk.prompts(session_of(asked)) == ["And now?"]


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_is_a_length_of_time(notebook, model, value):
    said = two_lines(notebook.run(f"%%copilot --timeout {value}\nhm"), "BadInputError")
    assert "--timeout" in said
    assert model.requests == []


def test_inside_other_magics(notebook, model):
    timed = notebook.run("%%time\n%%copilot\nIs this timed?").ok()
    assert timed.shown == "Answer 1 to: Is this timed?"
    assert "Wall time" in timed.stdout
    assert "Answer 2 to: And this" in notebook.run("%time %copilot And this").ok().shown
    captured = notebook.run("%%capture out\n%%copilot\nNobody sees this").ok()
    assert captured.outputs == []
    seen = notebook.run("out.outputs[-1].data['text/plain']").ok()
    assert seen.shown == "'Answer 3 to: Nobody sees this'"


@pytest.mark.campaign
def test_where_nobody_awaits(notebook, model):
    """A cell that runs another, and a shell that is told to await nothing."""
    inner = notebook.run("done = get_ipython().run_cell('%copilot In a cell?').success").ok()
    assert inner.shown == "Answer 1 to: In a cell?"
    assert notebook.run("done").ok().shown == "True"
    notebook.run("%autoawait off").ok()
    try:
        assert ask(notebook, "Without await?").ok().shown == "Answer 2 to: Without await?"
        line = notebook.run("x = %copilot In a line?\nprint(x.text)").ok()
        assert line.stdout == "Answer 3 to: In a line?\n"
    finally:
        notebook.run("%autoawait asyncio").ok()


def test_inside_functions_loops_and_conditions(notebook, model):
    function = notebook.run(
        "def f(n):\n    answer = %copilot Inside a function?\n    return answer.turn + n\n"
        "print(f(10))"
    ).ok()
    assert function.stdout.split() == ["11"]
    notebook.run("for word in ['a', 'b']:\n    %copilot Once more with the same words?").ok()
    assert [r.prompts[-1] for r in model.requests][1:] == ["Once more with the same words?"] * 2
    notebook.run("if model_is_missing if False else True:\n    %copilot In a condition?").ok()
    assert last_prompt(model) == "In a condition?"
    # Text that only looks like it is text.
    count = len(model.requests)
    text = notebook.run("s = '''\n%copilot not asked?\n'''\nprint(s)").ok()
    assert text.stdout.strip() == "%copilot not asked?"
    assert len(model.requests) == count


PROMPTS = {
    "json": '{"a": [1, {"b": "${x}"}], "c": "{nobody}"} {} {0} {{nobody}} $HOME',
    "code": "def f(x):\n    return {x!r: f'{x}' for x in x}\n\n# %time ?\n!ls",
    "magics in it": "%%time\n%copilot_delete everything --yes\n?",
    "quotes": "it's \"quoted\" '''thrice''' \\n and \\",
    "flags in it": "Explain --model and --yes",
    "unicode": "Zoë said: 你好 👩‍💻 \u2066right\u2069",
    "line separators": "one\u2028two\u2029three\x0bfour\x85five",
    "windows": "one\r\ntwo\r\n\r\nthree",
    "indented": "    four spaces\n  two",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_a_prompt_arrives_as_written(notebook, model, prompt, shared_desk):
    session = session_of(ask(notebook, prompt))
    assert last_prompt(model).splitlines() == prompt.lstrip().splitlines()
    assert shared_desk.prompts(session) == [prompt]


@pytest.mark.parametrize(
    "prompt",
    ['JSON {"a": {"b": "$x"}} {unknown}', 'it\'s "quoted"', "ends with \\", "a; b", "# no comment"],
)
def test_a_prompt_in_one_line_arrives_as_written(notebook, model, prompt):
    notebook.run(f"%copilot {prompt}").ok()
    assert last_prompt(model) == prompt


def test_a_prompt_of_a_megabyte(notebook, model):
    prompt = "A long prompt. " * 70_000
    ask(notebook, prompt).ok()
    assert any(r.prompts[-1] == prompt.strip() for r in model.requests)


def test_blank_lines_around_the_prompt_do_not_count(notebook, model):
    for source in (
        "\n\n%%copilot\nThe prompt",
        "%%copilot\n\n\nThe prompt\n\n",
        "%%copilot \nThe prompt",
    ):
        model.forget()
        notebook.run(source).ok()
        assert last_prompt(model) == "The prompt"


MISTYPED = {
    "%%copilot --mdel gpt\nhm": ["--mdel", "--model"],
    "%copilot --nonsense hm": ["--nonsense", "--timeout"],
    "%copilot --help": ["%copilot?"],
    "%%copilot --model\nhm": ["--model NAME"],
    "%%copilot": ["prompt is empty"],
    "%%copilot\n  \n\t\n": ["prompt is empty"],
    "%copilot": ["prompt is empty"],
    "x = %copilot": ["prompt is empty"],
    "%copilot --model scripted": ["prompt is empty"],
    "%%copilot What is this?\n": ["only flags"],
    "# a comment\n%%copilot\nhm": ["first line"],
    "import os\n%%copilot\nhm": ["first line"],
    "%copilot_resume no-such-id": ["no-such-id", "--create"],
    "%copilot_resume fresh id": ["one session id"],
    "%copilot_resume a.b": ["a.b", "letters, digits"],
    "%copilot_resume ../../etc": ["letters, digits"],
    "%copilot_resume --fork --share x": ["--fork and --share"],
    "%copilot_resume --creat x": ["--create"],
    "%copilot_new Zoë": ["letters, digits"],
    "%copilot_new a b": ["one session id"],
    "%copilot_new ''": ["empty"],
    f"%copilot_new {'x' * 251}": ["251"],
    "%copilot_sessions --everything": ["--all"],
    "%copilot_history no-such-id": ["no-such-id"],
    "%copilot_history --last none": ["--last"],
    "%copilot_history --last 0": ["--last"],
    "%copilot_history --export": ["FILE.md"],
    "%copilot_history --export talk.docx": [".md", ".jsonl"],
    "%copilot_history --export talk": [".md", ".jsonl"],
    "%copilot_history --export /no/such/folder/talk.md": ["/no/such/folder", "No such file"],
    "%copilot_delete": ["No session is named"],
    "%copilot_delete no-such-id --yes": ["no-such-id"],
    "%copilot_delete --force x": ["--force", "--yes"],
    "%copilot_cleanup": ["--older-than 30d"],
    "%copilot_cleanup --older-than": ["30d"],
    "%copilot_cleanup --older-than yesterday": ["yesterday", "30d"],
    "%copilot_cleanup --older-than -3d": ["-3d"],
    "%copilot_cleanup --older-than 99999999999d": ["99999999999d"],
    "%copilot_undo all": ["all"],
    "%copilot_release it": ["it"],
    "%copilot_models gpt": ["gpt"],
    "%copilot_status --verbose": ["--verbose"],
    "%copilot_doctor --repair": ["--repair", "--fix"],
    "%copilot_login my-token": ["takes no words"],
    "%copilot_logout me": ["me"],
}


@pytest.mark.parametrize("source", MISTYPED)
def test_what_is_mistyped_is_an_error_of_two_lines(notebook, model, source):
    said = two_lines(notebook.run(source), None)
    for part in MISTYPED[source]:
        assert part in said
    assert model.requests == []


def test_full_tracebacks_show_more_when_asked_for(notebook):
    notebook.run("%config Copilot.full_tracebacks = True").ok()
    shown = notebook.run("%copilot_resume no-such-id").failed("SessionNotFoundError").traceback
    assert "Traceback (most recent call last)" in shown
    assert "magics.py" in shown
    assert "There is no session named no-such-id." in shown.splitlines()[-2]
    notebook.run("%config Copilot.full_tracebacks = False").ok()
    two_lines(notebook.run("%copilot_resume no-such-id"), "SessionNotFoundError")


def test_an_error_of_the_provider_is_two_lines_and_leaves_no_trace(notebook, model, shared_desk):
    model.will(Reply(status=400))
    failed = ask(notebook, "Refused")
    said = two_lines(failed, "ProviderError")
    assert "400" in said
    ask(notebook, "And now?").ok()
    assert model.requests[-1].prompts == ["And now?"]


# -- rewriting a line ---

AROUND = """# %copilot_new commented-out
import os  # a comment

    # odd indentation
%copilot_new {id}
text = '''
%copilot_new in-a-string
'''
%time pass
value = %copilot What were we discussing?
"""


def test_only_its_own_line_is_rewritten(notebook):
    name = f"around-{next(UNIQUE)}"
    result = notebook.run(AROUND.format(id=name)).ok()
    assert result.cell.source == AROUND.format(id=name).replace(
        f"%copilot_new {name}", f"%copilot_resume {name}"
    )


@pytest.mark.campaign
def test_each_line_that_binds_is_rewritten_itself(notebook):
    name = f"each-{next(UNIQUE)}"
    cell = notebook.run(f"if True:\n    %copilot_new {name}  # begin\n%copilot_fork {name}-b").ok()
    told = f"if True:\n    %copilot_resume {name}  # begin\n%copilot_resume {name}-b"
    assert cell.cell.source == told
    assert notebook.run_cell(cell.cell).ok().cell.source == told


def test_an_id_that_this_notebook_made_is_resumed_and_another_refused(notebook, shared_desk):
    name = f"mine-{next(UNIQUE)}"
    for _ in range(2):
        notebook.run(f"%copilot_new {name}").ok()
    assert shared_desk.store.ids().count(name) == 1
    unnamed = notebook.run("%copilot_new").ok()
    made = binding(unnamed)["session"]
    assert re.fullmatch(r"[a-z0-9-]*analysis-[0-9a-f]{4}", made)
    assert unnamed.cell.source == f"%copilot_resume {made}"

    shared_desk.store.fork(name, f"{name}-other")  # somebody else's: it carries no binding
    said = two_lines(notebook.run(f"%copilot_new {name}-other"), "SessionExistsError")
    assert f"%copilot_resume {name}-other" in said


# -- choosing from the list ---


@pytest.mark.campaign
def test_choosing_by_number_or_id(notebook, shared_desk):
    one, other = (f"choice-{next(UNIQUE)}" for _ in range(2))
    for name in (one, other):
        notebook.run(f"%copilot_new {name}").ok()
        ask(notebook, f"Begin {name}").ok()
    for answer, chosen in (("1", other), (" 2 ", one), (one, one)):
        notebook.answers.append(answer)
        listed = notebook.run("a = 1\n%copilot_resume\nb = 2")
        assert binding(listed.ok())["session"] == chosen, answer
        assert listed.cell.source == f"a = 1\n%copilot_resume {chosen}\nb = 2"
        rows = listed.shown.splitlines()
        first = next(row.split() for row in rows if row.split()[:1] == ["1"])
        assert first[1] == other or answer != "1"
        assert f"Begin {one}" in listed.shown
        ask(notebook, f"Asked after {answer!r}").ok()
        shared_desk.store.journal_path(other).touch()


@pytest.mark.parametrize(
    ("answer", "said"),
    [("", "No session was chosen"), ("0", "no 0"), ("9999", "no 9999"), ("-1", "'-1'"),
     ("no-such-id", "no-such-id"), ("a b", "'a b'")],
)  # fmt: skip
def test_choosing_badly_changes_nothing(notebook, answer, said):
    before = notebook.run("%copilot_status").ok().shown.splitlines()[2]
    notebook.answers.append(answer)
    result = notebook.run("%copilot_resume")
    assert said in two_lines(result, None)
    assert result.cell.source == "%copilot_resume"
    assert notebook.run("%copilot_status").ok().shown.splitlines()[2] == before


def test_nobody_to_choose_names_the_sessions(notebook, lonely, shared_desk):
    said = two_lines(lonely.run("%copilot_resume"), "BadInputError")
    assert shared_desk.store.ids()[0] in said
    assert "%copilot_resume ID" in said


# -- listing, history ---


def test_sessions_are_listed_here_first(notebook, shared_desk):
    name = f"listed-{next(UNIQUE)}"
    notebook.run(f"%copilot_new {name}").ok()
    ask(notebook, "Count me").ok()
    shown = notebook.run(f"%copilot_sessions {name}").ok().shown
    assert shown.splitlines()[0] == "1 session"
    row = next(line for line in shown.splitlines() if name in line)
    assert row.startswith("this notebook")
    assert "Analysis.ipynb" in row
    assert "pid" not in row  # in use by this kernel is not in use
    assert "'zz-nothing'" in notebook.run("%copilot_sessions zz-nothing").ok().shown
    for _ in range(22 - len(shared_desk.store.ids())):
        shared_desk.store.fork(name, f"listed-{next(UNIQUE)}-more")
    assert "more with --all" in notebook.run("%copilot_sessions").ok().shown
    everything = notebook.run("%copilot_sessions --all").ok()
    assert all(session in everything.shown for session in shared_desk.store.ids())
    assert "<table" in everything.html


def test_history_shows_and_exports(notebook, shared_desk):
    session = session_of(ask(notebook, FIRST))
    ask(notebook, "Second\nin two lines").ok()
    ask(notebook, "Third ✓").ok()
    shown = notebook.run("%copilot_history").ok().shown
    assert [shown.index(p) for p in (FIRST, "Second", "Third")] == sorted(
        shown.index(p) for p in (FIRST, "Second", "Third")
    )
    last = notebook.run(f"%copilot_history {session} --last 2").ok().shown
    assert FIRST not in last
    assert "Second" in last
    assert "Third" in last
    assert FIRST in notebook.run("%copilot_history --last 99").ok().shown

    said = notebook.run("%copilot_history --export 'a talk.md'").ok().shown
    assert "3 turns" in said
    text = (shared_desk.folder / "a talk.md").read_text(encoding="utf-8")
    assert "Second\nin two lines" in text
    assert "Answer 3 to: Third ✓" in text
    again = two_lines(
        notebook.run("%copilot_history --export 'a talk.md' --last 1"), "BadInputError"
    )
    assert "exists already" in again
    assert (shared_desk.folder / "a talk.md").read_text(encoding="utf-8") == text
    notebook.run("%copilot_history --export talk.jsonl --last 2").ok()
    lines = (shared_desk.folder / "talk.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert all({"type", "data", "id", "timestamp"} <= set(event) for event in events)
    said = [e["data"]["content"] for e in events if e["type"] == "user.message"]
    assert said == ["Second\nin two lines", "Third ✓"]
    notebook.run("%copilot_history --export all.jsonl").ok()
    first = (shared_desk.folder / "all.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(first)["type"] == "session.start"


def test_history_needs_no_runtime(shared_desk, notebook):
    session = session_of(ask(notebook, FIRST))
    reader = shared_desk.headless()
    assert FIRST in reader.run(f"%copilot_history {session}").ok().shown
    assert FIRST in reader.run(f"%copilot_resume {session}\n%copilot_history").ok().shown
    reader.run("%copilot_sessions").ok()
    reader.run("%copilot_status").ok()
    with pytest.raises(ValueError, match="not enough"):
        runtime_of(reader)
    assert reader.run("import sys; 'copilot' in sys.modules").ok().shown == "False"
    reader.shutdown()


def test_a_file_that_cannot_be_written_is_named(notebook, shared_desk):
    ask(notebook, FIRST).ok()
    (shared_desk.folder / "folder.md").mkdir(exist_ok=True)
    said = two_lines(notebook.run("%copilot_history --export folder.md"), "BadInputError")
    assert "folder.md" in said
    assert "directory" in said


# -- deleting ---


def test_stopped_at_the_question_for_a_token(notebook):
    result = notebook.start("%copilot_login --token")
    assert notebook.wait_for_prompt().password
    notebook.interrupt()
    notebook.finish(result, 10)
    assert two_lines(result, "TurnInterrupted") == "Interrupted; nothing was done."
    notebook.run("1").ok()


def test_delete_asks_first(notebook, shared_desk, lonely):
    one, other = (f"delete-{next(UNIQUE)}" for _ in range(2))
    for name in (one, other):
        notebook.run(f"%copilot_new {name}").ok()
    for answer in ("", "n", "no", "yep"):
        notebook.answers.append(answer)
        kept = notebook.run(f"%copilot_delete {one}").ok()
        assert kept.shown == "Nothing was deleted."
        assert one in kept.prompts[0].text
    assert "--yes" in two_lines(lonely.run(f"%copilot_delete {one}"), "BadInputError")
    two_lines(notebook.run(f"%copilot_delete {one} no-such-id --yes"), "SessionNotFoundError")
    assert {one, other} <= set(shared_desk.store.ids())  # all or none

    notebook.answers.append("y")
    assert one in notebook.run(f"%copilot_delete {one}").ok().shown
    notebook.run(f"%copilot_delete {other} --yes").ok()
    assert not {one, other} & set(shared_desk.store.ids())
    assert not shared_desk.store.folder(one).exists()
    said = two_lines(notebook.run(f"%copilot_resume {one}"), "SessionNotFoundError")
    assert "was deleted on" in said


def test_what_was_deleted_headless_is_deleted(notebook, lonely, shared_desk):
    session = session_of(ask(notebook, FIRST))
    said = two_lines(lonely.run(f"%copilot_delete {session} --yes"), "SessionInUseError")
    assert "Analysis.ipynb" in said or "pid" in said
    assert session in shared_desk.store.ids()
    notebook.run("%copilot_release").ok()
    lonely.run(f"%copilot_delete {session} --yes").ok()
    assert session not in shared_desk.store.ids()


# -- cleaning up ---


@pytest.fixture
def dusty(notebook, shared_desk):
    """Sessions of every kind, all unused for 60 days: {what: id}."""
    store = shared_desk.store
    number = next(UNIQUE)
    live = session_of(ask(notebook, "In use"))
    made = {}
    for what in ("forgotten", "orphaned", "bound", "terminal"):
        made[what] = f"dusty-{number}-{what}"
        metadata = {
            "orphaned": {"copilot-jupyter.notebook.path": str(shared_desk.folder / "gone.ipynb")},
            "bound": {"copilot-jupyter.notebook.path": str(notebook.path)},
        }
        store.fork(live, made[what], metadata=metadata.get(what))
    workspace = store.folder(made["terminal"]) / "workspace.yaml"
    workspace.write_text(
        re.sub(r"^client_name:.*$", "client_name: cli", workspace.read_text(), flags=re.M)
    )
    made["in use"] = live
    for session in made.values():
        past = time.time() - 60 * 86400
        os.utime(store.journal_path(session), (past, past))
    yield made
    notebook.run("%copilot_release").ok()
    for session in made.values():
        shutil.rmtree(store.folder(session), ignore_errors=True)


def test_cleanup_moves_what_nobody_needs_and_undo_brings_it_back(notebook, shared_desk, dusty):
    def left():
        return {what for what, session in dusty.items() if session in shared_desk.store.ids()}

    everything = set(dusty)
    dry = notebook.run("%copilot_cleanup --older-than 30d --dry-run").ok()
    assert dusty["forgotten"] in dry.shown
    assert dusty["orphaned"] in dry.shown
    assert not any(dusty[what] in dry.shown for what in ("bound", "terminal", "in use"))
    assert left() == everything

    notebook.answers.append("n")
    assert (
        notebook.run("%copilot_cleanup --older-than 30d").ok().shown.endswith("Nothing was moved.")
    )
    assert left() == everything

    notebook.answers.append("y")
    moved = notebook.run("%copilot_cleanup --older-than 30d").ok()
    assert "%copilot_undo" in moved.shown
    assert left() == everything - {"forgotten", "orphaned"}
    back = notebook.run("%copilot_undo").ok().shown
    assert dusty["forgotten"] in back
    assert left() == everything
    assert shared_desk.prompts(dusty["forgotten"]) == ["In use"]

    notebook.run("%copilot_cleanup --older-than 30d --bound --yes").ok()
    assert left() == {"terminal", "in use"}
    notebook.run("%copilot_undo").ok()
    assert left() == everything
    assert notebook.run("%copilot_undo").ok().shown == "There is nothing to undo."


def test_cleanup_leaves_what_is_younger_and_the_conversation_of_this_kernel(
    notebook, shared_desk, dusty
):
    kept = notebook.run("%copilot_cleanup --older-than 90d --yes").ok()
    assert kept.shown == "There is nothing to clean up."
    notebook.run("%copilot_release").ok()  # not held now, and still this notebook's
    past = time.time() - 60 * 86400
    os.utime(shared_desk.store.journal_path(dusty["in use"]), (past, past))
    notebook.run("%copilot_cleanup --older-than 30d --bound --yes").ok()
    assert dusty["in use"] in shared_desk.store.ids()
    notebook.run("%copilot_undo").ok()


def test_cleanup_headless_needs_a_yes(lonely, dusty, shared_desk):
    said = two_lines(lonely.run("%copilot_cleanup --older-than 30d"), "BadInputError")
    assert "--yes" in said
    assert dusty["forgotten"] in shared_desk.store.ids()


# -- letting go, status, models, doctor ---


def test_release_names_the_terminal_command_and_lets_go(notebook, shared_desk):
    session = session_of(ask(notebook, FIRST))
    held = notebook.run("%copilot_status").ok().shown
    assert "held by this kernel" in held
    command = f"copilot --resume {session}"
    assert command in held
    assert shared_desk.store.holders(session)
    said = notebook.run("%copilot_release").ok().shown
    assert f"COPILOT_HOME={shared_desk.home} {command}" in said
    assert shared_desk.store.holders(session) == []
    assert not (shared_desk.store.ours / "locks" / f"{session}.json").exists()
    assert "not held" in notebook.run("%copilot_status").ok().shown
    notebook.run("%copilot_release").ok()  # letting go twice is fine
    assert session_of(ask(notebook, "And on")) == session


def test_status_and_models_name_provider_and_runtime(notebook, model, shared_desk):
    ask(notebook, FIRST).ok()
    shown = notebook.run("%copilot_status").ok().shown
    for part in (str(notebook.path), model.base_url, "scripted", str(shared_desk.home)):
        assert part in shown
    assert f"pid {runtime_of(notebook).pid}" in shown
    models = notebook.run("%copilot_models").ok().shown
    assert "→  scripted" in models
    assert "scripted-2" in models


def test_doctor_finds_a_damaged_transcript_and_repairs_it(notebook, model, shared_desk):
    session = session_of(ask(notebook, FIRST))
    ask(notebook, "Second").ok()
    notebook.run("%copilot_release").ok()
    assert "All is well." in notebook.run("%copilot_doctor").ok().shown
    journal = shared_desk.store.journal_path(session)
    whole = journal.read_bytes()
    _, _, rest = whole.partition(b"\n")
    journal.write_bytes(b'{"type": "session.sta\n' + rest)  # its first line is torn
    found = notebook.run("%copilot_doctor").ok().shown
    assert "1 of" in found
    assert "%copilot_doctor --fix" in found
    fixed = notebook.run("%copilot_doctor --fix").ok().shown
    assert "repaired" in fixed
    assert any(journal.parent.glob("events.jsonl.set-aside-*"))  # the damaged file is kept
    assert "All is well." in notebook.run(f"%copilot_doctor {session}").ok().shown
    assert session_of(ask(notebook, "Third")) == session
    assert model.requests[-1].prompts == [FIRST, "Second", "Third"]
    assert "no-such-id" in notebook.run("%copilot_doctor no-such-id").ok().shown


# -- headless ---


def test_headless_one_final_display_a_cell(lonely, model):
    model.forget()
    bound = lonely.run(f"%copilot_resume headless-{next(UNIQUE)} --create").ok()
    assert (len(bound.displays), bound.payloads) == (1, [])
    model.will(Reply("slowly and in many pieces " * 20, chunk=10, pause=0.02))
    for source in ("%%copilot\nIn a cell", "%copilot In a line?", "%%time\n%%copilot\nNested"):
        asked = lonely.run(source).ok()
        shown = [kind for kind in asked.messages if "display" in kind]
        assert shown == ["display_data"]
        assert asked.payloads == []
        assert asked.prompts == []
    model.will(Reply("cut off " * 20, chunk=8, pause=0.02, cut_after=5), *[Reply(status=400)] * 6)
    failed = lonely.run("%%copilot\nFails", timeout=30)
    assert failed.status == "error"
    assert "update_display_data" not in failed.messages
    rewritten = lonely.run(f"%copilot_new headless-{next(UNIQUE)}").ok()
    assert [kind for kind in rewritten.messages if "display" in kind] == ["display_data"]
