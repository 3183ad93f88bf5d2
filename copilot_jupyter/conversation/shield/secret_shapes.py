"""The shapes that secrets have: tokens of providers, keys, passwords in addresses and lists.

Each pattern reads a text once: it begins with fixed characters, and a run that turns out
to be no secret is either passed over whole or ended by what the pattern begins with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .masks import MASK

if TYPE_CHECKING:
    from collections.abc import Callable

_MASKS = re.compile(rf"(?:{MASK.pattern})+")

#: A password that is still to be put in, as in ``f"postgres://{user}:{password}@{host}"``.
_PLACEHOLDER = re.compile(
    r"\$?\{[^{}]*\}+|\{\{.*\}\}|\$[A-Z_][A-Z0-9_]*|%s|%\(\w+\)s|\*+|\.{3}|…|x{3,}"
)

#: The same in a list such as ``Server=db;Password=<your password>``.
_STAND_IN = re.compile(
    r"\$?\{.*|\$\(.*|\$[A-Za-z_]\w*|%\w+%|<[\w -]*>?|\[[\w -]*\]?|\?|(?i:your)[\w-]*"
    r"|[:@](?i:pass\w*|pwd?)"
)
#: What a template puts into braces; ODBC puts other values into some that hold a ``;``.
_EXPRESSION = re.compile(r"\{(?:\d*|[A-Za-z_][\w.]*+(?:[(\[].*|(?:![rsa])?(?::.*)?))\}")
_CALL = re.compile(r"[A-Za-z_][\w.]*+[(\[]")
_ATTRIBUTE = re.compile(
    r"(?:self|this|os|sys|env|conf|cfg|config|settings|secrets|args|options|opts|params)\.[\w.]+"
    r"|[A-Za-z_]\w*\.(?:\w+\.)*(?i:pass\w*|pwd?|secret\w*)"
)
#: What a password is said to be, or called, in prose and code.
_NO_PASSWORDS = frozenset(
    (
        *("yes", "no", "none", "null", "nil", "true", "false", "on", "off", "empty", "ask"),
        *("pass", "passwd", "pwd", "pw", "password", "credential", "credentials", "keychain"),
        *("anonymous", "automatic", "changeme", "disabled", "environment", "external"),
        *("localhost", "optional", "required", "undefined"),
    )
)
A_PATH = re.compile(r"~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:")

#: Where letters and digits meet: twice in what was drawn at random, rarely in a name.
_MEETS = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")

#: A list of ``key=value`` is recognized by what stands this near.
_NEAR = 120
_BREAK = re.compile(r"\\[nrt]")
_NEXT = re.compile(r"(?:\s{0,20};\s{0,20}|\s{1,20})[A-Za-z_][\w .-]{0,40}=(?!=)")
_CLOSED = re.compile(r" {0,4};\s{0,20}(?:\\*[\"'`]|\Z)")


def _edge(width: int) -> str:
    r"""Return what holds where a word of `width` characters that was just read began.

    Asked for behind the word, since `re` finds words that a pattern begins with fast.
    Escapes end in letters (a JSON text in a string, ``\x1b[31m``, ``%3D``) and are no
    part of the word.
    """
    word = f".{{{width}}}"
    before = (
        rf"(?<![A-Za-z0-9]{word})",
        rf"(?<=\\[abfnrtv]{word})",
        rf"(?<=[\[;0-9]m{word})",
        rf"(?<=%[0-9A-Fa-f][0-9A-Fa-f]{word})",
        rf"(?<=\\x[0-9A-Fa-f]{{2}}{word})",
        rf"(?<=\\u[0-9A-Fa-f]{{4}}{word})",
    )
    return f"(?:{'|'.join(before)})"


def _always(_found: str) -> bool:
    return True


def _is_key(found: str) -> bool:
    """Whether this is a random key, and no name such as ``sk-toggleable__label-arrow``."""
    return bool(re.search(r"[0-9A-Z]|[a-z]{20}", found))


def _is_password(found: str) -> bool:
    return not (_MASKS.fullmatch(found) or _PLACEHOLDER.fullmatch(found))


def _is_random(found: str) -> bool:
    """Whether this mixes digits, small and large letters, as no name of a package does."""
    return all(re.search(kind, found) for kind in ("[0-9]", "[A-Z]", "[a-z]"))


def is_mixed(found: str) -> bool:
    """Whether letters and digits alternate, as in no word, number or name."""
    return len(_MEETS.findall(found)) > 1


def _is_value(found: str) -> bool:
    """Whether this is a long value itself, and no name of a variable."""
    return _is_password(found) and bool(re.search(r"[0-9+/=]", found))


def is_listed(found: str) -> bool:
    """Whether this is a password in a list, and no placeholder, word or code."""
    if found.startswith("{") and found.endswith("}"):
        return not (_EXPRESSION.fullmatch(found) or _PLACEHOLDER.fullmatch(found[1:-1]))
    bare = found.rstrip(",.)!?:")
    if not bare or bare.lower() in _NO_PASSWORDS:
        return False
    if found[-1] in "([,)]}" and _CALL.match(found):
        return False
    if "." in bare and _ATTRIBUTE.fullmatch(bare):
        return False
    return _is_password(found) and not (_STAND_IN.fullmatch(bare) or _PLACEHOLDER.fullmatch(bare))


def _anywhere(_match: re.Match[str]) -> bool:
    return True


def _in_list(match: re.Match[str]) -> bool:
    """Whether ``password=…`` is one of several ``key=value``, and no argument of a call."""
    text, (begin, end) = match.string, match.span()
    if text[begin - 1 : begin] == ";":
        return True
    if match["name"].lower() == "pwd" and A_PATH.match(match["secret"]):
        return False  # the working directory in a list of variables
    before = _BREAK.sub("  ", text[max(0, begin - _NEAR) : begin])
    if before.rstrip().endswith(";") and "=" in before:
        return True
    if match["secret"].endswith(","):
        return False
    if before[-1:].isspace():
        last = before.split()[-1:]
        if last and "=" in last[0][1:] and "==" not in last[0] and not last[0].endswith(","):
            return True
    elif before[-1:] not in ("", '"', "'", "`", "="):
        return False
    after = _BREAK.sub("  ", text[end : end + _NEAR])
    if _NEXT.match(after):
        return True
    return before[-1:] in ('"', "'", "`") and bool(_CLOSED.match(after))


@dataclass(frozen=True)
class Kind:
    """A shape that secrets have.

    Parameters
    ----------
    name : str
    hints : tuple of str
        Text without any of them holds none; to ask this costs next to nothing.
    pattern : re.Pattern
        Its group ``secret`` is what is replaced.
    is_secret : callable
        Whether what was found is one after all.
    fits : callable
        Whether the match stands where such secrets do.
    """

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    is_secret: Callable[[str], bool] = _always
    fits: Callable[[re.Match[str]], bool] = _anywhere


def _token(
    name: str,
    prefix: str,
    rest: str = "[A-Za-z0-9]{20,}",
    is_secret: Callable[[str], bool] = _always,
) -> Kind:
    """Return the kind of the tokens that begin with `prefix`, as a word of its own."""
    shape = rf"(?P<secret>{re.escape(prefix)}{_edge(len(prefix))}{rest})"
    return Kind(name, (prefix,), re.compile(shape), is_secret)


_WORD = "[A-Za-z0-9_-]{20,}"
_HEX = "[0-9a-f]{32,}"

#: Kinds that no mask can be a part of.
TOKENS = (
    # Before the tokens of GitHub, the newest of which end in one.
    _token(
        "jwt",
        "eyJ",
        r"[A-Za-z0-9_-]*+"
        r"(?:\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]{8,}){0,2})?",
        lambda found: "." in found,
    ),
    Kind(
        "github-token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        re.compile(r"(?P<secret>gh[pousr]_[A-Za-z0-9_]{20,})"),
    ),
    Kind(
        "github-token",
        ("github_pat_",),
        re.compile(r"(?P<secret>github_pat_[A-Za-z0-9_]{20,})"),
    ),
    _token("api-key", "sk-", _WORD, _is_key),
    Kind("aws-key", ("AKIA", "ASIA"), re.compile(r"(?P<secret>A[KS]IA[A-Z0-9]{16})")),
    Kind("slack-token", ("xox",), re.compile(r"(?P<secret>xox[abeprs]-[A-Za-z0-9-]{10,})")),
    _token("slack-token", "xapp-", "[A-Za-z0-9-]{20,}", _is_random),
    _token("google-key", "AIza", "[A-Za-z0-9_-]{30,}"),
    _token("google-key", "GOCSPX-", _WORD),
    _token("google-token", "ya29.", _WORD),
    _token("huggingface-token", "hf_"),
    Kind(
        "gitlab-token",
        ("glpat-",),
        re.compile(r"(?P<secret>glpat-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{7,9})?)"),
    ),
    *(_token("gitlab-token", prefix, _WORD) for prefix in ("gldt-", "glrt-", "glptt-", "glcbt-")),
    _token("npm-token", "npm_"),
    _token("pypi-token", "pypi-", _WORD, _is_random),
    *(
        _token("stripe-key", prefix, "[A-Za-z0-9]{16,}")
        for prefix in ("sk_live_", "rk_live_", "sk_test_", "rk_test_")
    ),
    _token("stripe-key", "whsec_"),
    _token("databricks-token", "dapi", _HEX),
    *(_token("digitalocean-token", prefix, _HEX) for prefix in ("dop_v1_", "doo_v1_", "dor_v1_")),
    _token("docker-token", "dckr_pat_", _WORD),
    _token("groq-key", "gsk_", "[A-Za-z0-9]{30,}"),
    _token("kaggle-token", "KGAT_", _HEX),
    *(_token("langsmith-key", prefix, "[0-9a-f_]{32,}") for prefix in ("lsv2_pt_", "lsv2_sk_")),
    _token("linear-key", "lin_api_", "[A-Za-z0-9]{30,}"),
    _token("notion-token", "ntn_", "[A-Za-z0-9]{30,}"),
    _token("perplexity-key", "pplx-", "[A-Za-z0-9]{30,}"),
    _token("pinecone-key", "pcsk_", "[A-Za-z0-9_]{30,}"),
    _token("replicate-token", "r8_", "[A-Za-z0-9]{30,}"),
    _token("sendgrid-key", "SG.", r"[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}"),
    *(_token("shopify-token", prefix, _HEX) for prefix in ("shpat_", "shpca_", "shppa_", "shpss_")),
    _token("tavily-key", "tvly-", _WORD, _is_random),
    _token("vault-token", "hvs.", _WORD, _is_random),
    _token("xai-key", "xai-", "[A-Za-z0-9]{40,}"),
    _token("age-key", "AGE-SECRET-KEY-", "[A-Z0-9]{40,}"),
    Kind(
        "azure-secret",
        ("Q~",),
        re.compile(r"(?P<secret>[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34})"),
    ),
)

#: In a private key that is cut off.
_SPACE = r"(?:\s|\\[nr])*+"
_REST = rf"{_SPACE}[A-Za-z0-9+/=]{{8,}}+(?=\.{{3}}|…|[\"']?\Z)"

#: Kinds told by what stands around the secret, a part of which may be masked already.
PLACES = (
    Kind(
        "private-key",
        ("PRIVATE KEY",),
        re.compile(
            r"(?P<secret>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:"
            r"[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            # The end is cut off: whole lines, and what is left of the next.
            rf"|(?:{_SPACE}[A-Za-z0-9+/]{{40,}}+={{0,2}})++(?:{_REST})?|{_REST}))"
        ),
    ),
    Kind(
        "password",
        ("://",),
        re.compile(
            r"://(?<=[A-Za-z0-9+.-]://)"
            rf"[^\s/:@‹›]*+(?:{MASK.pattern}[^\s/:@‹›]*+)*+"
            r":(?P<secret>[^\s/?#\"`<>]+)@"
        ),
        _is_password,
    ),
    Kind(  # cut off before its @, as pandas does in a table
        "password",
        ("...", "…"),
        re.compile(
            r"://[^\s/:@‹›]*+:(?!\d+\W)(?P<secret>[^\s/?#@\"'`<>‹›.…]{4,}+)(?=\.{3}|…)",
        ),
        _is_value,
    ),
    Kind(
        "token",
        ("://",),
        re.compile(r"://(?P<secret>[A-Za-z0-9_-]{20,128}+)@"),
        is_mixed,
    ),
    Kind(
        "webhook",
        ("hooks.slack.com/",),
        re.compile(
            r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/_-]{20,}+)"
        ),
    ),
    Kind(
        "signature",
        ("-Signature=",),
        re.compile(r"X-(?:Amz|Goog)-Signature=(?P<secret>[0-9a-fA-F]{32,}+)"),
    ),
    Kind(
        "authorization",
        ("uthorization", "UTHORIZATION"),
        re.compile(
            r"[Aa](?:uthorization|UTHORIZATION)[^A-Za-z0-9‹›]{1,16}"
            # Behind the other two words, what is short is prose.
            r"(?i:bearer\s{1,4}|(?:basic|token)\s{1,4}(?=\S{16}))"
            r"(?P<secret>[A-Za-z0-9._~+/=:‹›-]{6,})"
        ),
        _is_password,
    ),
    Kind(
        "azure-key",
        ("AccountKey=", "SharedAccessKey="),
        re.compile(r"(?:Account|SharedAccess)Key=(?P<secret>[\w+/=%.:‹›-]{16,})"),
        _is_value,
    ),
    Kind(
        "signature",
        ("sig=",),
        # Behind the & of an address, which JSON or HTML may have escaped.
        re.compile(r"sig=(?:(?<=[?&;]sig=)|(?<=\\u0026sig=))(?P<secret>[\w+/=%.:‹›~-]{16,})"),
        _is_value,
    ),
    Kind(
        "password",
        ("assword=", "ASSWORD=", "wd=", "WD="),
        re.compile(
            r"(?P<name>[Pp](?i:assword|asswd|wd))=(?:"
            # Braces and quotes may hold all that ends a value otherwise; a quote that ends
            # the text, as in "Password=" + password + ";", is none of them.
            r"(?P<quote>[\"'])(?=[^\s+,&.)%}\];:|]))?"
            r"(?P<secret>(?(quote)[^\"'\r\n\\]{1,128}+(?=(?P=quote)(?:[;\s\"'`\\]|\Z))"
            r"|(?:\{[^{}\r\n\"'`\\]{1,128}\}(?=[;\s\"'`\\]|\Z)"
            r"|(?:[^\s;\"'`\\]++|\\++(?![\"'`nrt]))++)))(?(quote)(?P=quote))"
        ),
        is_listed,
        _in_list,
    ),
)
