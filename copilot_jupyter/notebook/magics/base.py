"""What all classes of magics have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import Magics

if TYPE_CHECKING:
    from copilot_jupyter.notebook.desk import Desk


class DeskMagics(Magics):
    """Magics that work with a desk.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.shell)
        self.desk = desk
