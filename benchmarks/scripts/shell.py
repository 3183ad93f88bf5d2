"""Time in a bare IPython shell to load the extension named, if any."""

import json
import sys
import time

from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
began = time.perf_counter()
if len(sys.argv) > 1:
    shell.extension_manager.load_extension(sys.argv[1])
print(json.dumps({"seconds": time.perf_counter() - began}))
