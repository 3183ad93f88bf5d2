"""`%copilot_login` and `%copilot_logout` in a real kernel; GitHub itself is out of reach here."""

from __future__ import annotations

import uuid

from desk import Desk, two_lines

TOKEN = "gho_" + uuid.uuid4().hex + "MADEUP"


def everything_below(desk: Desk) -> bytes:
    """All that is on disk after a failed sign-in."""
    files = [path for path in desk.home.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def test_a_token_is_asked_for_hidden_and_kept_nowhere(desk: Desk) -> None:
    kernel = desk.notebook(answers=[TOKEN])
    result = kernel.run("%copilot_login --token --host https://tenant.ghe.invalid")
    said = two_lines(result, "SetupError")
    [prompt] = result.prompts
    assert prompt.password
    assert "tenant.ghe.invalid" in said
    assert TOKEN not in result.everything
    assert TOKEN not in kernel.run("print(_ih, _oh, Out)").ok().everything
    assert TOKEN.encode() not in everything_below(desk)
    assert TOKEN not in kernel.terminal


def test_a_token_typed_into_the_cell_is_refused_and_not_repeated(desk: Desk) -> None:
    result = desk.notebook().run(f"%copilot_login {TOKEN}")
    assert TOKEN not in two_lines(result, "BadInputError")


def test_nothing_typed_changes_nothing(desk: Desk) -> None:
    result = desk.notebook(answers=[""]).run("%copilot_login --token")
    assert "No token was typed" in two_lines(result, "BadInputError")


def test_a_bad_host_is_named(desk: Desk) -> None:
    result = desk.notebook().run("%copilot_login --token --host 'not a host'")
    two_lines(result, "BadInputError")
    assert not result.prompts, "the host is looked at before the token is asked for"


def test_nobody_can_sign_in_where_nobody_can_answer(desk: Desk) -> None:
    result = desk.headless().run("%copilot_login --token")
    assert "COPILOT_GITHUB_TOKEN" in two_lines(result, "BadInputError")


def test_signing_out_where_nobody_is_signed_in_says_so(desk: Desk) -> None:
    result = desk.notebook().run("%copilot_logout")
    assert "Nobody is signed in." in result.ok().everything


def test_an_ask_without_a_sign_in_names_the_ways_to_go_on(desk: Desk) -> None:
    kernel = desk.notebook(env={"COPILOT_PROVIDER_BASE_URL": None, "COPILOT_MODEL": None})
    said = two_lines(kernel.run("%%copilot\nAnybody there?"), "NoProviderError")
    for way in ("%copilot_login", "COPILOT_PROVIDER_BASE_URL", "'local'"):
        assert way in said
