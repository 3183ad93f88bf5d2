"""What a sign-in is given: a host, and a token that shows itself to nobody."""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import urlsplit

from copilot_jupyter.errors import BadInputError

#: The host that is meant when none is named.
GITHUB = "https://github.com"

#: Which tokens the runtime takes, in words for a person.
WHAT_IS_TAKEN = (
    'Use a fine-grained personal access token (github_pat_...) with the "Copilot Requests" '
    "permission, or an OAuth token of Copilot or of the GitHub CLI (gho_..., ghu_...)."
)

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|::1")


class Token:
    """A secret that shows itself to nobody who does not ask for it.

    Parameters
    ----------
    value : str
        The secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Token(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A token is never written anywhere.")


def check_host(text: str) -> str:
    """Return a host as the runtime wants it.

    Parameters
    ----------
    text : str
        ``github.com``, ``https://tenant.ghe.com``, or empty for github.com.

    Returns
    -------
    str
        With its scheme and no slash at the end.

    Raises
    ------
    BadInputError
        It is no host, or a token would travel to it unencrypted.
    """
    text = text.strip()
    if not text:
        return GITHUB
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_host() from None
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if any(rest) or not _HOST_NAME.fullmatch(name) or parts.scheme not in {"https", "http"}:
        raise _bad_host()
    if parts.scheme == "http" and name not in _LOOPBACK:
        raise BadInputError(
            f"http://{name} is not encrypted, and the sign-in would travel in the clear.",
            "Use https.",
        )
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


def _bad_host() -> BadInputError:
    # Without what was typed: a token typed after --host must not come back in an output.
    return BadInputError(
        "That is not a host that can be signed in to.",
        "Write it like github.com or your-company.ghe.com.",
    )
