"""Answers as HTML that can run nothing and fetch nothing; tables as text and HTML."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from html.parser import HTMLParser

import hostile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_jupyter.conversation.answer import Answer
from copilot_jupyter.events import ToolUse
from copilot_jupyter.notebook.display import render, tool_lines
from copilot_jupyter.notebook.display.render import (
    WAITING,
    answer_bundle,
    markdown,
    partial_bundle,
    plain_bundle,
    table,
)

ANSWER = Answer(
    text="Use `T`:\n\n```python\nx: list[T] = []\n```\n",
    session="my-id",
    turn=3,
    event_id="e",
    prompt="Generics?",
    model="gpt-5",
    at=datetime(2026, 11, 22, 10, 5, 59, tzinfo=UTC),
)


class Tags(HTMLParser):
    """What a browser would make of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.found}

    @property
    def links(self) -> list[str | None]:
        return [attributes.get("href") for name, attributes in self.found if name == "a"]


#: All that an answer may become.
HARMLESS = {
    *("a", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr"),
    *("li", "ol", "p", "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead"),
    *("tr", "ul"),
}
PLAIN_ATTRIBUTES = {"class", "href", "rel", "start", "style", "target", "title"}


def assert_harmless(html: str) -> None:
    for name, attributes in Tags(html).found:
        assert name in HARMLESS
        assert set(attributes) <= PLAIN_ATTRIBUTES
        style = attributes.get("style") or ""
        allowed = r"|text-align:(left|right|center)|(opacity|font)[^(]*|animation-delay:-0\.\d\ds"
        assert re.fullmatch(allowed, style)


# -- markdown ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "x <b onclick=alert(1)>bold</b>",
        "<img src=x onerror=alert(1)>",
        "<iframe src='http://evil.example'></iframe>",
        "<!-- comment -->",
        "<style>body{display:none}</style>",
        "- <form action=x>",
        "> <svg onload=alert(1)>",
        "| a |\n|--|\n| <img src=x> |",
        "# <object data=x>",
        "**<a href=javascript:alert(1)>x</a>**",
    ],
)
def test_raw_html_is_shown_as_text(text):
    html = markdown(text)
    assert_harmless(html)
    assert re.search(r"<[a-z!/]", Tags(html).text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![a cat](http://e.example/cat.png)", "[image: a cat]"),
        ("![](http://e.example/cat.png)", "[image: http://e.example/cat.png]"),
        ('![a](http://e.example/cat.png "title")', "[image: a]"),
        ("![a][cat]\n\n[cat]: http://e.example/cat.png", "[image: a]"),
        ("![a **bold** cat](http://e.example/cat.png)", "[image: a bold cat]"),
    ],
)
def test_an_image_is_a_link_that_fetches_nothing(text, shown):
    tags = Tags(markdown(text))
    assert "img" not in tags.names
    assert tags.links == ["http://e.example/cat.png"]
    assert tags.text.strip() == shown


def test_an_images_text_and_address_cannot_break_out():
    html = markdown('![x" onerror=a <b>](<http://e.example/"onload=b>)')
    assert_harmless(html)
    assert Tags(html).text.strip() == '[image: x" onerror=a <b>]'


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "&#x6A;avascript:alert(1)",
        "java&Tab;script:alert(1)",
        "vbscript:x",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "command:workbench.action.quit",
        "vscode://file/etc/passwd",
        "blob:http://e.example/x",
    ],
)
@pytest.mark.parametrize("form", ["[x]({})", "![x]({})", "<{}>", "[x][r]\n\n[r]: {}"])
def test_only_the_web_and_mail_can_be_linked(form, address):
    for link in Tags(markdown(form.format(address))).links:
        assert not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", link or "")


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("[x](https://e.example/a?b=1&c=2)", "https://e.example/a?b=1&c=2"),
        ("[x](http://e.example)", "http://e.example"),
        ("<https://e.example>", "https://e.example"),
        ("[x](mailto:a@e.example)", "mailto:a@e.example"),
        ("[x](other.ipynb#part)", "other.ipynb#part"),
    ],
)
def test_a_link_opens_outside_of_the_notebook_and_tells_it_nothing(text, link):
    tags = Tags(markdown(text))
    assert tags.links == [link]
    attributes = dict(tags.found)["a"]
    assert attributes["target"] == "_blank"
    assert attributes["rel"] == "noopener noreferrer"


