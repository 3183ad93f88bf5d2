"""A conversation a page at a time: numbers, search, what is shown, and the reader's messages."""

from __future__ import annotations

import re
import time

import pytest

from copilot_jupyter.conversation import transcript
from copilot_jupyter.conversation.pages import PAGE, Pages
from copilot_jupyter.errors import SessionNotFoundError
from copilot_jupyter.events import Turn
from copilot_jupyter.notebook.display import listing, terminal
from copilot_jupyter.notebook.reading import history
from copilot_jupyter.notebook.reading.reader import HistoryReader
from copilot_jupyter.state.journal import journal_bytes
from copilot_jupyter.state.store import Store
from unit.transcripts import asks, event, exchange, put, says

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</div></pre><style>*{display:none}</style>",
    "[a link](javascript:alert(1))",
    "![an image](https://elsewhere.invalid/x.png)",
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def many(count):
    events = []
    for number in range(1, count + 1):
        events += exchange(f"Question {number}?", f"It is **{number}**.")
    return events


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A store with one session of 10,000 turns."""
    store = Store(tmp_path_factory.mktemp("long"))
    put(store, "long", many(10_000))
    return store


def numbers(turns):
    return [turn.number for turn in turns]


# -- pages ---


def test_a_page_is_what_the_whole_transcript_says_of_it(long):
    pages = Pages(long, "long")
    whole = transcript.turns(long.journal("long").events)
    assert pages.count() == len(whole) == 10_000
    assert pages.page() == whole[-PAGE:]
    assert pages.page(1) == whole[:PAGE]
    assert pages.page(5_000, 3) == whole[4_999:5_002]
    assert pages.page(9_995) == whole[9_994:]
    assert pages.read(0, 2) == whole[:2]
    assert pages.read(10_001, 10_100) == pages.read(7, 6) == []


def test_the_last_page_of_ten_thousand_turns_opens_at_once(long):
    def opens():
        began = time.perf_counter()
        Pages(long, "long").page()
        return time.perf_counter() - began

    def reads_all():
        began = time.perf_counter()
        transcript.turns(long.journal("long").events)
        return time.perf_counter() - began

    # Of the same machine in the same minute; the whole is ten times as much work.
    assert min(opens() for _ in range(3)) < reads_all() / 3


def test_turns_that_are_no_plain_exchange_are_numbered_as_everywhere(store):
    events = [
        *exchange("one", "1"),
        asks("never answered"),
        asks("of the system", source="system"),
        event("user.message", agent="sub", content="to a sub-agent"),
        *exchange('says "user.message" and "source": x', "2"),
        says("and one more message"),
        event("session.info", text='{"type":"user.message"'),
        *exchange("last", "3"),
    ]
    put(store, "odd", events)
    whole = transcript.turns(store.journal("odd").events)
    assert Pages(store, "odd").read(1, 99) == whole
    assert len(whole) == 4


def test_what_is_written_meanwhile_is_there_at_the_next_look(store):
    folder = put(store, "grows", many(3))
    pages = Pages(store, "grows")
    assert pages.count() == 3
    with (folder / "events.jsonl").open("ab") as file:
        file.write(journal_bytes(exchange("new", "4")))
        file.write(b'{"type":"user.message","data":{"content":"to')  # being written
    assert numbers(pages.page()) == [1, 2, 3, 4]
    assert pages.page()[-1].answer == "4"


def test_an_empty_session_and_none(store):
    put(store, "empty", [event("session.info")])
    pages = Pages(store, "empty")
    assert (pages.count(), pages.page(), list(pages.search("a"))) == (0, [], [])
    with pytest.raises(SessionNotFoundError, match="no-such"):
        Pages(store, "no-such").count()


# -- search ---


def test_search_finds_numbers_sides_and_what_stands_around(store):
    told = "A long story. " * 20 + "Then\n\n  the  DataFrame was empty. " + "And so on. " * 20
    put(store, "s", [*exchange("What is a dataframe?", "A table"), *exchange("Why?", told)])
    first, second = Pages(store, "s").search("dataFRAME")
    assert (first.number, first.who, str(first)) == (1, "you", "What is a dataframe?")
    assert (second.number, second.who, second.found) == (2, "copilot", "DataFrame")
    assert second.before.startswith("…")
    assert second.before.endswith("Then the ")
    assert second.after.startswith(" was empty. And so on.")
    assert second.after.endswith("…")
    assert "\n" not in str(second)
    [over_lines] = Pages(store, "s").search("then the dataframe")
    assert over_lines.found == "Then the DataFrame"
    assert list(Pages(store, "s").search("(unbalanced[")) == []
    assert list(Pages(store, "s").search("  ")) == []


def test_search_through_ten_thousand_turns_lists_the_last(long):
    shown = history.found("long", Pages(long, "long"), "question 99", 5)["text/plain"]
    title, _, *rows = shown.splitlines()
    assert "111 places, the last 5" in title  # 99, 990 to 999, 9900 to 9999
    assert [row.split()[0] for row in rows] == ["9,995", "9,996", "9,997", "9,998", "9,999"]
    nothing = history.found("long", Pages(long, "long"), "zebra")["text/plain"]
    assert nothing == "No turn of long holds 'zebra'."


# -- what is shown ---


def shown_page(store, session, first=None, length=PAGE, **more):
    pages = Pages(store, session)
    return history.page(session, pages.page(first, length), pages.count(), **more)


def test_the_page_names_the_pages_beside_it(long):
    last = shown_page(long, "long")
    lines = last["text/plain"].splitlines()
    assert lines[0] == "# long: turns 9,981 to 10,000 of 10,000"
    assert "earlier: %copilot_history long --turn 9961" in lines[-1]
    assert "later" not in lines[-1]
    assert "%copilot_history long --turn 9961" in last["text/html"]
    middle = shown_page(long, "long", 31)["text/plain"].splitlines()
    assert (
        "earlier: %copilot_history long --turn 11 · later: %copilot_history long --turn 51"
        in (middle[-1])
    )
    first = shown_page(long, "long", 1)["text/plain"].splitlines()[-1]
    assert "earlier" not in first
    assert "--turn 21" in first


def test_a_short_conversation_needs_no_other_page(store):
    put(store, "short", many(2))
    text = shown_page(store, "short")["text/plain"]
    assert text.splitlines()[0] == "# short: 2 turns"
    assert "--turn" not in text
    assert text.rstrip().endswith("It is **2**.")
    empty = history.page("short", [], 0)
    assert empty == {"text/plain": "The session short has no turns yet."}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(store, text):
    put(store, "bad", [*exchange(text, text)])
    html = shown_page(store, "bad")["text/html"]
    html += history.found("bad", Pages(store, "bad"), text[:10])["text/html"]
    assert set(re.findall(r"<(\w+)", html)) <= {
        *("div", "p", "a", "span", "em", "table", "thead", "tbody", "tr", "th", "td"),
    }
    assert not re.search(r"<[^>]*(?:onerror|javascript:|\bsrc=)", html)


# -- in a terminal ---


def test_a_table_fits_the_terminal_and_wraps_long_cells():
    rows = [
        ["elsewhere", "a-session", "A title that goes on and on " * 4, "3"],
        ["elsewhere", "日本語のセッション", "Ein Titel", ""],
        ["this notebook", "\x1b[31mred\x07", "two\nlines\u202e", "12"],
    ]
    text = terminal.table(("where", "id", "name", "turns"), rows, "3 sessions", 60)["text/plain"]
    lines = text.splitlines()
    assert all(terminal._width(line) <= 60 for line in lines)
    head = next(line for line in lines if line.startswith("where"))
    title = [line[head.index("name") : head.index("turns")].strip() for line in lines]
    first = next(n for n, line in enumerate(lines) if "a-session" in line)
    after = next(n for n, line in enumerate(lines) if "日本" in line)
    assert after > first + 1
    assert " ".join(title[first:after]) == rows[0][2].strip()  # broken between words
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    starts = [line.index("Ein") for line in lines if "Ein" in line]
    wide = next(line for line in lines if "Ein" in line)
    assert terminal._width(wide[: starts[0]]) == head.index("name")


def test_columns_that_are_empty_take_no_room():
    text = terminal.table(("id", "in use by"), [["a", ""], ["b", ""]], "", 60)["text/plain"]
    assert text == "id\na\nb"


@pytest.mark.parametrize("colours", [True, False])
def test_a_transcript_at_a_terminal_obeys_nothing(monkeypatch, colours):
    monkeypatch.setattr(terminal, "has_colours", lambda: colours)
    turn = Turn(
        1, "e", "Clear \x1b[2J it", "", "\x9b31mred\n\n```python\nx = 1  # \x1b]0;title\x07\n```\n"
    )
    text = terminal.transcribed("s: 1 turn", [turn])
    ours = re.compile(r"\x1b\[[0-9;]*m")
    assert bool(ours.search(text)) is colours
    plain = ours.sub("", text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain)
    assert "> Clear \ufffd[2J it" in plain
    assert "x = 1" in plain


def test_nobody_asks_for_colours_in_a_pipe(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.has_colours() is False  # pytest's standard output is no terminal


# -- the reader ---


class Page:
    """What the page gets of a reader, and says to it."""

    def __init__(self, store, session, first=None):
        self.left = 0
        self.reader = HistoryReader(session, Pages(store, session), first, self._leave)
        self.sent = []
        self.reader.send = lambda message, *_: self.sent.append(message)

    def _leave(self):
        self.left += 1

    def say(self, op, **more):
        self.reader._received(None, {"op": op, **more}, None)
        return self.sent[-1] if self.sent else None


def test_the_reader_sends_a_page_when_it_is_asked(long):
    page = Page(long, "long")
    first = page.say("ready")
    assert first["place"] == "turns 9,981 to 10,000 of 10,000"
    assert (first["end"], first["count"], len(first["turns"])) == (True, 10_000, PAGE)
    assert first["turns"][0]["html"] == "<p>It is <strong>9981</strong>.</p>\n"
    assert page.say("page", first=41)["place"] == "turns 41 to 60 of 10,000"
    assert page.say("page", first=-5)["turns"][0]["number"] == 1
    assert page.say("page", first=2**53 - 1)["turns"][-1]["number"] == 10_000
    assert numbers(page.reader.turns) == list(range(9_981, 10_001))
    found = page.say("search", text="question 99")
    assert (found["total"], len(found["hits"])) == (111, 111)
    assert found["hits"][0][:4] == [9_999, "you", "", "Question 99"]
    page.say("close")
    assert page.left == 1


def test_the_reader_passes_over_what_it_does_not_know(long):
    page = Page(long, "long", 7)
    assert page.say("ready")["end"] is False
    page.sent.clear()
    for message in ({}, {"op": "page"}, {"op": "page", "first": "1"}, {"op": "nothing"}):
        page.reader._received(None, message, None)
    page.reader._received(None, "text", None)
    assert page.sent == []


def test_the_reader_says_when_the_session_is_gone(store):
    folder = put(store, "goes", many(2))
    page = Page(store, "goes")
    (folder / "events.jsonl").unlink()
    assert page.say("page", first=1)["op"] == "failed"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_reader_sends_html_in_which_nothing_runs(store, text):
    put(store, "bad", exchange(text, text))
    [turn] = Page(store, "bad").say("ready")["turns"]
    assert turn["prompt"] == text  # text for textContent
    assert set(re.findall(r"<(\w+)", turn["html"])) <= {"p", "a", "span"}
    assert not re.search(r"<[^>]*(?:onerror|javascript:|\bsrc=)", turn["html"])


# -- sessions ---


def test_thousands_of_sessions_list_from_the_catalog(home, store, monkeypatch):
    from copilot_jupyter.conversation.sessions import Sessions
    from copilot_jupyter.settings import Copilot

    for number in range(40):
        put(store, f"s-{number:02}", exchange(f"Prompt {number}", "a"))
    sessions = Sessions(Copilot(), store)
    found = sessions.listed(notebook=None, folder="/work", seconds=0)
    assert (list(found), found.unread) == ([], 40)
    assert "40 more are not read yet" in listing.sessions(found, sessions, "", 20)["text/plain"]
    found = sessions.listed(notebook=None, folder="/work")
    assert (len(found.folder), found.unread) == (40, 0)

    def unreadable(*_):
        raise AssertionError  # the catalog knows them by now

    monkeypatch.setattr(Store, "workspace", unreadable)
    monkeypatch.setattr("copilot_jupyter.state.catalog._prompts", unreadable)
    again = sessions.listed(notebook=None, folder="/work")
    assert again == found
    shown = listing.sessions(again, sessions, "", 20)["text/plain"]
    assert shown.splitlines()[0] == "40 sessions, 20 more with --all"
    [one] = sessions.listed("prompt 17", notebook=None, folder="").others
    assert one.id == "s-17"
