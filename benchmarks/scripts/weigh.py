"""Count what is installed in this environment, without pip and without compiled files."""

import json
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

NOT_COUNTED = {"pip", "setuptools"}

names = {found.metadata["Name"].lower() for found in distributions()} - NOT_COUNTED
size = 0
for folder in (Path(sysconfig.get_path("purelib")), Path(sys.prefix, "share")):
    for path in folder.rglob("*"):
        top = path.relative_to(folder).parts[0].partition("-")[0]
        if path.is_file() and "__pycache__" not in path.parts and top not in NOT_COUNTED:
            size += path.stat().st_size
print(json.dumps({"packages": len(names), "size": size}))
