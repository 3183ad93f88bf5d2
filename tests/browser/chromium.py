"""Find a Chromium to drive, or install Debian's; run as a script, print where it is.

Looked for in this order: the variable ``CHROMIUM``, the PATH, the one that
Playwright downloads. On a fresh Debian or Ubuntu machine where we are root it
is installed with apt-get. Tests never skip because it is missing: a machine
that cannot run the browser tests has not run the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "The browser tests need a Chromium and found none. Install one "
    "(`apt-get install chromium`, or `playwright install chromium`), "
    "or name one in the variable CHROMIUM."
)
#: Seconds apt-get may take, the lists included.
INSTALL_LIMIT = 600


class NoChromiumError(RuntimeError):
    """There is no Chromium, and none could be installed."""


def find(own: str | None = None) -> str | None:
    """Return the path of a Chromium; `own` is where Playwright would keep its own."""
    if named := os.environ.get("CHROMIUM"):
        if found := shutil.which(named):
            return found
        raise NoChromiumError(f"CHROMIUM is {named!r}, which is no program that can be run.")
    for name in NAMES:
        if found := shutil.which(name):
            return found
    return own if own and Path(own).exists() else None


def require(own: str | None = None) -> str:
    """Return the path of a Chromium, installing Debian's if that is possible."""
    if found := find(own):
        return found
    problem = _install()
    if found := find(own):
        return found
    raise NoChromiumError(f"{MISSING}\n{problem}")


def _install() -> str:
    """Install Debian's package; return why it did not work, or nothing."""
    apt = shutil.which("apt-get")
    if apt is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "(It was not installed for you: that takes root and apt-get.)"
    lock = ["-o", "DPkg::Lock::Timeout=120"]
    commands = [
        [apt, *lock, "update"],
        [apt, *lock, "install", "-y", "--no-install-recommends", "chromium"],
    ]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        try:
            done = subprocess.run(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=INSTALL_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"`{' '.join(command)}` took longer than {INSTALL_LIMIT} s."
        if done.returncode:
            return f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}"
    return ""


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


if __name__ == "__main__":
    try:
        print(find() or require(_playwrights_own()))
    except NoChromiumError as error:
        sys.exit(str(error))
