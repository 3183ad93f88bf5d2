"""The same work with the bare SDK: ``turns ID COUNT`` creates and asks, ``resume ID`` resumes."""

import asyncio
import json
import os
import sys
import time

from copilot import CopilotClient, RuntimeConnection

OPTIONS = {
    "model": os.environ["COPILOT_MODEL"],
    "provider": {"type": "openai", "base_url": os.environ["COPILOT_PROVIDER_BASE_URL"]},
    "system_message": {"mode": "replace", "content": "Answer briefly."},
    "available_tools": [],
    "streaming": True,
}


async def turn(session, prompt):
    idle = asyncio.Event()
    done = session.on(lambda event: idle.set() if event.type.value == "session.idle" else None)
    await session.send(prompt)
    await idle.wait()
    done()


async def main(what, session_id, count=1):
    client = CopilotClient(
        connection=RuntimeConnection.for_stdio(path=os.environ["COPILOT_CLI_PATH"]),
        base_directory=os.environ["COPILOT_HOME"],
        use_logged_in_user=False,
        log_level="error",
    )
    await client.start()
    if what == "turns":
        session = await client.create_session(session_id=session_id, **OPTIONS)
        await turn(session, "warm up")
    else:
        session = await client.resume_session(session_id, **OPTIONS)
    seconds = []
    for number in range(int(count)):
        began = time.perf_counter()
        await turn(session, f"turn {number}")
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"turns": seconds}), flush=True)
    await client.stop()


asyncio.run(main(*sys.argv[1:]))
