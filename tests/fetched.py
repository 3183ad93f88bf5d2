"""Where the tests keep what they fetch, from one run to the next."""

import os
from pathlib import Path

#: The runtime, the embedded model and the terminal's CLI: some 700 MB.
CACHE = Path(os.environ.get("COPILOT_JUPYTER_TEST_CACHE") or Path(__file__).parents[1] / ".cache")
