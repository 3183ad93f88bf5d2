"""Signing in and out, on the real runtime.

**GitHub is made by hand here.** Test machines cannot reach GitHub, so a server on
loopback stands in for it (`Hub`): it knows the two addresses the runtime asks
(``/copilot_internal/user`` and ``/login/oauth/access_token``) and answers what was seen
in the runtime's parsers, not what GitHub was seen to send. The runtime, its flow, its
files and the SDK are real. The browser flow reaches the stand-in as github.com through
``HTTPS_PROXY`` and a certificate made for the run (Linux, runtime 1.0.102 or later).

**The answers in `TestAnswersMadeByHand` are made by hand too**, out of the SDK's own
generated classes: a keychain, an older runtime, steps that only Microsoft accounts have.
Nothing in this file says that GitHub itself was signed in to.
"""

import asyncio
import contextlib
import json
import logging
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from terminal import native_runtime

from copilot_jupyter.errors import BadInputError, SetupError
from copilot_jupyter.notebook import sign_in
from copilot_jupyter.runtime.github.account import (
    Account,
    SignedOut,
    accounts,
    login_with_token,
    logout,
)
from copilot_jupyter.runtime.github.browser_sign_in import BrowserSignIn, SignInStep
from copilot_jupyter.runtime.github.credentials import GITHUB, Token, check_host
from copilot_jupyter.runtime.github.refusals import explain

SECRET = "gho_0a1b2c3d4e5f60718293a4b5c6d7e8f9MADEUP"
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a good token would reach the real keychain"
)


# --- The stand-in for GitHub ------------------------------------------------------------------


