"""The runtime's own ``config.json``, where it keeps a token if there is no keychain."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_jupyter.errors import SetupError

if TYPE_CHECKING:
    from .account import Account


def forget(path: Path, account: Account) -> None:
    """Take an account and its token out of the runtime's ``config.json``."""
    by_hand = SetupError(
        f"The token of {account.login} may still be in {path}: the file could not be changed.",
        f"Delete its entries under authTokens, or revoke the token at {account.host}.",
    )
    path = path.resolve()
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        raise by_hand from None
    comments = "".join(line for line in lines if line.lstrip().startswith("//"))
    try:
        data = json.loads("".join(line for line in lines if not line.lstrip().startswith("//")))
        _drop(data, account)
    except (ValueError, TypeError, AttributeError):
        raise by_hand from None
    text = f"{comments}{json.dumps(data, indent=2, ensure_ascii=False)}\n"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config.")  # readable by us only
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        raise by_hand from None


def _drop(data: dict[str, Any], account: Account) -> None:
    who = {"host": account.host, "login": account.login}
    key = f"{account.host}:{account.login}"
    tokens = data.get("authTokens", {})
    for name in [n for n in tokens if n == key or n.startswith(f"{key}:")]:
        del tokens[name]
    users = data.get("loggedInUsers", [])
    users[:] = [u for u in users if {"host": u.get("host"), "login": u.get("login")} != who]
    last = data.get("lastLoggedInUser", {})
    if {"host": last.get("host"), "login": last.get("login")} == who:
        del data["lastLoggedInUser"]
