"""Lets ``import genjax`` find the package from the folder that holds a clone of this name.

There Python takes the clone's own folder for the package, before any finder of an editable
installation is asked. This file hands over to the package in it.
"""

import importlib.util
import sys
from pathlib import Path

if __name__ == "genjax":
    _package = Path(__file__).resolve().parent / "genjax"
    _spec = importlib.util.spec_from_file_location(
        "genjax", _package / "__init__.py", submodule_search_locations=[str(_package)]
    )
    sys.modules["genjax"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["genjax"])
