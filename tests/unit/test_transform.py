"""What a typed cell becomes, by IPython's own transformer with ours in it.

Prompts are prose: apostrophes, brackets, backslashes and question marks are no Python.
Python 3.12 changed how its tokenizer takes them; these pass on 3.11, 3.12 and 3.13.
"""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from copilot_jupyter.notebook import transform
from copilot_jupyter.notebook.transform import AskLine, to_await

if TYPE_CHECKING:
    from collections.abc import Callable

MAGICS = "get_ipython().magics_manager.registry['CopilotMagics']"


@pytest.fixture(scope="module")
def manager() -> TransformerManager:
    made = TransformerManager()
    made.token_transformers.append(AskLine)
    return made


@pytest.fixture
def typed(manager):
    return manager.transform_cell


def awaited(code: str) -> str:
    return "".join(transform.awaited(code.splitlines(keepends=True)))


def line_call(prompt: str, magic: str = "copilot") -> str:
    return f"get_ipython().run_line_magic({magic!r}, {prompt!r})"


def statement(prompt: str) -> str:
    return f"{line_call(prompt)} and None\n"


def awaited_line(prompt: str) -> str:
    return f"(await {MAGICS}.awaited_line({prompt!r}))"


# -- one line ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["Why?", "Is 'it' 100 % sure??", "%time?"])
def test_a_question_in_another_magic_is_a_question(typed, prompt):
    line = f"%copilot {prompt}"
    assert typed(f"%time {line}\n") == f"get_ipython().run_line_magic('time', {line!r})\n"
    assert typed(f"x = %timeit -n1 {line}") == (
        f"x = get_ipython().run_line_magic('timeit', {'-n1 ' + line!r})\n"
    )


def test_help_about_another_magic_stays_help(typed):
    assert "pinfo" in typed("%time?")
    assert "pinfo" in typed("%copilot?")


PROMPTS = [
    "What were we discussing?",
    "Let's discuss TypeScript generics",
    "what's up?",
    "it's 'a",
    "'quoted'",
    '"half quoted',
    '""" three',
    "''' three and \" one",
    "unbalanced (bracket",
    "unbalanced [bracket?",
    "{ brace",
    "closing } only",
    "closing ) ] only?",
    "ends with a backslash \\",
    "a \\ in the middle?",
    "C:\\new\\table?",
    "# is no comment",
    "a # b?",
    "why $x and {y}?",
    "! and % and ?",
    "?foo",
    "is 0777 or 1__2 or 5x or 0x a number?",
    "f'{ f\"{' and fr'{'?",
    "日本語 naïve € ² ½ 🙂?",
    "a b\u00a0c\u2003d?",
    "lambda: await x := 1;",
    "ends in two??",
    "a; b?;",
    "--model x what?",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_prompt_of_one_line_reaches_the_magic_as_typed(typed, prompt):
    assert typed(f"%copilot {prompt}") == statement(prompt)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_answer_can_be_assigned(typed, prompt):
    assert typed(f"x = %copilot {prompt}") == f"x = {line_call(prompt)}\n"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_lines_around_it_stay_as_they_are(typed, prompt):
    cell = f"import os\n%copilot {prompt}\ny = '''it's\n%copilot not this?\n'''\n"
    expected = f"import os\n{statement(prompt)}y = '''it's\n%copilot not this?\n'''\n"
    assert typed(cell) == expected


@pytest.mark.parametrize("target", ["x", "_", "answer2"])
def test_spaces_around_the_equals_sign_do_not_matter(typed, target):
    assert typed(f"{target}=%copilot why?") == f"{target}={line_call('why?')}\n"


@pytest.mark.parametrize("target", ["x.y", "d['k']", "a, b", "x: str", "x[0]", "d[f(k=1)]"])
def test_whatever_can_be_assigned_to_can_take_the_answer(typed, target):
    """As IPython's own magics allow; else IPython's help would swallow the question."""
    assert typed(f"{target} = %copilot why?") == f"{target} = {line_call('why?')}\n"


@pytest.mark.parametrize(
    ("cell", "prompt"),
    [
        ("%copilot   spaces  inside   ", "spaces  inside"),
        ("%copilot\ttab?", "tab?"),
        ("%copilot", ""),
        ("    %copilot indented?", "indented?"),
        ("\n\n%copilot after blank lines?\n\n", "after blank lines?"),
    ],
)
def test_white_space_around_the_prompt_is_dropped(typed, cell, prompt):
    assert typed(cell).strip() == statement(prompt).strip()


def test_windows_line_ends_are_no_part_of_the_prompt(typed):
    assert typed("%copilot why?\r\ny = 1\r\n") == f"{statement('why?')}y = 1\r\n"


def test_several_questions_in_one_cell(typed):
    first, second, third = "it's (", "don't [?", "won't {?"
    cell = f"%copilot {first}\nx = %copilot {second}\nfor i in y:\n    %copilot {third}\n"
    assert typed(cell) == (
        f"{statement(first)}x = {line_call(second)}\nfor i in y:\n    {statement(third)}"
    )


def test_another_magic_of_ours_after_code(typed):
    assert typed("import os\n%copilot_resume my-id --create\nprint(1)\n") == (
        f"import os\n{line_call('my-id --create', 'copilot_resume')}\nprint(1)\n"
    )


def test_a_search_that_ends_in_a_question_mark_is_no_help(typed):
    assert typed("%copilot_sessions why?") == f"{line_call('why?', 'copilot_sessions')}\n"


_BREAKS = "\x00\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_PIECES = st.sampled_from(
    [*"'\"()[]{}\\#?!%$;:=,.`@ abf0x1_ ~^&*-+|<>/é日€", "'''", '"""', "f'", 'f"', "rb'", "0x", "#!"]
)
_LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters=_BREAKS)


