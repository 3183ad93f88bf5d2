"""The same work with the bare SDK.

- ``create ID [COUNT [STAY]]`` makes a session, asks, and ends after so many seconds;
- ``resume ID [COUNT [STAY]]`` resumes it and asks;
- ``history ID`` resumes it and reads its events;
- ``list`` lists all sessions.
"""

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


async def main(what, session_id="", count=1, stay=0):
    client = CopilotClient(
        connection=RuntimeConnection.for_stdio(path=os.environ["COPILOT_CLI_PATH"]),
        base_directory=os.environ["COPILOT_HOME"],
        use_logged_in_user=False,
        log_level="error",
    )
    began = time.perf_counter()
    await client.start()
    said = {}
    if what == "list":
        said["found"] = len(await client.list_sessions())
    elif what == "history":
        session = await client.resume_session(session_id, **OPTIONS)
        said["found"] = len(await session.get_events())
    else:
        opened = client.create_session if what == "create" else client.resume_session
        session = await opened(session_id=session_id, **OPTIONS)
        said["turns"] = []
        for number in range(int(count)):
            asked = time.perf_counter()
            await turn(session, f"turn {number}")
            said["turns"].append(time.perf_counter() - asked)
    said["seconds"] = time.perf_counter() - began
    print(json.dumps(said), flush=True)
    await asyncio.sleep(float(stay))
    await client.stop()


asyncio.run(main(*sys.argv[1:]))
