"""Print what pyproject.toml asks for: `requirements.py build` or the name of an extra, one or more.

Tools are installed without the project, so that a change of the sources does not send pip looking for them again.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
known = {"build": project["build-system"]["requires"], **project["project"]["optional-dependencies"]}
for name in sys.argv[1:]:
    print(*known[name], sep="\n")
