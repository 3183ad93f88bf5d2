r"""LaTeX in Markdown: carried to the page untouched, for the front end's own MathJax.

Markdown would eat the underscores, backslashes and ``\(`` of a formula. And a front end
typesets whatever stands between two dollars, prices too; so here it is decided what a
formula is, and every other delimiter is taken apart by an element, which no formula may
hold. (The plugins for markdown-it know one pair of delimiters each, and search to the end
of the text at every one of them: minutes on a hostile megabyte.)
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

#: A formula at a position of a line: each attempt ends at the next delimiter of its kind,
#: so that a text of delimiters takes linear time. As in Pandoc, "$5 and $6" is none.
_INLINE = re.compile(
    r"""
      \$\$ (?: \\. | [^\\$] | \$(?!\$) )++ \$\$
    | \$ (?![\s$]) (?: \\. | [^\\$] )++ (?<!\s) \$ (?!\d)
    | \\\( (?: \\[^()] | [^\\] )++ \\\)
    | \\\[ (?: \\[^\[\]] | [^\\] )++ \\\]
    """,
    re.X | re.S,
)
_ENVIRONMENT = re.compile(r"\\begin\{([a-zA-Z]+\*?)\}")

#: Lines of the longest formula.
_LINES = 200

#: What begins a formula, or links to one, wherever a front end looks for it.
_DELIMITER = re.compile(r"\$|\\(?=[(\[]|begin\b|(?:eq)?ref\b)")

#: Links, styles, ids, files, definitions for the rest of the page, and the ways to spell these
#: otherwise. JupyterLab's MathJax keeps most of them harmless (its "safe" extension); others
#: need not.
_FORBIDDEN = re.compile(
    r"""\\(?: href | url | style | class | cssId | data | unicode | require | mmlToken | bbox
    | includegraphics | input | include | html[a-z]* | label | toggle | mathtip | texttip
    | csname | [egx]?def | (?:future)?let | global | catcode | char | special
    | (?:re|provide)?(?:newcommand|command|newenvironment) | Declare[a-z]*
    )(?![a-z])""",
    re.X | re.I,
)


def add_math(parser: MarkdownIt) -> None:
    r"""Teach a parser ``$..$``, ``$$..$$``, ``\(..\)``, ``\[..\]`` and ``\begin{..}``.

    Parameters
    ----------
    parser : MarkdownIt
    """
    parser.inline.ruler.before("escape", "math", _inline)
    interrupts = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.before("fence", "math_block", _block, {"alt": interrupts})
    parser.add_render_rule("math", _render)
    parser.add_render_rule("math_block", _render_block)
    parser.add_render_rule("text", _render_text)


def plain(text: str) -> str:
    """Return text as HTML in which nothing is markup and nothing is a formula.

    Parameters
    ----------
    text : str
    """
    return _apart(escape(text))


def _apart(html: str) -> str:
    return _DELIMITER.sub(r"<span>\g<0></span>", html)


def _formula(source: str) -> str:
    """Return a formula alone in its element; one that does more than draw, as source."""
    if _FORBIDDEN.search(source):
        return f"<code>{escape(source)}</code>"
    return f"<span>{escape(source)}</span>"


def _inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 -- markdown-it's own order
    if state.src[state.pos] not in "$\\":
        return False
    found = _INLINE.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("math", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _block(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001 -- same
    if state.is_code_block(first):
        return False
    line = _line(state, first)
    closing = _closing(line)
    if not closing:
        return False
    for number in range(first, min(last, first + _LINES)):
        line = _line(state, number)
        opened = 2 if number == first else 0
        if not line or state.sCount[number] < state.blkIndent:
            return False
        if number > first and line.startswith("\\["):
            return False  # a text of openings would be searched anew at each
        if closing not in line[opened:]:
            continue
        if line.index(closing, opened) != len(line) - len(closing):
            return False  # text behind it: a formula in a paragraph
        if not silent:
            token = state.push("math_block", "", 0)
            token.content = state.getLines(first, number + 1, state.blkIndent, False).strip()
            token.map = [first, number + 1]
            state.line = number + 1
        return True
    return False


def _closing(line: str) -> str:
    """Return what ends the formula that a line begins, "" if it begins none."""
    if line.startswith("$$"):
        return "$$"
    if line.startswith("\\["):
        return "\\]"
    found = _ENVIRONMENT.match(line)
    return f"\\end{{{found[1]}}}" if found else ""


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].rstrip()


def _render(_renderer: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
    return _formula(tokens[index].content)


def _render_block(_renderer: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
    return f"<p>{_formula(tokens[index].content)}</p>\n"


def _render_text(_renderer: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
    return _apart(escape(tokens[index].content, quote=False).replace('"', "&quot;"))