@settings(max_examples=150)
@given(
    prompt=st.lists(st.one_of(_PIECES, _LETTERS), min_size=1, max_size=14).map("".join),
    before=st.sampled_from(["", "x = 1\n", "s = '''a\nb'''\n", "for i in y:\n    "]),
    after=st.sampled_from(["", "y = 1\n", "y = '''\n%copilot no\n'''\n"]),
)
def test_any_prose_reaches_the_magic_as_typed(manager, prompt, before, after):
    if prompt.strip() in ("", "?", "??"):
        return
    cell = f"{before}%copilot {prompt}\n{after}"
    assert manager.transform_cell(cell) == f"{before}{statement(prompt.strip())}{after}"


# -- what stays IPython's ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "asked", "name"),
    [
        ("%copilot?", "pinfo", "%copilot"),
        ("%copilot??", "pinfo2", "%copilot"),
        ("?%copilot", "pinfo", "%copilot"),
        ("??%copilot", "pinfo2", "%copilot"),
        ("%%copilot?", "pinfo", "%%copilot"),
        ("%copilot ?", "pinfo", "%copilot"),
        ("%copilot_sessions?", "pinfo", "%copilot_sessions"),
        ("%copilot_resume ?", "pinfo", "%copilot_resume"),
        ("x = 1\n%copilot?", "pinfo", "%copilot"),
    ],
)
def test_a_question_about_the_magic_is_help(typed, cell, asked, name):
    assert typed(cell).splitlines()[-1].removesuffix(" and None") == line_call(name, asked)


@pytest.mark.parametrize(
    "cell",
    [
        "s = '''\n%copilot why?\n'''\n",
        "def f():\n    '''doc\n    %copilot why?\n    '''\n",
        "s = f'''{x}\n%copilot {y}?\n'''\n",
        'print("%copilot why?")\n',
        "# %copilot why?\n",
        "x = 5 % copilot\n",
        "x = y %copilot\n",
    ],
)
def test_inside_strings_and_expressions_nothing_changes(typed, cell):
    assert typed(cell) == cell
    assert awaited(cell) == cell