def test_a_bare_address_stays_text():
    assert Tags(markdown("see http://e.example now")).links == []


def test_code_is_coloured_by_class_names():
    html = markdown("```python\nx = '<b>'\n```")
    assert '<pre class="highlight"><code>' in html
    assert '<code>x <span class="o">=</span> <span class=' in html  # a name has no colour
    assert "style=" not in html
    assert Tags(html).text.strip() == "x = '<b>'"


@pytest.mark.parametrize("language", ["", "nonsense", 'py"><script>', "python-that-is-none"])
def test_code_in_no_known_language_stays_plain(language):
    html = markdown(f"```{language}\nx = '<b>'\n```")
    assert_harmless(html)
    assert "span" not in Tags(html).names
    assert Tags(html).text.strip() == "x = '<b>'"


def test_tables_lists_and_the_rest_of_markdown():
    html = markdown("# T\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n- x\n- ~~y~~\n\n> *q* **s**")
    assert {"h1", "table", "td", "ul", "li", "s", "blockquote", "em", "strong"} <= Tags(html).names
    assert_harmless(html)


def test_odd_characters_pass_as_text():
    tags = Tags(markdown("\x1b[31mred\x1b[0m \u202eevil\u202c \x00 é日🙂"))
    assert tags.names == {"p"}
    assert "evil" in tags.text
    assert "\x00" not in tags.text


@given(st.text(alphabet=st.one_of(st.sampled_from("<>\"'&[]()!`*_~#|-\n :/javscriptonerr="))))
def test_no_text_becomes_anything_harmful(text):
    html = markdown(text)
    assert_harmless(html)
    for link in Tags(html).links:
        assert not (link or "").lower().replace(" ", "").startswith(("javascript:", "vbscript:"))


@pytest.mark.parametrize("text", hostile.ALL.values(), ids=hostile.ALL)
@pytest.mark.parametrize("shown", ["stored", "growing", "remark", "footer", "title"])
def test_what_a_hostile_text_becomes_wherever_it_is_shown(text, shown):
    html = {
        "stored": lambda: answer_bundle(Answer(text, "my-id", 1)),
        "growing": lambda: partial_bundle(text, elapsed=1.0),
        "remark": lambda: partial_bundle("x", text, elapsed=1.0),
        "footer": lambda: answer_bundle(Answer("x", text, 1, model=text)),
        "title": lambda: table((text,), [(text,)], text),
    }[shown]()["text/html"]
    assert_harmless(html)
    for link in Tags(html).links:
        assert not re.match(r"(?!https?:|mailto:)[^/?#]*:", (link or "").lower())
    for formula in formulas(html):
        assert shown in ("stored", "growing")
        assert not re.search(r"\\(href|require|style|class|cssId|def|csname|gdef|let)\b", formula)


# -- formulas ---------------------------------------------------------------------------------


def formulas(html):
    """What MathJax would typeset: its own reading of a page, which an element interrupts."""
    texts = re.split(r"<[^>]*>", re.sub(r"<(code|pre)\b.*?</\1>", "<>", html, flags=re.S))
    found = r"\$\$.+?\$\$|\$(?:\\.|[^\\])+?\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(.+?)\}.*\\end\{\1\}"
    return [match[0] for text in texts for match in re.finditer(found, text, re.S)]


@pytest.mark.parametrize(
    "formula",
    [
        *(r"$x_1 + y_2*z*$", r"$$a_b \\ c_d$$", r"\(a_{b}\_c \\ d\)", r"\[x^*_1 *y*\]"),
        *(r"$\{x \mid x_1 `a` [b](c)\}$", r"$\text{5 \$}$", r"$\alpha_{\beta}$", "$a\nb$"),
        *("$$\n\\sum_{i=1}^n x_i \\\\\n= 3\n- 4\n# 5\n$$", "\\[\na_1\n= b_1 \\\\[2pt]\n> c\n\\]"),
        *("\\begin{align*}\na_1 &= b \\\\\n&= c\n\\end{align*}", "$$x\n+ y$$", "$^*$"),
    ],
)
@pytest.mark.parametrize("place", ["{}", "- {}", "> {}", "before\n\n{}\n\nafter", "1. a\n2. {}"])
def test_a_formula_reaches_the_page_untouched(formula, place):
    indent = {"-": "  ", ">": "> ", "1": "   "}.get(place[0], "")
    html = markdown(place.format(formula.replace("\n", f"\n{indent}")))
    [found] = formulas(html)
    raw = found.replace("&amp;", "&").replace("&gt;", ">")
    assert raw == formula
    assert_harmless(html)


