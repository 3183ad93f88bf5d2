"""Whatever is typed or named: ids name one folder and one lock each, keys one question each."""

from __future__ import annotations

import getpass
import re
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_jupyter.conversation.lock import lock_file
from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.stored.question import Question
from copilot_jupyter.errors import BadInputError
from copilot_jupyter.settings import Copilot
from copilot_jupyter.state.ids import LONGEST_ID, check_id
from copilot_jupyter.state.store import Store

HOME = Path("/home/ada/.copilot")
PLAIN = string.ascii_letters + string.digits + "_-"
IDS = st.builds(
    "".join,
    st.tuples(st.sampled_from(PLAIN.replace("-", "")), st.text(PLAIN, max_size=LONGEST_ID - 1)),
)


@given(st.text(max_size=300) | st.text(PLAIN + "./\\ \n\0é", max_size=300) | IDS)
def test_any_text_is_an_id_or_is_refused_in_two_sentences(text):
    fits = 1 <= len(text) <= LONGEST_ID and set(text) <= set(PLAIN) and text[0] != "-"
    if fits:
        assert check_id(text) == text
        return
    with pytest.raises(BadInputError) as refused:
        check_id(text)
    assert refused.value.what.endswith(".")
    assert len(refused.value.what) < 400
    assert refused.value.do.startswith("Use letters")


@given(IDS)
def test_an_id_stays_in_its_folder_and_its_lock_has_a_name_that_fits(name):
    store = Store(HOME)
    assert store.folder(name).parent == HOME / "session-state"
    lock = lock_file(store.ours, name)
    assert lock.parent == store.ours / "locks"
    assert len(f"{lock.name}.mutex") <= 255


@given(IDS, IDS)
def test_two_ids_share_no_lock(one, other):
    assert (lock_file(HOME, one) == lock_file(HOME, other)) is (one == other)


@given(st.text(PLAIN, min_size=200, max_size=LONGEST_ID - 1), st.characters(codec="ascii"))
def test_two_long_ids_share_no_lock(start, last):
    assert lock_file(HOME, start) != lock_file(HOME, start + last)


@settings(deadline=None)  # it looks at the disk
@given(user=st.text(), stem=st.text() | st.none())
def test_any_name_of_a_user_and_a_notebook_makes_an_id(tmp_path_factory, user, stem):
    sessions = Sessions(Copilot(), Store(tmp_path_factory.getbasetemp() / "no-state"))
    real = getpass.getuser
    getpass.getuser = lambda: user  # the fixture would last for all examples
    try:
        # A stem as pathlib gives it: a name may hold anything but a slash.
        path = None if stem is None else Path("n" + stem.replace("/", "")).with_suffix(".ipynb")
    except ValueError:
        path = Path("n.ipynb")
    try:
        made = sessions.new_id(path)
    finally:
        getpass.getuser = real
        sessions.close()
    assert check_id(made) == made
    assert re.search(r"-[0-9a-f]{4}\Z", made)


#: Few of each, so that two questions are often the same.
PAIRS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "model"]), st.sampled_from(["", "a", "1"])),
    max_size=2,
    unique_by=lambda pair: pair[0],
).map(tuple)
QUESTIONS = st.builds(
    Question,
    st.sampled_from(["", "a", "b", " a\r\n", "a\n", '["a"]']),
    sent=st.sampled_from(["", "a", "else"]),
    flags=PAIRS,
    values=PAIRS,
)


@given(QUESTIONS, QUESTIONS)
def test_two_questions_share_a_key_exactly_where_their_answers_depend_on_the_same(one, other):
    def parts(question):
        return question.prompt.strip(), sorted(question.flags), sorted(question.values)

    assert (one.key == other.key) is (parts(one) == parts(other))


@given(st.text(max_size=20), st.sampled_from(["gpt", "", "1"]), PAIRS)
def test_a_model_that_the_cell_names_is_a_flag_of_it(prompt, model, values):
    named = Question(prompt, model=model, values=values)
    flagged = Question(prompt, flags=(("model", model),) if model else (), values=values)
    assert named.key == flagged.key
