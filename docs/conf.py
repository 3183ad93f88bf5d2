"""How the site is built: Sphinx, pages in Markdown, nothing fetched from elsewhere.

``make docs`` builds it with warnings as errors. The pages are read on GitHub too, so they
are plain Markdown; what is made from the code stands in them as one comment each.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pygments.lexer import RegexLexer, bygroups, using
from pygments.lexers.python import PythonLexer
from pygments.token import Keyword, Punctuation, Text, Whitespace

sys.path.insert(0, str(Path(__file__).parent))

import from_code

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "copilot-jupyter"
author = "The copilot-jupyter authors"
version = release = version_of("copilot-jupyter")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
#: Pages that are written from measurements, where there are some.
MEASURED = ("reliability", "performance")

# Links to headings are checked like links to pages: a warning, and warnings are errors.
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline"]
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"  # nobody makes these by hand
autodoc_default_options = {"exclude-members": "__init__, __new__"}
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
default_role = "code"  # a name between single backticks in a docstring
smartquotes = False

html_theme = "furo"
html_title = "copilot-jupyter"
html_favicon = "images/icon.svg"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_last_updated_fmt = None
pygments_style = "tango"
pygments_dark_style = "github-dark"


#: Notes for the test that runs the pages.
_COMMENT = re.compile(r"^<!--.*?-->\n", re.S | re.M)


class CellLexer(RegexLexer):
    """Colours a cell: the magics, and Python around them; a prompt is nobody's syntax."""

    name = "IPython cell"
    aliases: ClassVar[list[str]] = ["ipython"]
    tokens: ClassVar[dict[str, list[object]]] = {
        "root": [
            (r"(%%copilot)([^\n]*\n)((?:.|\n)*)", bygroups(Keyword, Punctuation, Text)),
            (r"(\s*\w+ = )?(%copilot\w*)([^\n#]*)", bygroups(Text, Keyword, Text)),
            (r"(%\w+)([^\n#]*)", bygroups(Keyword, Text)),
            (r"[^\n]+", using(PythonLexer)),
            (r"\n", Whitespace),
        ]
    }


def _fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what the code says into a page; GitHub's way to name a picture for a theme is ours."""
    del app, page
    text = source[0]
    for mark, made in from_code.PARTS.items():
        if mark in text:
            text = text.replace(mark, made())
    made_already = (page for page in MEASURED if Path(__file__).with_name(f"{page}.md").exists())
    text = text.replace("<!-- what was measured -->", "\n".join(made_already))
    for theme in ("light", "dark"):
        text = text.replace(f"#gh-{theme}-mode-only)", f"){{.only-{theme}}}")
    source[0] = _COMMENT.sub("", text)


def setup(app: Sphinx) -> None:
    """Register what is ours."""
    app.connect("source-read", _fill_in)
    app.add_lexer("ipython", CellLexer)