class Hub:
    """GitHub on loopback: plain http at `host`, and as github.com behind `proxy`."""

    def __init__(self, certificate=None):
        self.status = 200
        self.echo = False  # a host that sends back what it was sent
        self.hang = threading.Event()
        self.hang.set()
        self.asked = []
        self.was_asked = threading.Event()
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)

    def __enter__(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.answer(self)

            do_POST = do_GET

            def do_CONNECT(self):
                self.send_response(200)
                self.end_headers()
                wrap = hub._tls.wrap_socket
                # The runtime probes and hangs up.
                with (
                    contextlib.suppress(OSError),
                    wrap(self.connection, server_side=True) as inner,
                ):
                    Handler(inner, self.client_address, self.server)
                self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.hang.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        self.asked.append((request.headers["host"], request.path))
        self.was_asked.set()
        self.hang.wait(10)
        status, reply = self.status, {"message": "no"}
        if self.echo:
            reply = {"message": request.headers["authorization"] + " " + body.decode()}
        if status == 200 and request.path.endswith("/access_token"):
            reply = {"access_token": SECRET, "token_type": "bearer", "scope": "read:user"}
        elif status == 200:
            reply = {"login": "octocat", "id": 1, "copilot_plan": "individual", "endpoints": {}}
        data = json.dumps(reply).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    names = "DNS:github.com,DNS:api.github.com,DNS:tenant.ghe.com,DNS:api.tenant.ghe.com"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [
            *(*make.split(), "-subj", "/CN=test", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(folder / "key"), "-out", str(folder / "cert")),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "cert", folder / "key"


# --- The real runtime -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def program():
    """The runtime inside the pinned CLI: the one that `setup` may fetch has no browser sign-in."""
    return native_runtime()


async def login_with_browser(client, host, show, *, may_use_file=None):
    """Sign in through the browser in one call, as the magic does in four."""
    flow = BrowserSignIn(client, host)
    try:
        show(await flow.begin())
        account = await flow.finish()
        if account is None:
            yes = may_use_file is not None and await may_use_file()
            account = await flow.allow_file(yes=yes)
        return account
    finally:
        await flow.close()


class Machine:
    """A home folder of its own, without keychain, and a runtime on it."""

    def __init__(self, home, program):
        self.home = home
        self.program = program
        self.log_level = "none"
        keep = {k: os.environ[k] for k in ("PATH", "LANG", "TMPDIR") if k in os.environ}
        self.environment = {**keep, "HOME": str(home), "COPILOT_HOME": str(home)}

    def behind(self, hub, certificate):
        self.environment["HTTPS_PROXY"] = hub.host
        self.environment["SSL_CERT_FILE"] = str(certificate[0])

    @contextlib.asynccontextmanager
    async def client(self):
        from copilot import CopilotClient, RuntimeConnection

        client = CopilotClient(
            connection=RuntimeConnection.for_stdio(path=str(self.program)),
            base_directory=str(self.home),
            env=self.environment,
            use_logged_in_user=True,
            log_level=self.log_level,
            working_directory=str(self.home),
        )
        await client.start()
        process = client._cli_process
        try:
            yield client
        finally:
            await client.stop()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:  # the SDK leaves them to the garbage collector
                    pipe.close()

    def run(self, work):
        """Run ``work(client)`` on a runtime of its own and return what it returns."""

        async def whole():
            async with self.client() as client:
                return await work(client)

        return asyncio.run(asyncio.wait_for(whole(), 30))

    def keeps_tokens_in_file(self):
        for name in ("settings.json", "config.json"):  # 1.0.85 reads the second
            (self.home / name).write_text('{"storeTokenPlaintext": true}')

    def config(self):
        path = self.home / "config.json"
        return path.read_text() if path.exists() else ""

    def files_with(self, secret):
        files = [p for p in self.home.rglob("*") if p.is_file()]
        return [str(p.relative_to(self.home)) for p in files if secret.encode() in p.read_bytes()]

    def sessions(self):
        folder = self.home / "session-state"
        return [p.name for p in folder.glob("copilot-jupyter*")] if folder.exists() else []


@pytest.fixture
def machine(tmp_path, program):
    return Machine(tmp_path, program)


def token_login(host, secret=SECRET):
    return lambda client: login_with_token(client, Token(secret), host)


class TestNobody:
    def test_there_are_no_accounts(self, machine):
        assert machine.run(accounts) == ()

    def test_logout_says_that_nobody_was(self, machine):
        assert machine.run(lambda c: logout(c, machine.home)) is None

    def test_logout_of_somebody_unknown_is_refused(self, machine):
        with pytest.raises(BadInputError, match="octocat is not signed in"):
            machine.run(lambda c: logout(c, machine.home, login="octocat"))


class TestToken:
    @pytest.mark.parametrize("host", ["https://nosuch.invalid", "http://127.0.0.1:9"])
    def test_an_unreachable_host_is_named(self, machine, host):
        with pytest.raises(SetupError) as caught:
            machine.run(token_login(host))
        assert caught.value.what == f"{host} cannot be reached from this machine."
        assert "HTTPS_PROXY" in caught.value.do

    @pytest.mark.parametrize(
        ("status", "says"),
        [
            (401, "did not accept the token"),
            (403, "does not let this token use Copilot"),
            (404, "does not let this token use Copilot"),
            (500, "answered with status 500"),
        ],
    )
    def test_a_refusal_says_why(self, machine, hub, status, says):
        hub.status = status
        with pytest.raises(SetupError, match=says):
            machine.run(token_login(hub.host))

    @pytest.mark.parametrize("start", ["ghp_", "ghs_", "ghr_", "v1."])
    def test_the_runtime_refuses_these_kinds_without_asking(self, machine, hub, start):
        with pytest.raises(BadInputError):
            machine.run(token_login(hub.host, start + "x" * 40))
        assert hub.asked == []

    @LINUX
    def test_without_keychain_it_lasts_as_long_as_the_runtime(self, machine, hub):
        octocat = machine.run(token_login(hub.host))
        assert octocat == Account("octocat", hub.host, "sign-in", active=True, kept=False)
        assert machine.files_with(SECRET) == []
        assert machine.run(accounts) == ()

    @LINUX
    def test_out_again_from_memory(self, machine, hub):
        async def work(client):
            who = await login_with_token(client, Token(SECRET), hub.host)
            result = await logout(client, machine.home)
            assert result.account == who
            assert result.others == ()
            return result.restart, await accounts(client)

        restart, left = machine.run(work)
        assert restart == bool(left)  # 1.0.102 goes on holding it; the caller ends the runtime
        assert "octocat" not in machine.config()

    @LINUX
    def test_in_the_file_it_outlives_the_runtime_and_logout_takes_it_out(self, machine, hub):
        machine.keeps_tokens_in_file()
        assert machine.run(token_login(hub.host)).kept
        assert machine.files_with(SECRET) == ["config.json"]
        assert (machine.home / "config.json").stat().st_mode & 0o777 == 0o600

        async def out(client):
            (who,) = await accounts(client)
            assert who == Account("octocat", hub.host, "sign-in", active=True, kept=True)
            return await logout(client, machine.home, login="OctoCat", host=hub.host)

        assert machine.run(out).account.login == "octocat"
        assert machine.files_with(SECRET) == []
        assert "octocat" not in machine.config()
        assert (
            "storeTokenPlaintext" in machine.config() + (machine.home / "settings.json").read_text()
        )
        assert (machine.home / "config.json").stat().st_mode & 0o777 == 0o600
        assert machine.run(accounts) == ()

    @LINUX
    def test_a_sign_in_after_a_logout_is_not_undone_by_old_entries(self, machine, hub):
        # The runtime rewrites config.json from what it remembers; what we took out stays out.
        machine.keeps_tokens_in_file()

        async def work(client):
            await login_with_token(client, Token(SECRET), hub.host)
            await logout(client, machine.home)
            with Hub() as other:
                await login_with_token(client, Token(SECRET), other.host)
                assert hub.host not in machine.config()
                await logout(client, machine.home, host=other.host)

        machine.run(work)
        assert machine.files_with(SECRET) == []


class TestTokenIsNowhere:
    def check(self, error, machine, caplog, secret=SECRET):
        shown = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
        whole = shown + str(error) + repr(error) + repr(error.args)
        assert secret not in whole
        assert error.__context__ is None
        assert error.__cause__ is None
        assert secret not in caplog.text
        assert not any(secret in repr(vars(record)) for record in caplog.records)
        assert machine.files_with(secret) == []

    @pytest.mark.parametrize("status", [401, 418])
    def test_when_the_host_sends_it_back(self, machine, hub, caplog, monkeypatch, status):
        caplog.set_level(logging.DEBUG)
        monkeypatch.setattr(logging.getLogger("copilot"), "propagate", True)
        machine.log_level = "all"
        hub.status, hub.echo = status, True
        token = Token(SECRET)

        async def work(client):
            error = None
            try:
                await login_with_token(client, token, hub.host)
            except SetupError as caught:
                error = caught
            return error

        error = machine.run(work)
        assert isinstance(error, SetupError)
        self.check(error, machine, caplog)

    def test_when_it_is_interrupted(self, machine, hub, caplog):
        caplog.set_level(logging.DEBUG)
        token = Token(SECRET)
        hub.hang.clear()

        async def work(client):
            task = asyncio.create_task(login_with_token(client, token, hub.host))
            await asyncio.to_thread(hub.was_asked.wait, 10)
            task.cancel()
            error = None
            try:
                await task
            except asyncio.CancelledError as caught:
                error = caught
            hub.hang.set()
            return error

        error = machine.run(work)
        assert isinstance(error, asyncio.CancelledError)
        shown = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
        assert SECRET not in shown
        assert SECRET not in caplog.text

    def test_when_the_runtime_says_something_new(self):
        odd = "of-a-new-shape.0123456789"
        said = f"Request account.login failed with message: odd: {odd} and ghu_{'a' * 36}"
        error = explain(said, GITHUB, Token(odd))
        assert str(error).count("‹hidden›") == 2
        assert odd not in str(error)
        assert "ghu_" not in str(error)

    def test_the_token_shows_itself_to_nobody(self):
        token = Token(SECRET)
        assert SECRET not in repr(token) + str(token) + f"{token} {[token]}"
        assert token.reveal() == SECRET
        with pytest.raises(TypeError):
            pickle.dumps(token)


# --- The browser ------------------------------------------------------------------------------


def visit(step, **changes):
    """Do what GitHub's page makes the browser do: go back to the runtime's port."""
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(step.url).query)
    answer = {"code": "abc", "state": asked["state"][0], **changes}
    address = asked["redirect_uri"][0] + "?" + urllib.parse.urlencode(answer)
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with browser.open(address, timeout=10) as page:
            return page.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def visitor(seen, **changes):
    def show(step):
        seen.append(step)
        threading.Thread(target=visit, args=(step,), kwargs=changes, daemon=True).start()

    return show


def listens(step):
    address, _, port = step.returns_to.rpartition(":")
    try:
        socket.create_connection((address, int(port)), 1).close()
    except OSError:
        return False
    return True


def stops_listening(step):
    deadline = time.monotonic() + 3
    while listens(step) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not listens(step)


async def yes():
    return True


@pytest.fixture
def online(machine, certificate):
    with Hub(certificate) as hub:
        machine.behind(hub, certificate)
        yield hub


@LINUX
class TestBrowser:
    def test_signed_in_and_kept_in_the_file(self, machine, online):
        seen = []
        octocat = machine.run(lambda c: login_with_browser(c, "", visitor(seen), may_use_file=yes))
        assert octocat == Account("octocat", GITHUB, "sign-in", active=True, kept=True)
        (step,) = seen
        assert step.url.startswith("https://github.com/login/oauth/authorize?")
        assert step.returns_to.startswith("127.0.0.1:")
        assert ("api.github.com", "/copilot_internal/user") in online.asked
        assert machine.files_with(SECRET) == ["config.json"]
        assert machine.sessions() == []

    def test_a_host_of_ones_own(self, machine, online):
        seen = []
        who = machine.run(
            lambda c: login_with_browser(c, "tenant.ghe.com", visitor(seen), may_use_file=yes)
        )
        assert (who.login, who.host) == ("octocat", "https://tenant.ghe.com")
        assert seen[0].url.startswith("https://tenant.ghe.com/login/oauth/authorize?")

    def test_without_leave_nothing_is_kept(self, machine, online):
        async def work(client):
            who = await login_with_browser(client, "", visitor([]))
            return who, await accounts(client)

        assert machine.run(work) == (None, ())
        assert machine.files_with(SECRET) == []
        assert machine.sessions() == []

    def test_a_no_in_the_browser(self, machine, online):
        no = {"error": "access_denied", "error_description": "The user has denied your access."}
        with pytest.raises(SetupError, match="refused in the browser"):
            machine.run(lambda c: login_with_browser(c, "", visitor([], **no)))
        assert machine.sessions() == []

    def test_github_out_of_reach_after_the_browser(self, machine):
        with pytest.raises(SetupError, match=r"github\.com cannot be reached"):
            machine.run(lambda c: login_with_browser(c, "", visitor([])))

    def test_cancelling_cancels_it_at_the_runtime(self, machine, online):
        async def work(client):
            sign_in = BrowserSignIn(client)
            step = await sign_in.begin()
            waiting = asyncio.create_task(sign_in.finish())
            await asyncio.sleep(0.1)
            assert listens(step)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return await asyncio.to_thread(stops_listening, step)

        assert machine.run(work)
        assert machine.sessions() == []

    def test_an_account_of_the_environment_cannot_be_signed_out(self, machine, online):
        machine.environment["COPILOT_GITHUB_TOKEN"] = "github_pat_" + SECRET[4:]

        async def work(client):
            (who,) = await accounts(client)
            assert who.how == "environment variable COPILOT_GITHUB_TOKEN"
            assert SECRET[4:] not in repr(who)
            await logout(client, machine.home)

        with pytest.raises(BadInputError, match="COPILOT_GITHUB_TOKEN"):
            machine.run(work)


def test_a_runtime_without_the_flow_says_what_to_do(machine):
    async def work(client):
        sign_in = BrowserSignIn(client)
        try:
            return await sign_in.begin()
        finally:
            await sign_in.close()

    said, step = None, None
    try:
        step = machine.run(work)
    except SetupError as error:
        said = error
    if said is None:
        assert isinstance(step, SignInStep)
    else:
        assert "too old" in said.what
        assert "--token" in said.do
    assert machine.sessions() == []


# --- What no test machine has -----------------------------------------------------------------


class Scripted:
    """Stands in for the SDK's client; answers with its generated classes, made by hand."""

    def __init__(self, *steps, users=(), logout_error=None):
        from copilot.client import GetAuthStatusResponse
        from copilot.rpc import AccountLogoutResult, AuthLoginBegun, AuthLoginStep

        self.steps = list(steps)
        self.calls = []
        self.users = list(users)
        here = self

        async def begin(request):
            here.calls.append(("begin", request.kind.value))
            return AuthLoginBegun.from_dict({"flowId": "f", "step": here.steps.pop(0)})

        async def advance(request):
            here.calls.append(("advance", request.input))
            return AuthLoginStep.from_dict(here.steps.pop(0))

        async def cancel(request):
            here.calls.append(("cancel", request.flow_id))

        async def sign_out(request):
            here.calls.append(("logout", request.selection_id))
            if logout_error:
                from copilot._jsonrpc import JsonRpcError

                raise JsonRpcError(-32603, logout_error)
            here.users = []
            return AccountLogoutResult.from_dict({"hasMoreUsers": False})

        async def get_all_users():
            return here.users

        async def nothing(*_, **__):
            return None

        async def status():
            info = here.users[0]["authInfo"] if here.users else {}
            return GetAuthStatusResponse.from_dict(
                {
                    "isAuthenticated": bool(info),
                    "authType": info.get("type"),
                    "host": info.get("host"),
                    "login": info.get("login"),
                }
            )

        login = SimpleNamespace(begin=begin, advance=advance, cancel=cancel)
        session = SimpleNamespace(
            rpc=SimpleNamespace(accounts=SimpleNamespace(login=login)), disconnect=nothing
        )

        async def create_session(**_):
            return session

        self.create_session, self.delete_session = create_session, nothing
        self.get_auth_status = status
        self.rpc = SimpleNamespace(
            account=SimpleNamespace(get_all_users=get_all_users, logout=sign_out)
        )


OPEN = {"kind": "open-url", "url": "https://github.com/login/oauth/authorize?state=x"}
DONE = {
    "kind": "completed",
    "result": {"status": "completed", "host": "https://github.com", "login": "octocat"},
}
OCTOCAT = {
    "authInfo": {"type": "user", "host": "https://github.com", "login": "octocat"},
    "selectionId": "s1",
    "token": SECRET,
}


class TestAnswersMadeByHand:
    def sign_in(self, client, host=""):
        return asyncio.run(login_with_browser(client, host, lambda _: None))

    def test_with_a_keychain_it_is_kept_at_once(self):
        client = Scripted(OPEN, {"kind": "awaiting"}, DONE, users=[OCTOCAT])
        who = self.sign_in(client)
        assert who == Account("octocat", "https://github.com", "sign-in", active=True, kept=True)
        assert client.calls == [("begin", "githubDotCom"), ("advance", None), ("advance", None)]
        assert SECRET not in repr(who)

    def test_another_host_is_told_when_asked_for(self):
        client = Scripted({"kind": "input-required", "prompt": "?"}, OPEN, DONE, users=[OCTOCAT])
        self.sign_in(client, "tenant.ghe.com")
        assert client.calls[:2] == [("begin", "proxima"), ("advance", "https://tenant.ghe.com")]

    @pytest.mark.parametrize(
        "step",
        [
            {"kind": "needs-interaction"},
            {"kind": "completed", "result": {"status": "needs-account-selection"}},
        ],
    )
    def test_a_step_for_microsoft_accounts_is_refused_and_cancelled(self, step):
        client = Scripted(OPEN, step)
        with pytest.raises(SetupError, match="cannot do"):
            self.sign_in(client)
        assert client.calls[-1] == ("cancel", "f")

    def test_an_error_step_is_an_error(self):
        client = Scripted(OPEN, {"kind": "error", "message": "policy says no"})
        with pytest.raises(SetupError, match="policy says no"):
            self.sign_in(client)
        assert client.calls[-1] == ("cancel", "f")

    def test_out_of_the_keychain(self, tmp_path):
        client = Scripted(users=[OCTOCAT])
        result = asyncio.run(logout(client, tmp_path))
        assert (result.account.login, result.others, result.restart) == ("octocat", (), False)
        assert client.calls == [("logout", "s1")]

    def test_a_locked_keychain_keeps_it_and_says_so(self, tmp_path):
        client = Scripted(users=[OCTOCAT], logout_error="Keychain error: locked")
        config = tmp_path / "config.json"
        config.write_text('{"loggedInUsers": []}')
        with pytest.raises(SetupError, match="octocat is still signed in"):
            asyncio.run(logout(client, tmp_path))
        assert config.read_text() == '{"loggedInUsers": []}'

    @pytest.mark.parametrize("content", ["{", "[]", '{"authTokens": 3}', '{"loggedInUsers": [1]}'])
    def test_a_file_that_is_not_understood_is_left_alone(self, tmp_path, content):
        error = "Keychain error: No default store has been set, so cannot search"
        client = Scripted(users=[OCTOCAT], logout_error=error)
        config = tmp_path / "config.json"
        config.write_text(content)
        with pytest.raises(SetupError, match=r"may still be in .*config\.json"):
            asyncio.run(logout(client, tmp_path))
        assert config.read_text() == content
        assert list(tmp_path.iterdir()) == [config]

    def test_only_that_account_is_taken_out_of_the_file(self, tmp_path):
        error = "Keychain error: No default store has been set, so cannot search"
        client = Scripted(users=[OCTOCAT], logout_error=error)
        host = "https://github.com"
        other = {"host": host, "login": "octocat2"}
        config = tmp_path / "config.json"
        config.write_text(
            "// This file is managed automatically.\n"
            + json.dumps(
                {
                    "theme": "dark",
                    "authTokens": {
                        f"{host}:octocat": {"token": "a"},
                        f"{host}:octocat:github": {"token": "a"},
                        f"{host}:octocat2": {"token": "b"},
                    },
                    "loggedInUsers": [{"host": host, "login": "octocat"}, other],
                    "lastLoggedInUser": {"host": host, "login": "octocat"},
                }
            )
        )
        assert asyncio.run(logout(client, tmp_path)).restart
        first, _, rest = config.read_text().partition("\n")
        assert first == "// This file is managed automatically."
        assert json.loads(rest) == {
            "theme": "dark",
            "authTokens": {f"{host}:octocat2": {"token": "b"}},
            "loggedInUsers": [other],
        }


@pytest.mark.parametrize(
    ("typed", "host"),
    [
        ("", "https://github.com"),
        (" github.com/ ", "https://github.com"),
        ("Tenant.ghe.com", "https://tenant.ghe.com"),
        ("https://x.ghe.com:8443", "https://x.ghe.com:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_hosts(typed, host):
    assert check_host(typed) == host


@pytest.mark.parametrize(
    "typed",
    [
        "ftp://github.com",
        "https://a b",
        "https://me:pw@github.com",
        "github.com/octocat",
        "https://",
        "x:99999",
        SECRET,
        "https://github.com?x=1",
        "--token",
    ],
)
def test_what_is_no_host(typed):
    with pytest.raises(BadInputError) as caught:
        check_host(typed)
    assert typed not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_host_without_encryption():
    with pytest.raises(BadInputError, match=r"http://github\.com is not encrypted"):
        check_host("http://github.com")


# --- What a notebook says and asks ------------------------------------------------------------


class TestNotebook:
    STEP = SignInStep("https://github.com/x?y=1", "https://github.com", "127.0.0.1:36085")

    def test_the_address_stands_alone(self):
        lines = sign_in.login_lines(self.STEP)
        assert self.STEP.url in lines
        assert "127.0.0.1:36085" in lines[0]
        assert any("--token" in line for line in lines)

    def test_a_remote_kernel_is_told_apart(self):
        assert sign_in.is_remote({"JUPYTERHUB_API_URL": "x"})
        assert not sign_in.is_remote({"HOME": "x", "SSH_CONNECTION": ""})
        assert "another computer" in sign_in.login_lines(self.STEP, remote=True)[2]

    def test_a_good_token_is_taken_trimmed(self):
        prompts = []
        token = sign_in.ask_token(lambda prompt: prompts.append(prompt) or f" {SECRET}\n")
        assert token.reveal() == SECRET
        assert "hidden" in prompts[0]

    @pytest.mark.parametrize(
        ("typed", "says"),
        [
            ("", "No token was typed"),
            ("gho_short", "too short"),
            ("gho_" + "a" * 20 + " " + "b" * 20, "spaces"),
            ("gho_" + "é" * 30, "spaces or other"),
            ("ghp_" + "a" * 36, "Classic"),
        ],
    )
    def test_what_cannot_be_one_is_refused_and_not_repeated(self, typed, says):
        with pytest.raises(BadInputError, match=says) as caught:
            sign_in.ask_token(lambda _: typed)
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        )
        ours = shown.rpartition("in ask_token")[2]
        assert not typed or typed not in ours + repr(caught.value)

    @pytest.mark.parametrize("error", [NotImplementedError, EOFError])
    def test_where_nobody_can_answer(self, error):
        def ask(_):
            raise error

        with pytest.raises(BadInputError, match="Nobody can type") as caught:
            sign_in.ask_token(ask)
        assert "COPILOT_GITHUB_TOKEN" in caught.value.do

    def test_never_with_echo(self):
        code = (
            "from copilot_jupyter.notebook.sign_in import ask_token\n"
            "try: ask_token()\n"
            "except Exception as error: print(type(error).__name__)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=SECRET + "\n",
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,  # no terminal to fall back to
        )
        assert done.stdout == "BadInputError\n"
        assert "echo" not in done.stderr

    def test_what_signing_in_and_out_says(self):
        kept = Account("octocat", GITHUB, "sign-in", active=True, kept=True)
        memory = Account("octocat", GITHUB, "sign-in", active=False, kept=False)
        assert sign_in.signed_in_lines(kept) == ["Signed in to https://github.com as octocat."]
        assert len(sign_in.signed_in_lines(memory)) == 3
        assert "nothing was kept" in sign_in.signed_in_lines(None)[0]
        assert sign_in.signed_out_lines(None) == ["Nobody is signed in."]
        out = sign_in.signed_out_lines(SignedOut(kept, (memory,), restart=False))
        assert "Signed octocat out" in out[0]
        assert "Still there" in out[1]


def test_a_real_kernel_asks_hidden_and_shows_nothing():
    from jupyter_client.manager import start_new_kernel

    code = (
        "from copilot_jupyter.notebook.sign_in import ask_token\n"
        "try: print(ask_token(), len(ask_token().reveal()))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    said, asked = [], []

    def output(message):
        said.append(json.dumps(message["content"]))

    def stdin(message):
        asked.append(message["content"]["password"])
        client.input(SECRET)

    manager, client = start_new_kernel()
    try:
        run = client.execute_interactive
        run(code, allow_stdin=True, output_hook=output, stdin_hook=stdin, timeout=20)
        answered = "".join(said)
        run(code, allow_stdin=False, output_hook=output, timeout=20)
        history = json.dumps(client.history(hist_access_type="tail", n=9, reply=True)["content"])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert asked == [True, True]
    assert f"Token(hidden) {len(SECRET)}" in answered
    assert "BadInputError" in said[-2] + said[-1]
    assert SECRET not in "".join(said) + history
