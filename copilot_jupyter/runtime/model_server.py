"""The process that serves a model with llama.cpp: run by `LocalModel`, imported by nobody.

It is told what to serve in one line on its standard input, says its address in one line
on its standard output, and ends when its standard input ends: the kernel that started it
may be killed in any way. Only while it reads the model's file it cannot notice that; it
ends right after.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any


def main() -> None:
    """Be the server: read the order, load the model, say the address, and stay."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    order = json.loads(line)
    threading.Thread(target=_end_with_input, daemon=True).start()
    # What llama.cpp prints belongs into the log; only the address goes to the parent.
    report = os.dup(1)
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(5)  # the person's own work comes first
    import xllamacpp

    try:
        server = xllamacpp.Server(_parameters(xllamacpp, order))
    except RuntimeError as error:  # llama.cpp has logged the reason just before
        sys.exit(str(error))
    os.write(report, server.listening_address.encode() + b"\n")
    # A fork of the parent may hold the other end of our input, so ask for the parent too.
    while os.name == "nt" or os.getppid() == order["parent"]:
        time.sleep(0.5)
    os._exit(0)


def _end_with_input() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held at an ordinary end
        pass
    os._exit(0)


def _parameters(xllamacpp: Any, order: dict[str, Any]) -> Any:
    """Return llama.cpp's parameters for one quiet server with one conversation at a time."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = order["model"]
    wanted.model_alias = {order["name"]}
    wanted.chat_template = order.get("template", "")
    wanted.hostnames = ["127.0.0.1"]
    wanted.port = 0
    wanted.api_keys = [order["key"]]
    wanted.ui = False
    wanted.endpoint_slots = False
    wanted.verbosity = 2  # warnings
    wanted.n_ctx = order["context_tokens"]
    wanted.n_predict = order["answer_tokens"]
    wanted.cache_ram_mib = 0  # it would keep up to 8 GB of earlier prompts
    # Always the likeliest token: with no other sampler in the chain, a request cannot
    # bring in a temperature or a penalty.
    wanted.sampling.samplers = "top_k"
    wanted.sampling.top_k = 1
    # One core of two stays free while it writes; reading a prompt is short and takes all.
    cores = os.cpu_count() or 1
    wanted.cpuparams.n_threads = max(1, min(cores // 2, 8))
    wanted.cpuparams_batch.n_threads = cores
    return wanted


if __name__ == "__main__":
    main()