def test_a_string_before_or_after_a_question_stays_whole(typed):
    cell = "s = '''\n%copilot no?\n'''\n%copilot it's yes?\nt = '''\n%copilot no?\n'''\n"
    assert typed(cell) == cell.replace("%copilot it's yes?\n", statement("it's yes?"))


@pytest.mark.parametrize(
    "cell",
    [
        "x?",
        "?x",
        "x.y??",
        "%time x?",
        "%timeit f()",
        "x = %pwd",
        "!ls",
        "files = !ls",
        "%%time\nx?\n",
        "%%bash\n%copilot why?\n",
        "%copilotx why?",
        "%copilots",
        "x = %copilotx why?",
        "d[\n    'k'\n] = %copilot why?",
        "1 + 1\n",
        "print('it is\n",
    ],
)
def test_other_magics_and_help_are_untouched(typed, cell):
    assert typed(cell) == TransformerManager().transform_cell(cell)


# -- cells ------------------------------------------------------------------------------------


def test_a_cell_magic_is_left_to_ipython(typed):
    cell = "%%copilot --model x\nwhat's\n  (this?\n"
    assert typed(cell) == (
        "get_ipython().run_cell_magic('copilot', '--model x', \"what's\\n  (this?\\n\")\n"
    )


def test_blank_lines_before_a_cell_magic_are_fine(typed):
    assert "run_cell_magic('copilot', '', 'hi\\n')" in typed("\n  \n%%copilot\nhi")


@pytest.mark.parametrize(
    "before", ["# a comment\n", "# it's (\n\n", "x = 1\n", "import os\n# why?\n", "%pwd\n"]
)
def test_what_stands_before_a_cell_magic_is_refused_and_nothing_runs(typed, before):
    cell = f"{before}%%copilot --model x\nwhat's (this?\nraise SystemExit\n"
    call = ast.parse(typed(cell))
    assert len(call.body) == 1
    assert typed(cell).startswith(f"{MAGICS}.refuse(")
    assert "has to be the first line" in typed(cell)


# -- awaited ----------------------------------------------------------------------------------


def test_a_line_is_awaited_and_the_statement_has_no_value(typed):
    assert awaited(typed("%copilot why?")) == f"{awaited_line('why?')} and None\n"


def test_an_assignment_is_awaited_and_keeps_its_value(typed):
    prompt = "it's why?"
    assert awaited(typed(f"x = %copilot {prompt}")) == f"x = {awaited_line(prompt)}\n"


def test_a_cell_is_awaited(typed):
    code = awaited(typed("%%copilot --model x\nwhat's (this?\nget_ipython()"))
    assert code == (
        f"(await {MAGICS}.awaited_cell('--model x', \"what's (this?\\nget_ipython()\\n\"))\n"
    )


def test_a_prompt_about_our_own_call_is_not_touched(typed):
    prompt = "what does get_ipython().run_line_magic('copilot', 'x') do?"
    assert awaited(typed(f"%copilot {prompt}")) == f"{awaited_line(prompt)} and None\n"


@pytest.mark.parametrize(
    "head", ["for i in range(3):", "while x:", "if x:", "with a:", "try:", "async def f():"]
)
def test_in_a_block_it_is_awaited(typed, head):
    tail = "finally:\n    pass\n" if head == "try:" else ""
    code = awaited(typed(f"{head}\n    x = %copilot why?\n{tail}"))
    assert code == f"{head}\n    x = {awaited_line('why?')}\n{tail}"


@pytest.mark.parametrize("head", ["def f():", "class A:", "@g\ndef f():"])
def test_where_python_may_not_await_it_stays_synchronous(typed, head):
    code = typed(f"{head}\n    x = %copilot why?\n")
    assert line_call("why?") in code
    assert awaited(code) == code


def test_a_function_does_not_keep_the_rest_of_its_cell_from_being_awaited(typed):
    code = awaited(typed("def f():\n    %copilot a\n%copilot why?\n"))
    assert code.endswith(f"    {statement('a')}{awaited_line('why?')} and None\n")


