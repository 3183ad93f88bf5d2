"""Secrets in text that leaves this machine: which are found, and what is left alone."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copilot_jupyter.conversation.secrets import Shield

if TYPE_CHECKING:
    from pathlib import Path

# Put together here, so that no scanner takes this file for a leak.
RANDOM = "a1B2c3D4e5F6g7H8i9J0"
GITHUB = "ghp_" + RANDOM * 2
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl" + RANDOM
HEADERS = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,1A\n\n"
PEM = "-----BEGIN {0}PRIVATE KEY-----\n{1}\n{1}\n-----END {0}PRIVATE KEY-----"

TOKENS = [
    (GITHUB, "github-token"),
    ("gho_" + RANDOM, "github-token"),
    ("ghu_" + RANDOM, "github-token"),
    ("ghs_" + RANDOM, "github-token"),
    ("ghr_" + RANDOM, "github-token"),
    ("github_pat_" + RANDOM + "_" + RANDOM, "github-token"),
    ("sk-" + RANDOM, "api-key"),
    ("sk-proj-" + RANDOM + "_-" + RANDOM, "api-key"),
    ("sk-ant-api03-" + RANDOM + "-AA", "api-key"),
    ("sk-" + "abcd" * 5, "api-key"),
    ("AKIA" + "IOSFODNN7EXAMPLE", "aws-key"),
    ("ASIA" + "IOSFODNN7EXAMPLE", "aws-key"),
    ("xoxb-1234567890-" + RANDOM, "slack-token"),
    ("xoxp-1234567890-" + RANDOM, "slack-token"),
    ("AIza" + RANDOM + "_-" + RANDOM[:13], "google-key"),
    ("hf_" + RANDOM + RANDOM[:14], "huggingface-token"),
    (JWT, "jwt"),
    (PEM.format("", RANDOM * 3), "private-key"),
    (PEM.format("OPENSSH ", RANDOM * 3), "private-key"),
    (PEM.format("RSA ", HEADERS + RANDOM), "private-key"),
    (PEM.format("EC ", RANDOM * 3).replace("\n", "\\n"), "private-key"),
]  # fmt: skip


def scrubbed(text: str, **environ: str) -> str:
    return Shield.of(environ).scrub(text)


# -- kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("secret", "kind"), TOKENS)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "key = '{}'",
        'f("{}")',
        "a\n{}\nb",
        "{},{}",
        "\\n{}\\n",
        "\x1b[31m{}\x1b[0m",
        "%3D{}&",
        "\\x22{}\\x22",
        "\\u0022{}\\u0022",
    ],
)
def test_a_token_is_replaced_wherever_it_stands(secret, kind, around):
    shield = Shield()
    text = around.replace("{}", secret)
    assert shield.scrub(text) == around.replace("{}", f"‹secret:{kind}›")
    assert shield.count == around.count("{}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a plain sentence, with a task-force and a risk-assessment-for-2024-and-later",
        "the class sk-toggleable__label-arrow of scikit-learn, and sk-short1",
        "ghp_short and github_pat_ and gh_aaaaaaaaaaaaaaaaaaaaaaaa",
        "AKIA, ASIA and FANTASIA; AKIAlowercaseletters0",
        "surveyJson.propertiesList.requiredItems and eyJ.eyJ and eyJabcdefg...",
        f"half_{RANDOM} and chf_{RANDOM}",
        "hf_hub_download_and_something_else(hf_token)",
        "AIza, AIzaTooShort",
        "a header such as -----BEGIN PRIVATE KEY----- is only its first line",
        "-----BEGIN CERTIFICATE-----\n" + RANDOM * 3 + "\n-----END CERTIFICATE-----",
        "Authorization: Bearer {token}, Authorization: Bearer $TOKEN, Authorization: Bearer <it>",
        "authorization: basic authentication, and the bearer certificates of Mr. Authorization",
        "http://localhost:8888/lab?a@b ssh://git@github.com:22/a https://host/a:b@c",
        '{"url":"http://localhost:8888","mail":"a@b.c"}',
        "mailto:ana@example.org git@github.com:ana/work.git ://:@",
        f"iVBORw0KGgo{RANDOM}AIza{RANDOM}{RANDOM}==",
    ],
)
def test_what_is_no_secret_stays(text):
    shield = Shield.of({"TOKEN": "not-in-here"})
    assert shield.scrub(text) == text
    assert shield.count == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("postgres://ana:{}@db:5432/x", "s3cret"),
        ("postgresql+psycopg2://ana:{}@db/x?a=b", "p"),
        ("redis://:{}@cache", "s3cret"),
        ("https://x-access-token:{}@github.com/a", "with:colon"),
        ("mongodb+srv://ana:{}@h", "p@ss@w:rd"),
        ("see <amqp://ana:{}@mq>, then", "it's%20"),
    ],
)
def test_only_the_password_of_a_connection_string_is_replaced(before, after):
    shield = Shield()
    assert shield.scrub(before.format(after)) == before.format("‹secret:password›")
    assert shield.count == 1


@pytest.mark.parametrize(
    "password", ["{password}", "{{ password }}", "${PASSWORD}", "$PASSWORD", "%s", "***", "..."]
)
def test_a_password_still_to_be_put_in_stays(password):
    text = f"postgres://ana:{password}@db"
    assert scrubbed(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Authorization: Bearer {}", "abc123.def-456"),
        ("curl -H 'authorization: bearer {}' https://x", "abc123"),
        ('{{"Authorization": "Bearer {}"}}', "abc123=="),
        ('{{\\"Authorization\\": \\"Bearer {}\\"}}', "abc123"),
        ('headers["Authorization"] = "Bearer {}"', "abc123"),
        ("AUTHORIZATION: BEARER {}", "abc123"),
        ("Authorization: Basic {}", "dXNlcjpwYXNzd29yZA=="),
        ("Authorization: token {}", "0123456789abcdef0123"),
    ],
)
def test_the_token_of_an_authorization_header_is_replaced(before, after):
    shield = Shield()
    assert shield.scrub(before.format(after)) == before.format("‹secret:authorization›")
    assert shield.count == 1


def test_a_known_token_in_a_header_or_an_address_keeps_its_own_name():
    assert scrubbed(f"Authorization: Bearer {GITHUB}") == (
        "Authorization: Bearer ‹secret:github-token›"
    )
    assert (
        scrubbed(f"https://x:{GITHUB}@github.com") == "https://x:‹secret:github-token›@github.com"
    )
    assert scrubbed(f"https://{GITHUB}@github.com") == "https://‹secret:github-token›@github.com"


def test_nothing_of_a_password_stays_around_a_secret_in_it():
    assert scrubbed("a://u:begin-hunter22-end@h", MY_TOKEN="hunter22") == (
        "a://u:‹secret:password›@h"
    )


def test_a_secret_that_begins_where_another_ends_goes_too():
    shield = Shield()
    text = f"AKIAIOSFODNN7EXAMPLEsk-{RANDOM}"
    assert shield.scrub(text) == "‹secret:aws-key›‹secret:api-key›"
    assert shield.count == 2


def test_a_password_behind_a_masked_user_goes_too():
    assert scrubbed("a://hunter-22:pass@h", MY_TOKEN="hunter-22") == (
        "a://‹secret:MY_TOKEN›:‹secret:password›@h"
    )


def test_all_five_parts_of_an_encrypted_token_go():
    assert scrubbed(f"<{JWT}.{RANDOM}.{RANDOM}>") == "<‹secret:jwt›>"


def test_the_whole_of_a_new_github_token_goes():
    assert JWT.split(".")[1] not in scrubbed(f"ghs_1234567_{JWT} and on")


def test_a_private_key_that_is_cut_off_goes_and_the_prose_behind_stays():
    cut = PEM.format("", "\n".join([RANDOM * 3] * 3)).partition("-----END")[0]
    assert scrubbed(f"{cut}\nand so on") == "‹secret:private-key›\n\nand so on"


# -- the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("GH_TOKEN", "MY_SECRET", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "PASSWD"),
        *("OPENAI_API_KEY", "SOMEAPIKEY", "AWS_CREDENTIALS", "CREDENTIAL", "SSH_PRIVATE_KEY"),
        *("npm_config__authtoken", "SECRETKEY", "TOKEN_2", "API_KEYS"),
    ],
)
def test_the_value_of_a_variable_that_holds_a_secret_is_replaced(name):
    shield = Shield.of({name: "hunter-22"})
    assert shield.scrub("it is hunter-22, or xhunter-22x") == (
        f"it is ‹secret:{name}›, or x‹secret:{name}›x"
    )
    assert shield.count == 2


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "TOKENIZERS_PARALLELISM", "SECRETARY", "PASSWORDLESS_X", "KEYBOARD"]
)
def test_the_values_of_other_variables_stay(name):
    assert scrubbed("hunter-22", **{name: "hunter-22"}) == "hunter-22"


@pytest.mark.parametrize("value", ["", "true", "1234567", "password", "Disabled", "   short   "])
def test_values_that_any_text_may_hold_stay(value):
    text = f"<{value}> or <{value.strip()}>"
    assert scrubbed(text, MY_TOKEN=value) == text


def test_a_path_that_exists_is_no_secret_and_one_that_does_not_may_be(tmp_path: Path):
    there, missing = str(tmp_path), f"{tmp_path}/9a8b7c"
    assert scrubbed(f"open({there!r})", TOKEN_FILE=there) == f"open({there!r})"
    assert scrubbed(f"<{missing}>", MY_TOKEN=missing) == "<‹secret:MY_TOKEN›>"


@pytest.mark.parametrize("value", ["x/" * 3000, "~nobody-at-all/abc", "abc/def\x00ghi"])
def test_a_value_that_cannot_be_a_path_is_a_secret(value):
    assert scrubbed(f"<{value}>", MY_TOKEN=value) == "<‹secret:MY_TOKEN›>"


def test_the_longest_value_comes_first():
    shield = Shield.of({"A_TOKEN": "hunter-22", "B_TOKEN": "hunter-22-and-more"})
    assert shield.scrub("hunter-22-and-more hunter-22") == "‹secret:B_TOKEN› ‹secret:A_TOKEN›"
    shield = Shield.of({"A_TOKEN": "12345678", "B_TOKEN": "5678abcdefgh"})
    assert shield.scrub("12345678abcdefgh") == "1234‹secret:B_TOKEN›"


def test_two_names_of_one_value_give_the_same_text_in_any_order():
    environ = {"GITHUB_TOKEN": "hunter-22", "GH_TOKEN": "hunter-22"}
    other = dict(reversed(environ.items()))
    assert scrubbed("hunter-22", **environ) == scrubbed("hunter-22", **other) == "‹secret:GH_TOKEN›"


def test_a_value_is_found_in_json_and_in_an_address():
    value = 'a"b\nc/é@d'
    for spelled in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert scrubbed(f"x = {spelled}", MY_SECRET=value) == 'x = "‹secret:MY_SECRET›"'
    assert scrubbed("?q=a%22b%0Ac%2F%C3%A9%40d", MY_SECRET=value) == "?q=‹secret:MY_SECRET›"


@pytest.mark.parametrize("name", ["A›‹ B TOKEN", "TOKEN_" + GITHUB, "TOKEN" + "_x" * 500])
def test_a_strange_name_makes_a_mask_that_stays(name):
    shield = Shield.of({name: "hunter-22"})
    once = shield.scrub("<hunter-22>")
    assert once.startswith("<‹secret:")
    assert len(once) < 120
    assert shield.scrub(once) == once
    assert shield.count == 1


def test_a_value_that_a_mask_holds_leaves_the_mask_alone():
    shield = Shield.of({"MY_TOKEN": "github-token", "API_KEY": "MY_TOKEN"})
    assert shield.scrub(f"{GITHUB} github-token") == "‹secret:github-token› ‹secret:MY_TOKEN›"
    assert shield.scrub("‹secret:MY_TOKEN› MY_TOKEN") == "‹secret:MY_TOKEN› ‹secret:API_KEY›"


# -- values -----------------------------------------------------------------------------------


def test_all_texts_of_a_value_are_scrubbed_and_nothing_else():
    value = {
        "hunter-22": ["hunter-22", {"b": (f"a {GITHUB}", None, True, 1.5)}],
        "n": 22,
    }
    before = json.dumps(value)
    shield = Shield.of({"MY_TOKEN": "hunter-22"})
    assert shield.scrub_all(value) == {
        "hunter-22": ["‹secret:MY_TOKEN›", {"b": ["a ‹secret:github-token›", None, True, 1.5]}],
        "n": 22,
    }
    assert shield.count == 2
    assert json.dumps(value) == before


def test_the_keys_of_a_value_keep_their_order():
    value = {"z": "1", "a": {"y": "1", "b": ["1"]}, "m": "1"}
    assert json.dumps(Shield().scrub_all(value)) == json.dumps(value)


def test_a_value_may_be_nested_more_deeply_than_calls():
    value: list = [GITHUB]
    for _ in range(5000):
        value = [value]
    found = Shield().scrub_all(value)
    for _ in range(5000):
        (found,) = found
    assert found == ["‹secret:github-token›"]


# -- for any text -----------------------------------------------------------------------------

ENVIRON = {
    "MY_TOKEN": "hunter-22",
    "API_KEY": "22-secret:",
    "DB_PASSWORD": "password-authorization",
}
PIECES = st.one_of(
    st.sampled_from(
        [
            *(secret for secret, _ in TOKENS),
            *ENVIRON.values(),
            *("‹secret:", "›", "‹", "‹secret:x›", "‹secret:MY_TOKEN›", "‹secret:github-token›"),
            *("a://u:", "@h", ":", "/", "Authorization: Bearer ", "eyJ", "sk-", ".", "-", "\\n"),
            *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", RANDOM, "ghp_", " "),
        ]
    ),
    st.text(max_size=5),
)


@given(st.lists(PIECES, max_size=8).map("".join))
@example("hunter-22sk-" + RANDOM)
@example("a://u:x‹secret:x›y@h")
@example("a://‹secret:x›@h a://‹secret:x›:b@h")
def test_scrubbing_twice_is_scrubbing_once(text):
    once = Shield.of(ENVIRON).scrub(text)
    shield = Shield.of(ENVIRON)
    assert shield.scrub(once) == once
    assert shield.count == 0


@given(st.lists(PIECES, max_size=6).map("".join), st.sampled_from(sorted(ENVIRON.values())))
def test_no_known_value_gets_through(text, value):
    around = Shield.of(ENVIRON).scrub(f"{text} {value} {text}")
    outside = "".join(part.partition("›")[2] for part in f"›{around}".split("‹"))
    assert value not in outside


@given(st.text())
def test_something_is_counted_exactly_if_something_changed(text):
    shield = Shield.of(ENVIRON)
    assert (shield.scrub(text) != text) == (shield.count > 0)


# -- time -------------------------------------------------------------------------------------

PROSE = "The fox: print(df.head()) # authorization eyJ sk- AKIA hf_ ghp_ ://a PRIVATE KEY\n"


@pytest.mark.parametrize(
    "piece",
    [
        *("sk-", "eyJ", "eyJ.", "%3DeyJ", "-eyJa", "-----BEGIN PRIVATE KEY-----", "-", "://", "a"),
        *("a://b:c", "a://b:", "‹secret:", "a://‹secret:a›:", "ghp_", "AIza", "hf_", "xoxb-", "@"),
        *("Authorization: ", "Authorization: Bearer a ", " sk-ab", "-----BEGIN PRIVATE KEY-----A"),
        *("\\n", "AKIA", "[", "5678", "hunter-2", "‹secret:a›"),
    ],
)
def test_time_grows_with_the_text_and_not_with_its_square(piece):
    shield = Shield.of(ENVIRON)
    began = time.process_time()
    shield.scrub(piece * (1_000_000 // len(piece)))
    shield.scrub("a://b:" + piece * (200_000 // len(piece)))
    shield.scrub("-----BEGIN PRIVATE KEY-----" + piece * (200_000 // len(piece)))
    assert time.process_time() - began < 5


def test_ten_megabytes_take_well_under_a_few_seconds():
    text = PROSE * (10_000_000 // len(PROSE)) + GITHUB
    shield = Shield.of(ENVIRON)
    began = time.process_time()
    assert shield.scrub(text).endswith("‹secret:github-token›")
    assert time.process_time() - began < 5
