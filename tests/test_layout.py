"""The house: a file imports from lower floors only, in no circle, and is shorter than 400 lines."""

import ast
import collections
import configparser
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genjax

PACKAGE = Path(genjax.__file__).parent
FLOORS = [  # rooms, and the modules that stand beside them
    {"errors", "losses"},
    {"checks", "serial", "trees"},
    {"machine"},
    {"nets", "samplers", "schedules", "start_from"},
    {"data", "optim", "parallel"},
    {"family"},
    {"continued"},
    {"config_files", "experiment", "families", "prepare"},
    {"interop", "posttrain"},
    {"evaluation"},
    {"gx", "runs"},
    {"launch", "plan", "store", "training"},
    {"design", "profile", "rag", "sweep"},
    {"serve"},
    {"report"},
    {"cli", "__init__"},
    {"__main__"},
]
ROOM = 24  # files at most, besides __init__
LINES = 480  # of a file, at most


def floor(module: str) -> int:
    """The floor of ``genjax.data.stream``: that of its first name below the package."""
    name = module.split(".")[1] if "." in module else "__init__"
    return next((i for i, names in enumerate(FLOORS) if name in names), -1)


def modules() -> dict[str, Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(("genjax", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in paths
    }


def imports(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("genjax.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genjax":
            assert node.level == 0
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else f"{node.module}" for name in names}
    return found


def graph() -> dict[str, set[str]]:
    known = set(modules())
    return {name: imports(path, known) for name, path in modules().items()}


def test_every_file_stands_on_a_floor():
    assert not [name for name in modules() if floor(name) < 0]


def test_no_room_is_overfull():
    files = collections.Counter(
        path.parent for path in modules().values() if path.stem != "__init__"
    )
    assert not {str(folder): count for folder, count in files.items() if count > ROOM}


def test_imports_go_down_or_stay_beside():
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if floor(other) > floor(name)
        or (
            floor(other) == floor(name)
            and "." in other.removeprefix("genjax.")
            and other.split(".")[1] != name.split(".")[1]
        )
    ]
    assert not wrong


def test_imports_run_in_no_circle():
    known = modules()
    edges = {
        n: {o if o in known else f"{o}.__init__" for o in others} for n, others in graph().items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_no_file_grows_too_long():
    long = {
        name: n
        for name, path in modules().items()
        if (n := len(path.read_text().splitlines())) > LINES
    }
    assert not long


def test_only_checkpoint_knows_of_orbax_and_only_parallel_of_meshes():
    for name, path in modules().items():
        text = path.read_text()
        assert "orbax." not in text or name in (
            "genjax.runs.checkpoint",
            "genjax.runs.directory",
        ), name  # runs records its version
        assert (
            not any(word in text for word in ("shard_map", "NamedSharding", "pmap("))
            or name == "genjax.parallel"
        )


def test_only_charts_imports_matplotlib():
    found = {
        name
        for name, path in modules().items()
        if "import matplotlib" in (text := path.read_text()) or "from matplotlib" in text
    }
    assert found == {"genjax.data.charts", "genjax.data.tables.pictures"}  # there for type checkers


def test_setup_lists_every_package():
    settings = configparser.ConfigParser()
    settings.read(PACKAGE.parent / "setup.cfg")
    listed = set(settings["options"]["packages"].split()) - {"genjax.configs"}
    found = {
        ".".join(("genjax", *p.parent.relative_to(PACKAGE).parts))
        for p in PACKAGE.rglob("__init__.py")
    }
    assert listed == found


def test_no_test_changes_the_clock_of_the_whole_process():
    """A loop of events in another thread, a server's, would wait for the time that it then saw."""
    changed = re.compile(r"setattr\((\w+\.)?time, ")
    paths = [
        path for path in Path("tests").rglob("*.py") if changed.search(path.read_text("utf-8"))
    ]
    assert not paths, "replace the module's name: setattr(module, 'time', ...)"


def test_no_two_tests_have_files_of_one_name():
    """pytest imports a file of a folder without ``__init__.py`` by its last name alone, and a name
    that is taken ends the run of whoever has every extra installed.
    """
    files = collections.Counter(path.name for path in Path("tests").rglob("test_*.py"))
    assert not [name for name, count in files.items() if count > 1]


def test_every_text_file_is_opened_with_a_named_encoding():
    """ruff's PLW1514 knows this only of what it can tell is a ``pathlib.Path``; ``epath.Path``
    it does not know.
    """
    calls = [
        (path, node)
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ("read_text", "write_text")
        and ast.unparse(node.func.value) != "stored"
    ]
    assert calls
    unnamed = [
        node for node in calls if "encoding" not in {keyword.arg for keyword in node[1].keywords}
    ]
    assert not [f"{path.name}:{node.lineno}" for path, node in unnamed]


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_can_be_imported(name):
    if name == "genjax.interop.lm_eval":
        pytest.importorskip("lm_eval", reason="the harness is an extra: pip install '.[lm-eval]'")
    importlib.import_module(name.removesuffix(".__init__"))


def test_nothing_imports_nnx():
    """flax.nnx of some versions cannot be imported with newer versions of JAX; flax.linen can."""
    for folder in (
        PACKAGE,
        PACKAGE.parent / "configs",
        PACKAGE.parent / "tests",
        PACKAGE.parent / "benchmarks",
    ):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    else []
                )
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                assert not any("nnx" in part.split(".") for part in (module, *names)), path


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["trian"],
        ["show", "--help"],
        ["store", "--help"],
        ["store", "show", "s.db", "--wrong"],
        ["serve", "run", "--wrong"],
        ["ask", "s.db", "why?", "--wrong"],
    ],
)
def test_help_and_mistakes_import_little(words):
    """JAX alone takes most of a second."""
    code = f"import sys, genjax.__main__ as m\nm.main({words!r})\n"
    code += "print(len(sys.modules), 'jax' in sys.modules, 'genjax.experiment' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *heavy = done.stdout.splitlines()[-1].split()
    assert heavy == ["False", "False"] and int(count) < 600


def test_the_package_itself_imports_no_jax():
    code = "import sys, genjax; print('jax' in sys.modules, callable(genjax.train))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


def test_the_commands_import_nothing_slow():
    """So that the loser of two runs on one directory, and ``show``, answer within seconds."""
    slow = {
        "daft",
        "diffrax",
        "matplotlib",
        "pandas",
        "scipy.stats",
        "sklearn",
        "tensorboardX",
        "tensorflow",
        "torch",
    }
    code = "import sys; from genjax.cli.runs import compare; "
    code += "from genjax.cli import evaluate, export, sample, show, train; "
    code += f"print(sorted({slow} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