@pytest.mark.parametrize(
    "cell",
    [
        "get_ipython().run_line_magic('copilot', p).text\n",
        "print(get_ipython().run_line_magic('copilot', p).text)\n",
        "f(get_ipython().run_line_magic('copilot', 'x'), 2)\n",
        "s = '''\nget_ipython().run_line_magic('copilot', 'x')\n'''\n",
        "%time get_ipython().run_line_magic('copilot', 'x')",
        "x = get_ipython().run_line_magic('copilot', 'é') if get_ipython().run_line_magic("
        "'copilot', 'b') else {1: get_ipython().run_line_magic('copilot', 'c'), 2: 3}\n",
        "y = f\"{get_ipython().run_line_magic('copilot', 'x')}\"\n",
        "z = lambda: get_ipython().run_line_magic('copilot', 'x')\n",
        "z = (get_ipython().run_line_magic('copilot', p) for p in ps)\n",
    ],
)
def test_code_that_only_looks_like_ours_keeps_its_meaning(typed, cell):
    """Calls written by hand, as nbconvert writes them, and texts that quote one."""
    code = typed(cell)
    compile(awaited(code), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert meaning(awaited(code)) == meaning(code)


@pytest.mark.filterwarnings("ignore:.make_tokens_by_line. received")  # IPython's own confusion
@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "é日🙂"])
def test_a_character_that_only_str_takes_for_a_line_end_moves_nothing(typed, odd):
    """Python counts lines by newlines alone; `str.splitlines` knows more of them."""
    before = f"s = '''a{odd}b'''\n"
    assert awaited(typed(f"{before}x = %copilot why?\n")) == f"{before}x = {awaited_line('why?')}\n"


def meaning(code: str) -> str:
    """Return code with every awaited call of ours turned back into the plain one."""
    tree = ast.parse(code)

    class Back(ast.NodeTransformer):
        def visit_Await(self, node: ast.Await) -> ast.AST:
            call = node.value
            assert isinstance(call, ast.Call), "something else than the call is awaited"
            kind = call.func.attr.removeprefix("awaited_")
            plain = ast.parse(f"get_ipython().run_{kind}_magic('copilot')", mode="eval").body
            plain.args += call.args
            return plain

    return ast.dump(Back().visit(tree))


def test_only_what_the_kernel_was_sent_is_awaited():
    """Not the body of ``%%time``, nor what a cell hands to ``run_cell``: nobody awaits that."""

    def transform_cell() -> list[str]:
        return to_await([statement("why?")])

    def run_cell() -> list[str]:
        return transform_cell()

    def do_execute(does: Callable[[], list[str]] | None = None) -> list[str]:
        return does() if does is not None else transform_cell()

    assert "".join(do_execute()) == f"{awaited_line('why?')} and None\n"
    assert run_cell() == do_execute(run_cell) == [statement("why?")]


@pytest.mark.parametrize("cell", ["x = 1\n", "%pwd\n", "%copilot_resume x\n", "print('copilot'\n"])
def test_other_cells_are_not_awaited(typed, cell):
    code = typed(cell)
    assert awaited(code) == code


# -- in a shell -------------------------------------------------------------------------------


def bare_shell(**more):
    return SimpleNamespace(
        input_transformer_manager=TransformerManager(), input_transformers_post=[], **more
    )


def test_only_a_kernel_awaits():
    terminal, kernel = bare_shell(), bare_shell(kernel=object())
    transform.install(terminal)
    transform.install(kernel)
    assert terminal.input_transformers_post == []
    assert kernel.input_transformers_post == [to_await]


def test_installing_twice_is_installing_once():
    shell = bare_shell(kernel=object())
    transform.install(shell)
    transform.install(shell)
    assert shell.input_transformer_manager.token_transformers.count(AskLine) == 1
    assert shell.input_transformers_post == [to_await]


def test_uninstalling_takes_both_out_and_may_be_repeated():
    shell = bare_shell(kernel=object())
    transform.install(shell)
    transform.uninstall(shell)
    transform.uninstall(shell)
    assert AskLine not in shell.input_transformer_manager.token_transformers
    assert shell.input_transformers_post == []
