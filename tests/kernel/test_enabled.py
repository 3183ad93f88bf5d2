"""``copilot-jupyter enable``: a kernel that starts has the magics, and says nothing about it."""

from __future__ import annotations

from drivers import NotebookKernel

from copilot_jupyter import startup

#: What is there without underscores, IPython's own history aside.
NAMES = "print([name for name in sorted(globals()) if not name.startswith('_')])"


def test_a_started_kernel_has_the_magics_with_nothing_printed(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    quiet = {**desk.env, "IPYTHONDIR": str(tmp_path / "ipython")}
    with NotebookKernel(desk.folder / "Before.ipynb", env=quiet) as kernel:
        assert kernel.run("%%copilot\nHello").status == "error"
        said, names = kernel.terminal, kernel.run(NAMES).ok().text
    startup.enable("user")
    with NotebookKernel(desk.folder / "Analysis.ipynb", env=quiet) as kernel:
        assert kernel.run(NAMES).ok().text == names
        for _ in range(2):
            answer = kernel.run("%%copilot\nHello").ok()
            assert answer.shown == "Answer 1 to: Hello"  # the second time, the stored one
            # Notebooks that have the line still run, and keep nothing of it.
            assert kernel.run("%load_ext copilot_jupyter").ok().text == ""
            assert set(kernel.terminal.splitlines()) == set(said.splitlines())
            kernel.restart()
    startup.disable("user")
    with NotebookKernel(desk.folder / "After.ipynb", env=quiet) as kernel:
        assert kernel.run("%%copilot\nHello").status == "error"
