"""The rules of detect-secrets, where it is installed: kinds of tokens that ours do not know.

Only its detectors of one provider's tokens each. Those that guess by entropy or by a
keyword beside the value take too much of an ordinary prompt with them.
"""

from __future__ import annotations

import logging
import re
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGIT = re.compile("[0-9]")
#: Characters that are looked at together, and how many of them once more: a token is shorter.
_PIECE, _OVERLAP = 2_000, 300
#: Detectors of things that are no secrets, or that ours finds with fewer false ones.
_NOT_THESE = frozenset(
    ("BasicAuthDetector", "IPPublicDetector", "JwtTokenDetector", "PrivateKeyDetector")
)


def found(text: str) -> Iterator[tuple[str, str]]:
    """Yield the secrets of a text, each with its kind; none where the package is missing.

    Parameters
    ----------
    text : str
    """
    detectors = _detectors()
    for piece in _pieces(text) if detectors else ():
        for kind, detector in detectors:
            for secret in detector.analyze_string(piece):
                # A rule without regard to case takes genes for a key, which has digits.
                if secret and _DIGIT.search(secret):
                    yield secret, kind


def _pieces(text: str) -> Iterator[str]:
    """Yield the lines, long ones in pieces: some of the rules take quadratic time."""
    for line in text.splitlines():
        for start in range(0, len(line), _PIECE - _OVERLAP):
            yield line[start : start + _PIECE]


@cache
def _detectors() -> tuple[tuple[str, Any], ...]:
    shows_warning = warnings.showwarning
    try:
        from detect_secrets.core.plugins.util import (  # type: ignore[import-untyped,unused-ignore]
            get_mapping_from_secret_type_to_class,
        )
        from detect_secrets.plugins.base import (  # type: ignore[import-untyped,unused-ignore]
            RegexBasedDetector,
        )
    except ImportError:
        return ()
    finally:
        if warnings.showwarning is not shows_warning:
            logging.captureWarnings(capture=False)  # its import turns that on, for the whole kernel
    kinds: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    return tuple(
        (kind.__name__.removesuffix("Detector"), kind())
        for kind in sorted(kinds, key=lambda kind: kind.__name__)
        if issubclass(kind, RegexBasedDetector) and kind.__name__ not in _NOT_THESE
    )
