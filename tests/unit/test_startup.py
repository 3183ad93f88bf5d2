"""``copilot-jupyter enable`` and ``disable``: they write what is ours and nothing else."""

from __future__ import annotations

import sys

import pytest
from traitlets.config import PyFileConfigLoader

from copilot_jupyter import cli, startup
from copilot_jupyter.errors import BadInputError, SetupError

THEIRS = b"c = get_config()\r\nc.InteractiveShellApp.extensions = ['autoreload']\n# \xe9\n"


@pytest.fixture(autouse=True)
def prefix(tmp_path, monkeypatch):
    """A Python environment and an IPython folder of this test's own."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


@pytest.fixture
def user(tmp_path):
    return tmp_path / "ipython/profile_default/startup/50-copilot_jupyter.py"


@pytest.fixture
def env(tmp_path):
    return tmp_path / "env/etc/ipython/ipython_config.py"


def extensions(path):
    """What IPython reads out of a configuration file."""
    config = PyFileConfigLoader(path.name, str(path.parent)).load_config()
    return config.InteractiveShellApp.extensions


@pytest.mark.parametrize("place", ["user", "env"])
def test_disable_takes_away_what_enable_wrote(place, request):
    path = request.getfixturevalue(place)
    assert str(path) in startup.enable(place)
    assert path.exists()
    assert "removed" in startup.disable(place)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("place", ["user", "env"])
def test_twice_is_once_and_each_says_one_line(place, request):
    path = request.getfixturevalue(place)
    lines = [startup.enable(place)]
    once = path.read_bytes()
    lines += [startup.enable(place), startup.disable(place), startup.disable(place)]
    assert len(set(lines)) == 4
    assert all(str(path) in line and "\n" not in line for line in lines)
    startup.enable(place)
    assert path.read_bytes() == once


@pytest.mark.parametrize("place", ["user", "env"])
def test_an_older_version_of_our_lines_is_replaced(place, request):
    path = request.getfixturevalue(place)
    startup.enable(place)
    now = path.read_bytes()
    path.write_bytes(now.replace(b"# Written by", b"# Long ago written by"))
    assert "wrote" in startup.enable(place)
    assert path.read_bytes() == now


def test_the_rest_of_a_shared_file_is_left_byte_for_byte(env):
    env.parent.mkdir(parents=True)
    env.write_bytes(THEIRS)
    env.chmod(0o664)
    startup.enable("env")
    assert env.read_bytes().startswith(THEIRS)
    assert env.stat().st_mode & 0o777 == 0o664
    startup.disable("env")
    assert env.read_bytes() == THEIRS


def test_what_others_wrote_behind_our_lines_stays(env):
    startup.enable("env")
    env.write_bytes(env.read_bytes() + THEIRS)
    startup.disable("env")
    assert env.read_bytes() == THEIRS


def test_a_last_line_without_an_end_is_not_run_together_with_ours(env):
    env.parent.mkdir(parents=True)
    env.write_bytes(b"c = get_config()")
    startup.enable("env")
    assert extensions(env).get_value([]) == ["copilot_jupyter"]
    startup.disable("env")
    assert env.read_bytes() == b"c = get_config()\n"


def test_a_linked_file_stays_a_link(env, tmp_path):
    target = tmp_path / "dotfiles.py"
    target.write_bytes(THEIRS)
    env.parent.mkdir(parents=True)
    env.symlink_to(target)
    startup.enable("env")
    assert env.is_symlink()
    assert target.read_bytes().startswith(THEIRS + b"# >>>")


def test_ipython_reads_the_extension_beside_others(env):
    env.parent.mkdir(parents=True)
    env.write_bytes(THEIRS.replace(b"\xe9", b"e"))
    startup.enable("env")
    assert extensions(env) == ["autoreload", "copilot_jupyter"]


@pytest.mark.parametrize("place", ["user", "env"])
def test_without_the_package_nothing_happens_and_nothing_is_left(place, request, monkeypatch):
    """As after ``pip uninstall``; other errors of a start are not hidden."""
    path = request.getfixturevalue(place)
    startup.enable(place)
    code = compile(path.read_bytes().replace(b"copilot_jupyter", b"not_there"), path, "exec")

    class Shell:
        def load_extension(self, name):
            __import__(name)

    shell = Shell()
    shell.extension_manager = shell
    names = {"get_ipython": lambda: shell, "get_config": lambda: pytest.fail("was asked for")}
    before = set(names) | {"__builtins__"}
    exec(code, names)
    assert set(names) == before


def test_a_broken_package_says_so_at_the_start(user):
    startup.enable("user")

    class Shell:
        def load_extension(self, name):
            raise ModuleNotFoundError("No module named 'traitlets'", name="traitlets")

    shell = Shell()
    shell.extension_manager = shell
    with pytest.raises(ModuleNotFoundError, match="traitlets"):
        exec(user.read_text(), {"get_ipython": lambda: shell})


@pytest.mark.parametrize("action", [startup.enable, startup.disable])
def test_a_file_of_that_name_that_is_not_ours_is_not_touched(action, user):
    user.parent.mkdir(parents=True)
    user.write_text("print('mine')\n")
    with pytest.raises(BadInputError, match=r"50-copilot_jupyter\.py is not as"):
        action("user")
    assert user.read_text() == "print('mine')\n"


@pytest.mark.parametrize("action", [startup.enable, startup.disable])
@pytest.mark.parametrize("place", ["user", "env"])
def test_half_a_block_is_not_touched(action, place, request):
    path = request.getfixturevalue(place)
    startup.enable(place)
    half = path.read_bytes().partition(b"# <<<")[0]
    path.write_bytes(half)
    with pytest.raises(BadInputError, match="left as it is"):
        action(place)
    assert path.read_bytes() == half


def test_a_folder_that_cannot_be_made_is_an_error_in_two_sentences(env, tmp_path):
    (tmp_path / "env").write_text("")  # root may write everywhere, but not below a file
    with pytest.raises(SetupError) as failure:
        startup.enable("env")
    assert str(env) in failure.value.what
    assert "written" in failure.value.what
    assert "--user" in failure.value.do


def test_an_ipython_folder_that_cannot_be_used_is_not_replaced_by_a_temporary_one(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "file" / "ipython"))
    with pytest.raises(SetupError, match="not a writable location"):
        startup.enable("user")


def test_a_write_that_fails_leaves_the_old_file(env, monkeypatch):
    env.parent.mkdir(parents=True)
    env.write_bytes(THEIRS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(SetupError, match="No space left"):
        startup.enable("env")
    assert env.read_bytes() == THEIRS
    assert [path.name for path in env.parent.iterdir()] == [env.name]


def test_the_command_line(user, env, capsys):
    assert cli.main(["enable"]) == 0
    assert user.exists()
    assert cli.main(["enable", "--env"]) == 0
    assert env.exists()
    assert cli.main(["disable"]) == 0  # wherever it was enabled
    assert not user.exists()
    assert not env.exists()
    assert len(capsys.readouterr().out.splitlines()) == 4
    cli.main(["enable", "--env"])
    cli.main(["disable", "--user"])
    assert env.exists()


def test_the_command_line_says_why_not(tmp_path, capsys):
    (tmp_path / "env").write_text("")
    assert cli.main(["enable", "--env"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
