"""One kernel's part of the memory benchmark: one session, one turn, then wait to be ended.

``one_kernel.py MODE NUMBER`` prints the answer and the runtime's process id as JSON.
"""

import json
import sys

from copilot_jupyter.conversation.sessions import Sessions
from copilot_jupyter.conversation.terms import Terms
from copilot_jupyter.settings import Copilot

mode, number = sys.argv[1:]
sessions = Sessions(Copilot(runtime=mode))
conversation = sessions.conversation(f"memory-{mode}-{number}", Terms(folder="/", create=True))
answer = sessions.loop.call(conversation.ask(f"I am kernel {number}"))
print(json.dumps({"answer": answer.text, "runtime": sessions.runtime.pid}), flush=True)
sys.stdin.read()
sessions.close()
