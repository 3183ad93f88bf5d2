"""What a tool's wish is in a kernel of the tests: code that decides as a turn does."""

#: `wish` and `wish_sync` are the generator of a decision under the two drivers of a turn.
DRIVER = """\
from copilot_jupyter.conversation.grants import Grants, Wish
from copilot_jupyter.notebook.extension import current_desk
from copilot_jupyter.notebook import turn
from copilot_jupyter.notebook.tools import permissions
desk = current_desk(get_ipython())
asking = permissions.Permissions(
    desk.front_end, desk.settings, Grants(desk.sessions.store.ours), desk.say)
def here():
    desk.notebook.find()
    return desk.notebook.held()
def decide(tool, detail):
    return lambda waker: asking.decide(Wish(tool, detail), *here())
async def wish(tool, detail):
    print(tool, (await turn.drive(decide(tool, detail))).name)
def wish_sync(tool, detail):
    print(tool, turn.drive_sync(decide(tool, detail)).name)
"""
