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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt

    from copilot_jupyter.conversation.answer import Answer

#: Shown while nothing has come yet.
WAITING = "…"

_WHITE = re.compile(r'<span class="w">(\s*)</span>')

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
        facts.append(escape(answer.model))
    footer = f"{escape(answer.session)} · {' · '.join(facts)}"
    html = f'{markdown(answer.text)}<p style="opacity:.6;font-size:85%">{footer}</p>'
    return {"text/plain": answer.text, "text/html": _answer_box(html)}


def partial_bundle(text: str, remark: str = "") -> Bundle:
    """Return what is shown of an answer that is not complete.

    Parameters
    ----------
    text : str
        What has come so far.
    remark : str, optional
        One line about its state: retrying, interrupted.
    """
    plain = "\n\n".join(part for part in (text, f"({remark})" if remark else "") if part)
    html = markdown(text) if text else ""
    if remark:
        html += f'<p style="opacity:.6;font-style:italic">{escape(remark)}</p>'
    return {"text/plain": plain or WAITING, "text/html": _answer_box(html or f"<p>{WAITING}</p>")}


def markdown(text: str) -> str:
    """Return Markdown as HTML, with raw HTML shown as text and images as links."""
    return str(_parser().render(text))


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
    head = "".join(f"<th>{escape(cell)}</th>" for cell in lines[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>"
        for line in lines[1:]
    )
    caption = f"<p>{escape(title)}</p>" if title else ""
    html = f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return {"text/plain": "\n".join([*([title] if title else []), *plain]), "text/html": html}


def _answer_box(html: str) -> str:
    return f'<div class="copilot-answer">{html}</div>'


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "highlight": _highlight})
    parser.enable(["table", "strikethrough"])
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

    if not language:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return ""
    # Versions of Pygments differ in what is white space and in how quotes are written.
    coloured = _WHITE.sub(r"\1", highlight(code, lexer, HtmlFormatter(nowrap=True)))
    coloured = coloured.replace("&quot;", '"').replace("&#39;", "'")
    return f'<pre class="highlight"><code>{coloured}</code></pre>'


def _image_as_link(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Return a link in place of an image: a page must fetch nothing that a model names."""
    token = tokens[index]
    source = escape(str(token.attrGet("src") or ""))
    text = escape(renderer.renderInlineAsText(token.children or [], options, env)) or source
    return f'<a href="{source}" rel="noopener noreferrer" target="_blank">[image: {text}]</a>'


def _link_out(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer")
    tokens[index].attrSet("target", "_blank")
    return str(renderer.renderToken(tokens, index, options, env))
