"""Answers as HTML that can run nothing and fetch nothing, and tables as text and HTML.

JupyterLab lets Markdown outputs of a freshly run cell run scripts (measured), so a
model's Markdown is rendered here with raw HTML off, its images are shown as links, and
no ``text/markdown`` is ever sent.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.stored.question import paired

from . import mathtext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt

    from copilot_jupyter.conversation.answer import Answer

#: Shown while nothing has come yet.
WAITING = "…"

#: Characters of a text that are drawn as Markdown: half a second of work, and of a page's.
#: The worst that was found, a text of ``![`` alone, takes two.
LONGEST = 100_000

#: Characters from which on an answer that still grows has plain code and untypeset formulas,
#: or a page with 50 kB stands still for half a second at each update (measured).
_LIVELY = 8_000

_BOX = "copilot-answer"
#: What MathJax 3 and later, and 2, leave alone.
_UNTYPESET = "mathjax_ignore tex2jax_ignore"

#: Characters of one code block that are coloured: some lexers take quadratic time.
_COLOURED = 20_000

_WHOLE = "<code>%copilot_history --export answer.md</code> writes all of them to a file."

_QUIET = "opacity:.6;font-size:85%"
#: White space and plain names, which no theme of Jupyter's colours: a third of all spans.
_PLAIN = re.compile(r'<span class="(?:w|n)">([^<]*)</span>')

Bundle = dict[str, str]


def answer_bundle(answer: Answer) -> Bundle:
    """Return an answer as ``text/plain`` (its Markdown) and ``text/html``.

    A pure function of the stored turn: the same turn gives the same bytes.

    Parameters
    ----------
    answer : Answer
    """
    facts = [f"turn {answer.turn}"]
    if answer.at is not None:
        facts.append(f"{answer.at:%Y-%m-%d %H:%M} UTC")
    if answer.model:
        facts.append(quoted(answer.model))
    used = ""
    if answer.stored is not None:
        from . import tool_lines

        used = tool_lines.html(answer.stored.turn.uses)
        facts += map(quoted, tool_lines.facts(answer.stored))
    footer = f"{quoted(answer.session)} · {' · '.join(facts)}"
    html = f'{used}{markdown(answer.text)}<p style="{_QUIET}">{footer}</p>'
    return {"text/plain": paired(answer.text), "text/html": _answer_box(html)}


def partial_bundle(text: str, remark: str = "", *, elapsed: float | None = None) -> Bundle:
    """Return what is shown of an answer that is not complete.

    Parameters
    ----------
    text : str
        What has come so far.
    remark : str, optional
        One line about its state: retrying, interrupted.
    elapsed : float, optional
        Seconds since the prompt was sent; None for an answer that nobody waits for any more.
    """
    if elapsed is None:
        line, shown = remark and f"({remark})", quoted(remark)
    else:
        facts = " · ".join([f"{int(elapsed)} s", *([remark] if remark else [])])
        line = f"{WAITING} {facts}"
        # The lab extension turns the sign into a ring, which goes on where the last one was.
        phase = f"animation-delay:-{elapsed % 1:.2f}s"
        shown = f'<span class="copilot-waiting" style="{phase}">{WAITING}</span> {quoted(facts)}'
        text = text[:LONGEST]  # sent again and again
    calm = elapsed is not None and len(text) > _LIVELY
    text = paired(text)
    html = str(_parser(coloured=False).render(text)) if calm else markdown(text)
    if shown:
        html += f'<p style="opacity:.6;font-style:italic">{shown}</p>'
    plain = "\n\n".join(part for part in (text, paired(line)) if part)
    html = _answer_box(html or f"<p>{WAITING}</p>", f"{_BOX} {_UNTYPESET}" if calm else _BOX)
    return {"text/plain": plain or WAITING, "text/html": html}


def markdown(text: str) -> str:
    """Return Markdown as HTML, with raw HTML shown as text and images as links.

    Of a text longer than `LONGEST` the first part, and a line that says so.

    Parameters
    ----------
    text : str
    """
    html = str(_parser(coloured=True).render(paired(text[:LONGEST])))
    if len(text) <= LONGEST:
        return html
    told = f"Shown here: the first {LONGEST:,} of {len(text):,} characters. "
    return f"{html}<p><em>{told}{_WHOLE}</em></p>\n"


def plain_bundle(line: str) -> Bundle:
    """Return one line of ours; plain text only, so that nothing in it is markup."""
    return {"text/plain": line}


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Bundle:
    """Return a table as aligned text and as HTML; every cell is text.

    Parameters
    ----------
    headers : sequence of str
    rows : sequence of sequences of str
    title : str, optional
    """
    lines = [[*map(_one_line, row)] for row in [headers, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    plain = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    head = "".join(f"<th>{mathtext.plain(cell)}</th>" for cell in lines[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{mathtext.plain(cell)}</td>" for cell in line) + "</tr>"
        for line in lines[1:]
    )
    caption = f"<p>{mathtext.plain(title)}</p>" if title else ""
    html = f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return {"text/plain": "\n".join([*([title] if title else []), *plain]), "text/html": html}


def quoted(text: str) -> str:
    """Return text of others as one line of HTML that is only text."""
    return mathtext.plain(_one_line(paired(text)))


def _answer_box(html: str, kind: str = _BOX) -> str:
    return f'<div class="{kind}">{html}</div>'


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


@cache
def _parser(*, coloured: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    highlight = _highlight if coloured else None
    parser = MarkdownIt("commonmark", {"html": False, "highlight": highlight})
    parser.enable(["table", "strikethrough"])
    mathtext.add_math(parser)
    parser.validateLink = _may_be_linked  # type: ignore[assignment]  # its own extension point
    parser.add_render_rule("image", _image_as_link)
    parser.add_render_rule("link_open", _link_out)
    return parser


def _may_be_linked(address: str) -> bool:
    """Whether an answer may link there: the web, mail, or a place in this document."""
    scheme = re.match(r"([^/?#:]*):", address.strip())
    return scheme is None or scheme[1].lower() in ("http", "https", "mailto")


def _highlight(code: str, language: str, _attributes: str) -> str:
    """Return code with Pygments' class names, which notebook themes colour; "" leaves it plain."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    if not language or len(code) > _COLOURED:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return ""
    # Versions of Pygments differ in what is white space and in how quotes are written.
    coloured = _PLAIN.sub(r"\1", highlight(code, lexer, HtmlFormatter(nowrap=True)))
    coloured = coloured.replace("&quot;", '"').replace("&#39;", "'")
    return f'<pre class="highlight"><code>{coloured}</code></pre>'


def _image_as_link(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Return a link in place of an image: a page must fetch nothing that a model names."""
    token = tokens[index]
    source = escape(str(token.attrGet("src") or ""))
    text = renderer.renderInlineAsText(token.children or [], options, env)
    text = mathtext.plain(text or str(token.attrGet("src") or ""))
    return f'<a href="{source}" rel="noopener noreferrer" target="_blank">[image: {text}]</a>'


def _link_out(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer")
    tokens[index].attrSet("target", "_blank")
    return str(renderer.renderToken(tokens, index, options, env))
