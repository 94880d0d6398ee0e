"""Find and read the modules beside a config that it imports, and import them from what was read.

A run stores a copy of them, so that its config also works without the original folder. Only what
was read before is imported, so nothing that the copy lacks or that nobody has allowed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from types import ModuleType

from genjax.errors import UserError

FOLDER = "config_modules"  # folder of the copies in a run directory
MOST, LARGEST = 200, 4 * 2**20  # limits on files and bytes of all neighbours
OTHERS = sys.stdlib_module_names | {"genjax", "genjax_config", "__main__"}  # never neighbours
Files = Mapping[str, bytes]  # contents by path below the folder, with "/"


def read_neighbours(config: Path, content: bytes) -> dict[str, bytes]:
    """Return the modules in the folder of a config that it imports, directly or indirectly.

    A package comes with all its modules. A module that Python has already imported from elsewhere
    is not a neighbour, nor is one of the standard library.

    Raises:
      UserError: there are too many to copy them with each run.
    """
    folder = home(config)
    if folder.name == FOLDER:  # a run's copy, which is complete
        return read_copies(config)
    found: dict[str, bytes] = {}
    todo = [content]
    seen = set(OTHERS)
    while todo:
        for name in sorted(_imported(todo.pop()) - seen):
            seen.add(name)
            new = {} if _is_elsewhere(name, folder) else dict(_files(folder, name))
            found |= new
            todo += new.values()
            if len(found) > MOST or sum(map(len, found.values())) > LARGEST:
                raise UserError(
                    f"{config} imports {name} from its folder, with which a run would copy more "
                    f"than {MOST} files or {LARGEST:,} bytes: install it as a package",
                    str(config),
                )
    return found


def home(config: Path) -> Path:
    """Return the folder of the modules beside a config; a run's copy has a folder for them."""
    folder = config.resolve().parent
    copies = folder / FOLDER
    return copies if copies.is_dir() else folder


def read_copies(config: Path) -> dict[str, bytes]:
    """Return the modules that a run has stored with its copy of a config."""
    folder = config.parent / FOLDER
    try:
        paths = sorted(path for path in folder.rglob("*.py") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}", str(folder)) from None


def digest_input(content: bytes, files: Files) -> bytes:
    """Return the bytes that identify a config and its neighbours; its own content without any."""
    if not files:
        return content
    parts = [content, *(part for name in sorted(files) for part in (name.encode(), files[name]))]
    return b"".join(hashlib.sha256(part).digest() for part in parts)


def holds(files: Files, module: str) -> bool:
    """Return whether ``files`` contain a module of that name."""
    path = module.replace(".", "/")
    return f"{path}.py" in files or any(name.startswith(f"{path}/") for name in files)


class Neighbours(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from contents that were read before.

    Only one instance is in use, that of the config executed last; it replaces modules of another
    config with the same names, which return with their config.
    """

    def __init__(self, folder: Path, files: Files) -> None:
        """Prepare the import.

        Args:
          folder: folder of the files.
          files: contents of the files.
        """
        self._folder = folder
        self._files = dict(files)
        self._modules: dict[str, ModuleType] = {}

    def install(self) -> None:
        """Import from these files from now on, instead of those of another config."""
        for other in [finder for finder in sys.meta_path if isinstance(finder, Neighbours)]:
            other.uninstall()
        self._take_out()
        if self._files:
            sys.meta_path.insert(0, self)
            sys.modules.update(self._modules)

    def uninstall(self) -> None:
        """Stop importing from these files."""
        self._modules |= self._take_out()
        sys.meta_path.remove(self)

    def _take_out(self) -> dict[str, ModuleType]:
        """Remove loaded modules with the names of these files; return those made from them."""
        tops = {name.split("/")[0].removesuffix(".py") for name in self._files}
        names = [name for name in sys.modules if name.split(".")[0] in tops]
        found = {name: sys.modules.pop(name) for name in names}
        return {n: m for n, m in found.items() if m.__spec__ and m.__spec__.loader is self}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        place = self._place(fullname)
        if place is None:
            return None
        package = not place.endswith(".py") or PurePosixPath(place).name == "__init__.py"
        spec = importlib.util.spec_from_loader(fullname, self, is_package=package)
        if spec is not None:
            spec.origin = str(self._folder / place)
            spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        place = self._place(module.__name__) or ""
        code = compile(
            self._files.get(place, b""), str(self._folder / place), "exec", dont_inherit=True
        )
        exec(code, module.__dict__)

    def _place(self, module: str) -> str | None:
        """Return the file of a module, or the folder of a package without one; None for other
        names.
        """
        path = module.replace(".", "/")
        for place in (f"{path}/__init__.py", f"{path}.py"):
            if place in self._files:
                return place
        return path if any(name.startswith(f"{path}/") for name in self._files) else None


def _imported(content: bytes) -> set[str]:
    """Return the top-level names of all modules that a file imports; none if it is not Python,
    which fails when it is executed.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def _files(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a module or package in a folder; none if it does not exist."""
    package, module = folder / name, folder / f"{name}.py"
    paths: Iterable[Path] = [module] if module.is_file() else []
    inside = sorted(package.rglob("*.py")) if package.is_dir() else []
    if inside and (not paths or package / "__init__.py" in inside):  # as Python chooses
        paths = inside
    for path in paths:
        if path.is_file():
            try:
                yield path.relative_to(folder).as_posix(), path.read_bytes()
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror}", str(path)) from None


def _is_elsewhere(name: str, folder: Path) -> bool:
    """Return whether Python has already imported a module of that name from another folder."""
    module = sys.modules.get(name)
    if module is None or module.__spec__ is None:
        return module is not None
    if isinstance(module.__spec__.loader, Neighbours):
        return False
    places = [module.__spec__.origin, *(module.__spec__.submodule_search_locations or ())]
    return not any(Path(place).resolve().is_relative_to(folder) for place in places if place)
