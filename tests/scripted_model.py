"""A scripted model: an OpenAI-compatible server on loopback that logs what it was sent.

The Copilot runtime is real in every test; only the model behind it is this
script. A test queues what the model does next (``model.will(...)``) and reads
``model.requests`` to see, byte for byte, what reached it.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The runtime puts a date line before every prompt; tests compare what follows it.
DATE_LINE = re.compile(r"^<current_datetime>.*?</current_datetime>\s*", re.DOTALL)

#: What every answer is said to have used.
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

#: No scripted wait lasts longer than this (seconds): a test that fails must end.
LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Reply:
    """What the model does with one request."""

    text: str = ""
    status: int = 200
    chunk: int = 0
    """Characters a delta; 0 sends the text in one."""
    pause: float = 0.0
    """Seconds before each delta."""
    stall_after: int | None = None
    """Stop sending after this many deltas and hold the connection."""
    cut_after: int | None = None
    """Close the connection after this many deltas, in mid-stream."""
    hang: bool = False
    """Accept the request and never answer."""
    headers: dict[str, str] = field(default_factory=dict)
    tool: str | None = None
    """Call this tool instead of answering with text."""
    arguments: str = "{}"
    """JSON text of the tool call's arguments."""
    first: Callable[[], None] | None = None
    """Called before the first delta is sent."""
    last: Callable[[], None] | None = None
    """Called when the last delta has been sent."""
    raw: bytes | None = None
    """Send these bytes as the body, with status 200."""


@dataclass(frozen=True)
class Request:
    """One request as the model received it."""

    body: dict[str, Any]
    size: int
    """Bytes of the request body."""
    at: float
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body.get("messages", []))

    def texts(self, role: str) -> list[str]:
        """The plain text of every message of one role, date lines removed."""
        return [
            DATE_LINE.sub("", _text(m["content"])).strip("\n")
            for m in self.messages
            if m["role"] == role
        ]

    @property
    def prompts(self) -> list[str]:
        return self.texts("user")

    @property
    def answers(self) -> list[str]:
        return self.texts("assistant")

    @property
    def tools(self) -> list[str]:
        return [t["function"]["name"] for t in self.body.get("tools", [])]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [])


class ScriptedModel:
    """The server; use it as a context manager.

    Unscripted requests are answered ``Answer N to: PROMPT``, so that every
    turn has an answer of its own that a test can name.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.names = ["scripted", "scripted-2"]
        self._script: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def __enter__(self) -> ScriptedModel:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away: connections are refused from now on; safe to call twice."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def environment(self) -> dict[str, str]:
        """The runtime's own variables that name this model."""
        return {
            "COPILOT_OFFLINE": "true",
            "COPILOT_PROVIDER_BASE_URL": self.base_url,
            "COPILOT_MODEL": "scripted",
        }

    def will(self, *replies: Reply | str) -> None:
        """Queue what the model does with the next requests, in order."""
        self._script.extend(r if isinstance(r, Reply) else Reply(r) for r in replies)

    def wait_for(self, count: int, timeout: float = 10.0) -> None:
        """Wait until `count` requests have arrived."""
        deadline = time.monotonic() + timeout
        while len(self.requests) < count:
            if time.monotonic() > deadline:
                msg = f"the model got {len(self.requests)} requests, not {count}, in {timeout} s"
                raise TimeoutError(msg)
            time.sleep(0.005)

    def forget(self) -> None:
        """Drop the log and what is still queued."""
        self.requests.clear()
        self._script.clear()

    def _take(self, body: bytes, headers: dict[str, str]) -> Reply:
        with self._lock:
            request = Request(json.loads(body), len(body), time.monotonic(), headers)
            self.requests.append(request)
            if self._script:
                return self._script.popleft()
            prompt = request.prompts[-1] if request.prompts else ""
            return Reply(f"Answer {len(self.requests)} to: {prompt}")


def _handler(model: ScriptedModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            models = [{"id": name, "object": "model"} for name in model.names]
            self._json(200, {"object": "list", "data": models})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = model._take(body, {k.lower(): v for k, v in self.headers.items()})
            if reply.hang:
                model._stop.wait(LONGEST_WAIT)
                self.close_connection = True
                return
            if reply.status != 200:
                message = reply.text or f"scripted {reply.status}"
                error = {"message": message, "type": "scripted"}
                self._json(reply.status, {"error": error}, reply.headers)
                return
            if reply.raw is not None:
                self._send(200, reply.raw, {"Content-Type": "text/html"})
                return
            if not json.loads(body).get("stream"):
                self._json(200, _whole(reply))
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._stream(reply)

        def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
            headers = {"Content-Type": "application/json", **(headers or {})}
            self._send(status, json.dumps(value).encode(), headers)

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, reply: Reply) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            if reply.first is not None:
                reply.first()
            for n, delta in enumerate(_deltas(reply)):
                if reply.cut_after is not None and n >= reply.cut_after:
                    self.connection.close()
                    return
                if reply.stall_after is not None and n >= reply.stall_after:
                    model._stop.wait(LONGEST_WAIT)
                    return
                if reply.pause:
                    model._stop.wait(min(reply.pause, LONGEST_WAIT))
                self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            if reply.last is not None:
                reply.last()
            reason = "tool_calls" if reply.tool else "stop"
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            self._event({"choices": [], "usage": USAGE})
            self.wfile.write(b"data: [DONE]\n\n")
            self.wfile.flush()

        def _event(self, value: dict[str, Any]) -> None:
            head = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "model": "scripted"}
            head["created"] = 0  # type: ignore[assignment]
            self.wfile.write(b"data: " + json.dumps({**head, **value}).encode() + b"\n\n")
            self.wfile.flush()

    return Handler


def _whole(reply: Reply) -> dict[str, Any]:
    """Return a reply in one piece, for who asked for no stream."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool:
        message |= next(_deltas(reply))
    reason = "tool_calls" if reply.tool else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    head = {"id": "chatcmpl-s", "object": "chat.completion", "model": "scripted", "created": 0}
    return {**head, "choices": [choice], "usage": USAGE}


def _deltas(reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.tool:
        call = {"name": reply.tool, "arguments": reply.arguments}
        yield {
            "role": "assistant",
            "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": call}],
        }
        return
    size = reply.chunk or max(len(reply.text), 1)
    for start in range(0, len(reply.text), size):
        yield {"role": "assistant", "content": reply.text[start : start + size]}
