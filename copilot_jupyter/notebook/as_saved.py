"""A notebook's file as it was last saved, read again only when it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


class AsSaved(Generic[T]):
    """What a reader finds in a file, kept until the file is another.

    Parameters
    ----------
    read : callable
        Takes the path; what it raises is raised each time.
    """

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._found: tuple[tuple[object, ...], T] | None = None

    def read(self, path: Path) -> T:
        """Return what the file says."""
        try:
            stat = path.stat()
        except OSError:
            return self._read(path)
        seen = (path, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._found is None or self._found[0] != seen:
            self._found = (seen, self._read(path))
        return self._found[1]
