"""Secrets in text that leaves this machine: which are found, and what is left alone."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copilot_jupyter.conversation.shield import secret_rules
from copilot_jupyter.conversation.shield.secrets import Shield

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _our_rules_alone(monkeypatch):
    monkeypatch.setattr(secret_rules, "_detectors", tuple)


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
    ("glpat-" + RANDOM, "gitlab-token"),
    ("glpat-" + RANDOM + "_-" + RANDOM + ".01.1a2b3c4d5", "gitlab-token"),
    ("npm_" + RANDOM + RANDOM[:16], "npm-token"),
    ("pypi-" + "AgEIcHlwaS5vcmc" + RANDOM * 3 + "-_", "pypi-token"),
    ("sk_" + "live_" + RANDOM, "stripe-key"),
    ("rk_" + "live_" + RANDOM, "stripe-key"),
    ("whsec_" + RANDOM, "stripe-key"),
    ("xapp-1-A1B2-" + RANDOM, "slack-token"),
    ("gldt-" + RANDOM, "gitlab-token"),
    ("GOCSPX-" + RANDOM, "google-key"),
    ("ya29." + RANDOM, "google-token"),
    ("dapi" + "9f86d0818" * 4, "databricks-token"),
    ("dop_v1_" + "9f86d081" * 8, "digitalocean-token"),
    ("dckr_pat_" + RANDOM, "docker-token"),
    ("gsk_" + RANDOM * 2, "groq-key"),
    ("r8_" + RANDOM * 2, "replicate-token"),
    ("SG." + RANDOM + "." + RANDOM, "sendgrid-key"),
    ("hvs." + RANDOM, "vault-token"),
    ("abc8Q~" + RANDOM + RANDOM[:14], "azure-secret"),
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
        "glpat-short, npm_config_registry_of_the_project, npm_short, sk_live_short",
        "pypi-publish-action-for-all-projects-2024 and https://pypi.org/p/pypi-a",
        f"risk_live_{RANDOM} and mypypi-{RANDOM}",
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


LISTS = [
    ("Server=db;Database=x;User Id=ana;Password={};Encrypt=yes", "p@ss,w0rd!"),
    ("Server=db;User Id=ana;Password={};", "p"),
    ("Server=db; Uid=ana; Pwd={}; Port=1", "hunter"),
    ("DRIVER={{ODBC}};UID=ana;PWD={}", "abc/d+e=="),
    ("DRIVER=x;UID=ana;PWD={};Port=1", "{a;b c!}"),
    ("DRIVER=x;UID=ana;PWD={};Port=1", "/starts-as-a-path"),
    ("Password={};Server=db", "s3cret"),
    ('c = "Password={};"', "s3cret"),
    ('c += ";Password={}"', "s3cret"),
    ("c = 'Server=db;\n   PASSWORD={}'", "s3cret"),
    ("Server=db;Password='{}';Port=1", "a;b c"),
    ('Server=db;Password="{}"', "a;b c"),
    ("host=db user=ana password={} dbname=x", "hunter"),
    ("password={} host=db", "hunter22"),
    ('psql "host=db password={}"', "it$elf"),
    ('{{"a": "host=db password={}", "b": 1}}', "abc"),
    ('{{\\"a\\": \\"host=db password={}\\"}}', "abc"),
    ("host=db password='{}' dbname=x", "a b"),
    ("host=db\nuser=ana\npassword={}\n", "hunter22"),
    ("a\\nhost=db\\npassword={}\\nuser=ana", "hunter22"),
    ("host=db passwd={} x=1", "a\\b"),
    ("host=‹secret:X› password={}", "abc"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), LISTS)
def test_the_password_in_a_list_is_replaced(before, after):
    shield = Shield()
    assert shield.scrub(before.format(after)) == before.format("‹secret:password›")
    assert shield.count == 1


@pytest.mark.parametrize(
    "text",
    [
        "password=yes, and Password=no; or pwd=x",
        "with user=ana password=None, or password=yes",
        "connect(host=h, password=None)",
        "connect(host=h, password=pw, user=u)",
        "connect(host=h,\n    password=pw,\n    user=u,\n)",
        "connect(host='h', password='pw')",
        "connect(password=pw,user=u, port=5)",
        'connect(user=x, password=os.environ["PW"])',
        'user=os.environ["U"]; password=os.environ["P"]; x=1',
        "user=input()\npassword=getpass.getpass()\n",
        "user=cfg.user\npassword=cfg.secret_of_the_db\n",
        'f"host={host} password={password} port={port}"',
        "f\"Server={s};Password={os.environ['PW']};Port=1\"",
        'f"Server={s};Pwd={pw!r:>10};Port={port}"',
        'f"Server={s};Pwd={self.pw()}{x};Port={port}"',
        '"host=%s password=%s port=%s" % x',
        '"Server=x;Password=" + password + ";Port=1"',
        '"Server=x;Password="+password+";Port=1"',
        "'Server=x;Password=' + password + ';Port=1'",
        "host=db password=$PASSWORD user=x, host=db password=$(cat pw) user=x",
        "host=db password=$password user=${PASSWORD:-none} password=${PASSWORD:-none} x=1",
        "Server=x;Password=<your password>;Pwd=[password];Password=***;Pwd=;",
        "Server=x;Password=your_password;Password=...;Pwd=%PWD%;password=xxxx;",
        "Server=x;Password=‹secret:password›;Pwd=‹secret:X›‹secret:Y›;",
        "HOME=/home/ana\nPWD=/home/ana/work\nOLDPWD=/home/ana\nSHELL=/bin/sh",
        "a=1 mypassword=abc b=2, --x=1 a.password=abc b=2",
        "x==1 password==2 y==3",
        "AccountKey=key; AccountKey={account_key}; AccountKey=<the key>; AccountKey=",
        "f(AccountKey=storage_account_primary_key)",
        "SharedAccessKeyName=RootManageSharedAccessKey; SharedAccessKey=...",
        "https://h/x?sig={signature} &sig=short sig=inspect.signature2(function)",
        f"?design={RANDOM} ?mysig={RANDOM}",
    ],
)
def test_what_is_no_password_in_a_list_stays(text):
    shield = Shield()
    assert shield.scrub(text) == text
    assert shield.count == 0


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ("AccountName=x;AccountKey={};EndpointSuffix=core", "azure-key"),
        ("Endpoint=sb://h/;SharedAccessKeyName=Root;SharedAccessKey={}", "azure-key"),
        ("https://h.blob.core.windows.net/c?sv=2022&sig={}&se=1", "signature"),
        ("<https://h/c?sig={}>", "signature"),
        ('"https://h/c?sv=1\\u0026sig={}\\u0026se=1"', "signature"),
        ("https://h/c?sv=1&amp;sig={}&amp;se=1", "signature"),
        ("SharedAccessSignature sr=h&sig={}&se=1", "signature"),
    ],
)
@pytest.mark.parametrize("secret", [RANDOM + "+/" + RANDOM + "==", RANDOM + "%2B%2f%3D"])
def test_the_keys_of_azure_are_replaced(before, kind, secret):
    shield = Shield()
    assert shield.scrub(before.format(secret)) == before.format(f"‹secret:{kind}›")
    assert shield.count == 1


def test_a_key_of_azure_that_is_masked_in_part_goes_whole():
    text = f"AccountKey={RANDOM}hunter-22{RANDOM}=="
    assert scrubbed(text, MY_TOKEN="hunter-22") == "AccountKey=‹secret:azure-key›"


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


@pytest.mark.parametrize("end", ["", "...", "…", "'"])
def test_of_a_private_key_that_is_cut_off_the_last_line_goes_too(end):
    for kept in (RANDOM, f"{RANDOM * 3}\n{RANDOM * 3}\n{RANDOM}"):
        text = PEM.format("", "").partition("\n")[0] + f"\n{kept}{end}"
        assert scrubbed(text) == f"‹secret:private-key›{end}"


def test_a_private_key_that_is_cut_off_goes_and_the_prose_behind_stays():
    cut = PEM.format("", "\n".join([RANDOM * 3] * 3)).partition("-----END")[0]
    assert scrubbed(f"{cut}\nand so on") == "‹secret:private-key›\n\nand so on"


NAMED = [
    ("DB_PASSWORD={}", "hunter2secret9", "password"),
    ("DB_PASSWORD={}\nDB_HOST=localhost\n", "hunter2secret9", "password"),
    ("export PGPASSWORD='{}'", "Tr0ub4dor&3x!", "password"),
    ("{{'user': 'ana', 'password': '{}'}}", "hunter2secret9", "password"),
    ('{{\\"password\\": \\"{}\\"}}', "hunter2secret9", "password"),
    ("connect(host='h', user='ana', password='{}')", "hunter2secret9", "password"),
    ("password = {}", "hunter2secret9", "password"),
    ("db:\n  user: ana\n  password: {}\n", "hunter2secret9", "password"),
    ("wget --password={} https://h", "hunter2secret9", "password"),
    ("https://h/x?user=ana&password={}&a=1", "hunter2secret9", "password"),
    ("password: str\n{}\n", "hunter2secret9", "password"),
    ("curl -s -u ana:{} https://h", "correct horse".replace(" ", ""), "password"),
    ("tool --token {} run", RANDOM, "password"),
    ("os.environ['MY_TOKEN'] = '{}'", RANDOM, "token"),
    ("https://h/x?token={}&a=1", RANDOM, "token"),
    ("//h/:_authToken={}", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "token"),
    ('{{"client_secret": "{}"}}', RANDOM, "secret"),
    ("Client(api_key='{}')", RANDOM, "key"),
    ("api_key: str = '{}'", RANDOM, "key"),
    ("curl -H 'X-API-Key: {}' https://h", RANDOM, "key"),
    ("aws_secret_access_key = {}\n", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "key"),
    ("WANDB_KEY={}", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "key"),
    ("https://{}@github.com/a.git", RANDOM, "token"),
    ("   url\n0  postgres://ana:{}...\n", "hunter2secret9", "password"),
    ("https://hooks.slack.com/services/{}", f"T000/B000/{RANDOM}", "webhook"),
    ("https://h/?X-Amz-Signature={}", "9f86d081884c7d65" * 4, "signature"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "secret", "kind"), NAMED)
def test_a_value_beside_a_name_that_says_so_is_replaced(before, secret, kind):
    shield = Shield()
    assert shield.scrub(before.format(secret)) == before.format(f"‹secret:{kind}›")
    assert shield.count == 1


@pytest.mark.parametrize(
    "text",
    [
        "tokens: 1234, max_tokens=4096, n_tokens=1234567890123456, token_ids = [101, 7592]",
        'pad_token="<pad>", eos_token="<|endoftext|>", cls_token = "[CLS]"',
        '{"token": "running", "id": 1} {"token": null, "password": ""} {"password": "********"}',
        "cls_token = '0.12345678901234567', token=\"a_rather_long_name_of_a_token\"",
        'primary_key="order_id_v2_2024_final" SORT_KEY="created_at_2024_desc" key=lambda x: x[1]',
        'api_key="YOUR_API_KEY" api_key = "your-api-key-here-12a34" apikey=apikey',
        'api_key=os.environ["OPENAI_API_KEY"] token = get_token("a1b2c3")',
        "password=password2, user=user2; self.password = password1",
        'password = getpass.getpass("Password: "); password != other; if password == "": raise',
        "password: str = ''; password: Optional[str] = None; access_token: str = Field(...)",
        "password: argon2id, password: required, passwd: files systemd",
        "pwd: /home/ana/x1y2z3, token: ${{ secrets.GITHUB_TOKEN }}, WHERE password = :password",
        "--token TOKEN  the token, --password-file FILE, docker run -u 1000:1000 image",
        'curl -u user:password https://h and curl -u "$USER:$PASS" https://h',
        "https://h/x?key=value&token=abc, http://localhost:8888... and http://host:port...",
        "SECRET_KEY = os.urandom(32), 'secret': 'O', Name: token, dtype: object",
        "<__main__.Token object at 0x7f3b2c1d4e5f>, sha256:" + "9f86d081" * 8,
        "password=st.secrets['db1']['pw2'], password=dbutils.secrets.get('s1', 'k2')",
    ],
)
def test_a_value_that_looks_like_no_secret_stays_beside_any_name(text):
    shield = Shield()
    assert shield.scrub(text) == text
    assert shield.count == 0


@pytest.mark.parametrize("end", ["...", "…", "", "'", " [... 5 characters cut]"])
def test_half_a_known_value_goes_where_the_text_is_cut(end):
    environ = {"MY_TOKEN": "correct-horse-battery-staple-7431"}
    assert scrubbed(f"<correct-horse-bat{end}", **environ) == f"<‹secret:MY_TOKEN›{end}"
    assert scrubbed("a correct-horse-bat flies", **environ) == "a correct-horse-bat flies"
    assert scrubbed(f"a correct{end}", **environ) == f"a correct{end}"


# -- the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("GH_TOKEN", "MY_SECRET", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "PASSWD"),
        *("OPENAI_API_KEY", "SOMEAPIKEY", "AWS_CREDENTIALS", "CREDENTIAL", "SSH_PRIVATE_KEY"),
        *("npm_config__authtoken", "SECRETKEY", "TOKEN_2", "API_KEYS"),
        *("AZURE_STORAGE_KEY", "GITLAB_PAT", "DB_PASS", "OPENAI_KEY", "KEY", "SSH_KEY_2"),
        *("SQL_CONNECTION_STRING", "ConnectionStrings__Default", "PG_CONN_STR", "SENTRY_DSN"),
        *("AUTH", "BASIC_AUTH", "NPM_AUTH", "STORAGE_KEY1", "db_pass"),
    ],
)
def test_the_value_of_a_variable_that_holds_a_secret_is_replaced(name):
    shield = Shield.of({name: "hunter-22"})
    assert shield.scrub("it is hunter-22, or xhunter-22x") == (
        f"it is ‹secret:{name}›, or x‹secret:{name}›x"
    )
    assert shield.count == 2


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "TOKENIZERS_PARALLELISM", "SECRETARY", "PASSWORDLESS_X", "KEYBOARD"),
        *("MONKEY", "COMPASS", "SSH_AUTH_SOCK", "XAUTHORITY", "PASSENGER", "KEYBOARD_LAYOUT"),
        *("AUTHOR", "MY_PATTERN", "SSH_PUBLIC_KEY", "PATCH", "BYPASS_X", "GIT_AUTHOR_NAME"),
    ],
)
def test_the_values_of_other_variables_stay(name):
    assert scrubbed("hunter-22", **{name: "hunter-22"}) == "hunter-22"


@pytest.mark.parametrize(
    "value", ["postgres", "customer", "", "true", "1234567", "password", "Disabled", "   short   "]
)
def test_values_that_any_text_may_hold_stay(value):
    text = f"<{value}> or <{value.strip()}>"
    assert scrubbed(text, MY_TOKEN=value) == text


@pytest.mark.parametrize(
    "value",
    [
        *(
            "/run/missing/agent.1234",
            "~/missing/key2.pem",
            "./key2.pem",
            "..\\key2",
            "C:\\key2.pem",
        ),
        *("device-code", "BASIC_AUTH_ONLY", "Some Words", "login.example.com", "123456789012"),
        *("127.0.0.1:8080", "https://host2.example.com:80/a2", "short1", "disabled", "file:key2"),
    ],
)
def test_of_a_name_that_says_little_only_what_looks_like_a_secret_goes(value):
    assert scrubbed(f"<{value}>", MY_AUTH=value, MY_KEY=value) == f"<{value}>"


@pytest.mark.parametrize(
    "value",
    [
        *("hunter-22", "/" + RANDOM * 4 + "a/b==", RANDOM, "AbCdEfGhIjKlMnOp", "pass word!"),
        *("https://abc@sentry.io/1", "Server=db;Pwd=abc", "postgres://a:b@h/d", "https://h/?key=a"),
    ],
)
def test_of_a_name_that_says_little_a_secret_goes(value):
    assert scrubbed(f"<{value}>", MY_DSN=value) == "<‹secret:MY_DSN›>"


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
    "STORAGE_KEY": "d=1;Pwd=",
}
PIECES = st.one_of(
    st.sampled_from(
        [
            *(secret for secret, _ in TOKENS),
            *ENVIRON.values(),
            *("‹secret:", "›", "‹", "‹secret:x›", "‹secret:MY_TOKEN›", "‹secret:github-token›"),
            *("a://u:", "@h", ":", "/", "Authorization: Bearer ", "eyJ", "sk-", ".", "-", "\\n"),
            *("Password=", ";Pwd=", " password=", "host=db ", ";", "'", '"', "{", "}", "\\", ","),
            *("AccountKey=", "SharedAccessKey=", "&sig=", "=", "pypi-", "npm_", "sk_live_"),
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


@given(
    st.lists(PIECES, max_size=4).map("".join),
    st.text("abcABC123!#^&*-_", min_size=1).map(lambda text: f"x9{text}Z"),
    st.sampled_from(["Password", "Pwd", "PWD", "password"]),
    st.lists(PIECES, max_size=4).map("".join),
)
def test_no_password_in_a_list_gets_through(before, password, name, after):
    found = Shield().scrub(f"{before};{name}={password};{after}")
    assert f"{name}={password};" not in found or password in before + after


# -- time -------------------------------------------------------------------------------------

PROSE = "The fox: print(df.head()) # authorization eyJ sk- AKIA hf_ ghp_ ://a PRIVATE KEY\n"


@pytest.mark.parametrize(
    "piece",
    [
        *("sk-", "eyJ", "eyJ.", "%3DeyJ", "-eyJa", "-----BEGIN PRIVATE KEY-----", "-", "://", "a"),
        *("a://b:c", "a://b:", "‹secret:", "a://‹secret:a›:", "ghp_", "AIza", "hf_", "xoxb-", "@"),
        *("Authorization: ", "Authorization: Bearer a ", " sk-ab", "-----BEGIN PRIVATE KEY-----A"),
        *("\\n", "AKIA", "[", "5678", "hunter-2", "‹secret:a›"),
        *("Password=", ";Password=", "a=b password=c ", ";Pwd=a", ";Pwd=\\", ";Pwd={", ";Pwd={a.b"),
        *(";Pwd='", ";Pwd='a", ' password="a', "a=", "a=;", "\\", "{", "(", ")", "a.", "a("),
        *("AccountKey=", "AccountKey=a ", "?sig=", "&sig=a", "glpat-", "npm_", "pypi-", "pypi-A1"),
        *(
            "pwd=",
            "pwd:",
            "password='",
            "token=a1",
            "_KEY=",
            "secret: str",
            "api_key",
            "--",
            "--a-",
        ),
        *("curl -u ", "curl -u a:", "--token ", "&a=", "&amp;", "hvs.", "Q~", "dapi", "SG.a."),
        *("sk_live_", "sk_live_a", f"pypi-{RANDOM[1:].lower()} ", "password=c"),
    ],
)
def test_time_grows_with_the_text_and_not_with_its_square(piece):
    shield = Shield.of(ENVIRON)
    began = time.process_time()
    shield.scrub(piece * (1_000_000 // len(piece)))
    for name in (
        "password='",
        "token: ",
        "curl -u a:",
        ";Password=",
        "a=b password=",
        ";Pwd={",
        ";Pwd='",
        "AccountKey=",
        "&sig=",
    ):
        shield.scrub(name + piece * (200_000 // len(piece)))
    shield.scrub("a://b:" + piece * (200_000 // len(piece)))
    shield.scrub("-----BEGIN PRIVATE KEY-----" + piece * (200_000 // len(piece)))
    assert time.process_time() - began < 5


def test_ten_megabytes_take_well_under_a_few_seconds():
    text = PROSE * (10_000_000 // len(PROSE)) + GITHUB
    shield = Shield.of(ENVIRON)
    began = time.process_time()
    assert shield.scrub(text).endswith("‹secret:github-token›")
    assert time.process_time() - began < 5


def test_the_extra_knows_more_kinds_and_no_more_words(monkeypatch):
    monkeypatch.undo()
    token = "sq0csp-" + "ABCDEFGHIJK_LMNOPQRSTUVWXYZ0123456-7abcdefg"
    prose = "commit 9f86d081884c7d659a2f and df.head(20) of 3fa85f64-5717-4562-b3fc-2c963f66afa6"
    shield = Shield()
    for text in (f"key {token} end", "x" * 5_000 + f" {token} " + "y" * 5_000):
        assert shield.scrub(text) == text.replace(token, "‹secret:SquareOAuth›")
    assert shield.scrub(prose) == prose
    assert shield.count == 2
    assert shield.scrub(shield.scrub(token)) == shield.scrub(token)
