"""``import genjax`` in the folder that holds the clone gets the package, installed in any way."""

import subprocess
import sys
from pathlib import Path

import genjax

ROOT = Path(genjax.__file__).resolve().parent.parent
SCRIPT = """
import genjax, genjax.errors, genjax.serial.json_text
from genjax.schedules import Linear
from pathlib import Path
assert Path(genjax.__file__).resolve() == Path("genjax/genjax/__init__.py").resolve()
assert genjax.__spec__.submodule_search_locations and callable(genjax.train)
print(Linear(0.0, 1.0, 2)(1), genjax.errors.UserError.__module__)
"""


def run_in(folder, *arguments):
    """What a fresh process in a folder says."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_script_and_python_m_beside_a_clone_get_the_package(tmp_path):
    (tmp_path / "genjax").mkdir()
    for name in ("__init__.py", "genjax", "configs"):
        (tmp_path / "genjax" / name).symlink_to(ROOT / name)
    (tmp_path / "work.py").write_text(SCRIPT)
    found = run_in(tmp_path, "work.py")
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["0.5", "genjax.errors"]
    found = run_in(tmp_path, "-m", "genjax", "show", "nothing_of_this_name")
    assert found.returncode == 2 and "unknown config" in found.stderr, found.stderr


def test_the_file_for_it_is_no_package_of_its_own():
    """Imported under another name, as tools that walk a checkout do, it does nothing."""
    found = run_in(
        ROOT.parent,
        "-c",
        "import runpy, sys; "
        f"runpy.run_path({str(ROOT / '__init__.py')!r}); print('genjax' in sys.modules)",
    )
    assert found.stdout == "False\n", found.stderr
