"""What stands in the place of a secret, and shows its variable or its kind."""

from __future__ import annotations

import re

#: Every mask begins with it.
OPEN = "‹secret:"
#: One mask, as the group of a pattern.
MASK = re.compile(r"(‹secret:[\w.-]{1,100}›)")


def mask(name: str) -> str:
    """Return the mask for a secret of this name or kind."""
    name = re.sub(r"[^\w.-]", "_", name)[:100]
    return f"{OPEN}{name or '_'}›"