def test_less_than_in_a_formula_is_no_tag():
    assert markdown("$a<b>c$") == "<p><span>$a&lt;b&gt;c$</span></p>\n"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "costs $5 and $6",
            "from $5-$10",
            "$ a $",
            r"\$x\$",
            r"`$x$`",
            "$x",
            "$$",
            r"\(x",
        ),
        *(r"\\(x\\)", "&dollar;x&dollar;", "```\n$x$\n```", "$a *b* $", "![$x$](http://e.example)"),
        *(r"$\href{javascript:x}{y}$", "$$\n\\require{x}\n$$", r"\[ \def\a{b} \]", "$x\n\ny$"),
    ],
)
def test_what_is_no_formula_is_typeset_by_nobody(text):
    assert formulas(markdown(text)) == []


def test_our_own_lines_are_never_typeset():
    assert formulas(answer_bundle(Answer("x", "$a$", 1, model=r"\(b\)"))["text/html"]) == []
    assert formulas(partial_bundle("x", "$a$ $$b$$", elapsed=2)["text/html"]) == []
    assert formulas(table(("$a$",), [(r"\[b\]",)], "$c$")["text/html"]) == []


# -- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece",
    ["![", "*a", "> \n", "[a](", "|a", "-\n", "$", "\\(", "\\[\n", "\\begin{a}\n", "```perl\n=\n"],
)
def test_no_text_takes_for_ever(piece):
    """Processor seconds: linear text takes a second or two."""
    began = time.process_time()
    html = markdown(piece * (1_000_000 // len(piece)))
    assert time.process_time() - began < 30
    assert len(html) < 6_000_000


def test_of_an_endless_answer_a_page_gets_the_beginning_and_the_file_all():
    text = "A paragraph of *text*.\n\n" * 400_000
    bundle = answer_bundle(Answer(text, "my-id", 1))
    assert bundle["text/plain"] == text
    assert len(bundle["text/html"]) < 1_000_000
    said = Tags(bundle["text/html"]).text
    assert "Shown here: the first 100,000 of 9,600,000 characters." in said
    assert "%copilot_history --export" in said
    assert len(str(partial_bundle(text, elapsed=3.0))) < 1_000_000
    assert "Shown here" not in markdown("x" * render.LONGEST)


def test_halves_of_characters_can_be_sent():
    half = "a\ud800b"
    for bundle in (
        answer_bundle(Answer(half, "s", 1, model=half)),
        partial_bundle(half, half, elapsed=1),
    ):
        json.dumps(bundle, ensure_ascii=False).encode()


# -- bundles ----------------------------------------------------------------------------------


def test_an_answer_is_its_markdown_and_its_html_and_nothing_else():
    bundle = answer_bundle(ANSWER)
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == ANSWER.text
    assert markdown(ANSWER.text) in bundle["text/html"]
    assert "my-id · turn 3 · 2026-11-22 10:05 UTC · gpt-5" in Tags(bundle["text/html"]).text
    assert_harmless(bundle["text/html"])


def test_the_same_turn_gives_the_same_bytes(monkeypatch):
    first = answer_bundle(ANSWER)
    render._parser.cache_clear()
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert answer_bundle(Answer(**vars(ANSWER))) == first


def test_html_does_not_depend_on_what_was_rendered_before():
    first = markdown("[a][r]\n\n[r]: http://e.example")
    markdown("[r]: http://other.example\n\n<div>")
    assert markdown("[a][r]\n\n[r]: http://e.example") == first
    assert Tags(markdown("[a][r]")).links == []


def test_what_is_not_known_is_left_out_of_the_footer():
    text = Tags(answer_bundle(Answer("Hi", "my-id", 1))["text/html"]).text
    assert text.endswith("my-id · turn 1")


def test_the_footer_is_text():
    html = answer_bundle(Answer("Hi", "my-id", 1, model="<script>"))["text/html"]
    assert "script" not in Tags(html).names


def test_an_answer_that_is_not_complete_says_its_state():
    bundle = partial_bundle("So *far*", "interrupted <b>")
    assert bundle["text/plain"] == "So *far*\n\n(interrupted <b>)"
    tags = Tags(bundle["text/html"])
    assert tags.text.split() == ["So", "far", "interrupted", "<b>"]
    assert_harmless(bundle["text/html"])


def test_before_anything_came_there_is_a_sign_of_waiting():
    bundle = partial_bundle("")
    assert bundle["text/plain"] == WAITING
    assert Tags(bundle["text/html"]).text == WAITING
    assert WAITING not in str(partial_bundle("x")) + str(partial_bundle("", "trying again"))


def test_while_one_waits_there_is_a_clock_and_what_goes_on():
    bundle = partial_bundle("", "running run_python", elapsed=12.34)
    assert bundle["text/plain"] == f"{WAITING} 12 s · running run_python"
    tags = Tags(bundle["text/html"])
    assert tags.text == f"{WAITING} 12 s · running run_python"
    assert ("span", {"class": "copilot-waiting", "style": "animation-delay:-0.34s"}) in tags.found
    assert partial_bundle("So far", elapsed=3)["text/plain"] == f"So far\n\n{WAITING} 3 s"


def test_a_long_answer_that_grows_is_drawn_calmly():
    text = "Some $x$.\n\n```python\nx = 1\n```\n\n" * 400
    growing = partial_bundle(text, elapsed=3)["text/html"]
    assert 'class="copilot-answer mathjax_ignore tex2jax_ignore"' in growing
    assert '<span class="o">' not in growing
    for whole in (partial_bundle(text, "interrupted"), answer_bundle(Answer(text, "s", 1))):
        assert "mathjax_ignore" not in whole["text/html"]
        assert '<span class="o">' in whole["text/html"]
    assert '<span class="o">' in partial_bundle(text[:2000], elapsed=3)["text/html"]


def test_a_line_of_ours_is_only_text():
    assert plain_bundle("<b> *x*") == {"text/plain": "<b> *x*"}


# -- tables -----------------------------------------------------------------------------------


def test_a_table_is_aligned_text_and_html():
    bundle = table(("id", "name"), [("a", "long name"), ("longer-id", "b")], "2 sessions")
    assert bundle["text/plain"].split("\n") == [
        "2 sessions",
        "id         name",
        "a          long name",
        "longer-id  b",
    ]
    tags = Tags(bundle["text/html"])
    assert [name for name, _ in tags.found].count("td") == 4
    assert [name for name, _ in tags.found].count("th") == 2
    assert "2 sessions" in tags.text


def test_a_table_without_rows_or_title():
    bundle = table(("a", "b"), [])
    assert bundle["text/plain"] == "a  b"
    assert "<p>" not in bundle["text/html"]


def test_every_cell_of_a_table_is_text():
    bundle = table(("<h>",), [("<script>alert(1)</script>",), ("&amp; \"'",)], "<t>")
    tags = Tags(bundle["text/html"])
    assert tags.names == {"p", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags.text == "<t><h><script>alert(1)</script>&amp; \"'"


@pytest.mark.parametrize("odd", ["\n", "\r\n", "\x1b[31m", "\u202e", "\u2028", "\x00", "\x07"])
def test_a_cell_is_one_line_without_control_or_direction_characters(odd):
    bundle = table(("name",), [(f"a{odd}b",)])
    assert odd not in bundle["text/html"]
    _, row = bundle["text/plain"].split("\n")
    assert odd not in row
    assert row.startswith("a ")


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("inspect_variable", {"name": "df", "format": "schema"}, "inspect_variable · df"),
        ("bash", {"description": "List files", "command": "ls -l\n"}, "bash · ls -l"),
        ("create", {"file_text": "a\nb", "path": "notes.txt"}, "create · notes.txt"),
        ("insert_cell", {"source": "a\nb", "kind": "markdown"}, "insert_cell · a (+1 lines)"),
        ("list_variables", {"match": "<b>"}, "list_variables · &lt;b&gt;"),
        ("other", {"one": "1", "two": "2"}, "other"),
        ("list_variables", {}, "list_variables"),
    ],
)
def test_the_line_of_a_tool_call_says_what_it_is_about(name, arguments, line):
    html = tool_lines.html([ToolUse(name, arguments, status="success")])
    [summary] = re.findall("<summary>(.*)</summary>", html)
    assert re.sub("</?code>", "", summary) == line
