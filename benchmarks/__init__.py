"""What it costs, as ratios against a baseline in the same run on the same machine.

``make bench`` measures everything and prints it; ``python -m benchmarks NAME...`` some groups;
``--write`` puts what was measured into ``docs/performance.md``. A group is a module:

====================  ===========================================================
`load`                ``%load_ext``
`turns`               a turn, the first turn, from a kernel's start to an answer
`replay`              an answer that is there already
`long`                conversations of 100, 1,000 and 10,000 turns
`sessions`            the picker over 100, 1,000 and 10,000 sessions
`streaming`           a long answer in a real JupyterLab
`views`               what the model is told about a large frame
`memory`              1, 5, 10 and 20 kernels at once
`peers`               the same notebook with other magics, and what they install
====================  ===========================================================

Beside them: `table` (a row and how it is written), `bench` (where a group measures), `made`
(sessions that nobody asked), `venvs` (environments of the peers and of ours), `page` and `plots`
(the page of the docs), and ``scripts/`` (what runs in a process of its own).
"""

import sys
from pathlib import Path

#: Kernels, the scripted model and the browser are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
