"""The markers that a git merge leaves in a file, which then is no notebook and no bundle."""

from __future__ import annotations

import re

_MARKER = re.compile(rb"^(?:<{7}|\|{7}|={7}|>{7})(?=[ \r\n]|\Z)", re.M)


def conflict_line(data: bytes) -> int:
    """Return the number of the first line that is a conflict's marker, from 1; 0 if none is.

    Parameters
    ----------
    data : bytes
        Of a text file.
    """
    marker = _MARKER.search(data)
    return data.count(b"\n", 0, marker.start()) + 1 if marker else 0
