"""Read what a run has stored: JSON of known shape, the components it names, and its copy of the
config file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import io
import json
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
from etils import epath

from genjax.errors import Signalled, UnknownComponent, UserError, unknown_name
from genjax.serial import neighbours, trust

PATIENCE = 60.0  # seconds that a config file may take to load
CONFIG_MODULE = "genjax_config"  # the module name under which a config file is executed
# The functions of genjax that a stored config may name: rewards, which have no side effects.
FUNCTIONS = frozenset(
    {
        "genjax.data.design.measures:bright_symmetrical_sleeveless",
        "genjax.data.design.measures:brightness",
        "genjax.data.design.measures:narrowness",
        "genjax.data.design.measures:sleeves",
        "genjax.data.design.measures:symmetry",
        "genjax.data.sources.arithmetic:correct",
        "genjax.data.sources.random_walks:optimality",
        "genjax.data.sources.rule_responses:positivity",
        "genjax.families.image_rewards:mirror_symmetry",
    }
)


def read_text(path: epath.Path, cure: str) -> str:
    """Return the text of a file of a run.

    Args:
      path: path of the file.
      cure: how to fix the run if the file is damaged, for the message.

    Raises:
      UserError: it is not a file, or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise damage_error(path, f"byte {error.start} is not UTF-8", cure) from None
    except IsADirectoryError:
        raise damage_error(path, "it is a folder", cure) from None


def read_json(path: epath.Path, shape: type, cure: str) -> Any:
    """Return the JSON of a file of a run, whose outermost value must be a ``shape``, such as dict.

    Raises:
      UserError: it cannot be read; the message has the path and the cure.
    """
    try:
        found = parse_json(read_text(path, cure), str(path))
    except UserError as error:
        if error.field == str(path):
            raise
        raise UserError(f"{error}; {cure}", str(path)) from None
    if not isinstance(found, shape):
        raise damage_error(path, f"it is not {'an object' if shape is dict else 'a list'}", cure)
    return found


def parse_json(text: str, name: str) -> Any:
    """Parse the JSON text of a file; ``name`` is for messages.

    Raises:
      UserError: it is not JSON, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_build_object)
    except RecursionError:
        raise UserError(f"{name} is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{name} is damaged: {error}") from None


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def damage_error(path: epath.Path, what: str, cure: str) -> UserError:
    """Return the error for a damaged file of a run."""
    return UserError(f"{path} is damaged: {what}; {cure}", str(path))


def execute(path: Path, content: bytes, files: neighbours.Files) -> ModuleType:
    """Execute a config file and return its module; the same text gives the same module, so that its
    classes are identical, too.

    Args:
      path: path of the config.
      content: content of the config.
      files: modules beside the config that it may import.
    """
    found = _neighbours(neighbours.home(path), tuple(sorted(files.items())))
    found.install()
    with blame_config(path):
        module = _module(path.resolve(), content, found)
    sys.modules[CONFIG_MODULE] = module  # dataclasses look up their own module
    return module


@functools.lru_cache
def _neighbours(home: Path, files: tuple[tuple[str, bytes], ...]) -> neighbours.Neighbours:
    return neighbours.Neighbours(home, dict(files))


@functools.lru_cache
def _module(path: Path, content: bytes, _: neighbours.Neighbours) -> ModuleType:
    spec = importlib.util.spec_from_file_location(CONFIG_MODULE, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[CONFIG_MODULE] = module
    # Not by the loader, which may find stale bytecode.
    code = compile(content, path, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module


@contextlib.contextmanager
def blame_config(path: Path) -> Iterator[None]:
    """Turn whatever a config file raises into a ``UserError``, and send what it prints to stderr.

    Raises:
      UserError: the config failed, tried to exit, or took more than ``PATIENCE`` seconds.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), _bounded():
            yield
    except UnknownComponent as error:
        raise UserError(f"{_find_line(path, error).rstrip(',')}: {error}", error.field) from error
    except (UserError, KeyboardInterrupt, Signalled):
        raise
    except BaseException as error:
        text = traceback.format_exception_only(error)[-1].strip()
        raise UserError(f"{_find_line(path, error)} failed: {text}", str(path)) from error
    if not printed.closed:
        sys.stderr.write(printed.getvalue())


def _find_line(path: Path, error: BaseException) -> str:
    """Return the config file with the line where an error was raised."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).resolve() == path.resolve():
            line = frame.lineno
    return f"{path}, line {line}," if line else f"{path}"


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Interrupt what takes longer than ``PATIENCE`` seconds; only in the main thread, which gets
    signals.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it did not end within {PATIENCE:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE, 1)  # again each second, should the file catch it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def from_json(value: Any, config_source: Path | None = None) -> Any:
    """Build a component from the JSON of ``to_json``; this only imports classes and calls their
    constructors.

    Args:
      value: JSON value.
      config_source: copy of the config file, for classes that the config itself defines.

    Raises:
      Untrusted: a class or function is not genjax's own, and the user has not allowed it (see
        ``trust``).
      UserError: a class does not exist, or cannot be built from what is stored.
    """
    if isinstance(value, list):
        return tuple(from_json(item, config_source) for item in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"function"}:
        return load_function(str(value["function"]), config_source)
    if not isinstance(value.get("class"), str):
        raise UserError("a component has no class")
    cls = _class(value["class"], config_source)
    fields = {f.name for f in dataclasses.fields(cls) if f.init}
    given = {
        name: from_json(item, config_source) for name, item in value.items() if name != "class"
    }
    for name in given.keys() - fields:
        raise unknown_name(f"field of {cls.__name__}", name, fields)
    hints = typing.get_type_hints(cls)
    try:
        with np.errstate(over="raise"):
            arrays = {
                n: np.asarray(v, np.float32) for n, v in given.items() if hints.get(n) is np.ndarray
            }
        for name in arrays:
            if not np.isfinite(arrays[name]).all():
                raise UserError(f"{name} of {cls.__name__} must be finite", name)
        return cls(**given | arrays)
    except UserError:
        raise
    # A field is missing or has another type; each class notices that in its own way.
    except Exception as error:
        raise UserError(f"{cls.__name__} cannot be made of what is stored: {error}") from error


def load_function(name: str, config_source: Path | None = None) -> FunctionType:
    """Return the function ``module:name`` that a file of a run names."""
    found = _load_object(name, config_source)
    if not isinstance(found, FunctionType):
        raise UserError(f"{name} is not a function")
    module = name.partition(":")[0]
    # Other functions of genjax could do anything if called like a reward: run a config, write a
    # file.
    if _is_own(module) and name not in FUNCTIONS and not _is_allowed(name):
        raise _untrusted_error(f"the function {name}", module)
    return found


def _class(name: str, config_source: Path | None) -> type:
    found = _load_object(name, config_source)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(f"{name} is not a dataclass")
    return found


def _load_object(name: str, config_source: Path | None) -> Any:
    """Return the object ``module:Name``, which the module or config must define itself."""
    module_name, _, path = name.partition(":")
    if module_name == CONFIG_MODULE and config_source is not None and config_source.exists():
        module = _load_config_copy(config_source, path)
    elif config_source is not None and neighbours.holds(
        neighbours.read_copies(config_source), module_name
    ):
        module = _load_neighbour(config_source, module_name, path)
    elif not _is_own(module_name) and not _is_allowed(name) and module_name != CONFIG_MODULE:
        raise _untrusted_error(name, module_name)
    else:
        module = _import_module(name)
    found: Any = module
    for part in path.split("."):
        # Not getattr, which may run code, and also finds what the module imports.
        inside = vars(found) if isinstance(found, ModuleType | type) else {}
        if part not in inside or (isinstance(inside[part], ModuleType)):
            here = (
                name for name, known in inside.items() if isinstance(known, type | FunctionType)
            )
            raise unknown_name(f"class or function of {module_name}", path, here)
        found = inside[part]
    if isinstance(found, type | FunctionType) and (found.__module__, found.__qualname__) != (
        module_name,
        path,
    ):
        home = f"{found.__module__}:{found.__qualname__}"
        raise UserError(f"{name} is not defined there: its own name is {home}")
    return found


def _import_module(name: str) -> ModuleType:
    module_name = name.partition(":")[0]
    # Only what the user names may be imported from the current folder, not what a file names.
    place = (
        contextlib.nullcontext()
        if trust.is_named_by_user(module_name)
        else trust.exclude_current_folder()
    )
    try:
        with place:
            return importlib.import_module(module_name)
    except (
        ImportError,
        ValueError,
        TypeError,
        OSError,
    ):
        # The last two are raised if the name is not that of a module.
        raise UserError(f"this run needs {name}, which cannot be imported here") from None


def _load_config_copy(source: Path, name: str) -> ModuleType:
    """Execute a run's copy of its config, if that is trusted, and return the module."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}", str(source)) from None
    files = neighbours.read_copies(source)
    if trust.is_named_by_user(CONFIG_MODULE):
        return execute(source, content, files)
    whole = neighbours.digest_input(content, files)
    if trust.is_known(trust.file_entry(whole)):
        with trust.exclude_current_folder():
            return execute(source, content, files)
    digest = hashlib.sha256(whole).hexdigest()[:12]
    raise _untrusted_error(
        f"{name or 'nothing'} of {source} (sha256 {digest}), which would be executed", CONFIG_MODULE
    )


def _load_neighbour(source: Path, module: str, name: str) -> ModuleType:
    """Import a module that was beside a run's config from the run's copy, if that is trusted."""
    if trust.is_named_by_user(module):
        files = tuple(sorted(neighbours.read_copies(source).items()))
        _neighbours(neighbours.home(source), files).install()
    else:
        _load_config_copy(source, f"{module}:{name}")
    try:
        with blame_config(source):
            return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{source}: {error}", str(source)) from None


def _is_own(module: str) -> bool:
    return module.startswith("genjax.")


def _is_allowed(name: str) -> bool:
    return trust.is_named_by_user(name.partition(":")[0]) or trust.is_known(trust.name_entry(name))


def _untrusted_error(what: str, module: str) -> trust.Untrusted:
    return trust.Untrusted(
        f"this run needs code that is not genjax's: {what}; if you trust the author of the run, "
        f"allow it with --trust={module}, or all that it names with --trust (in Python trust=True)",
        "trust",
    )


def list_code(tree: Any) -> Iterator[str]:
    """Yield the ``trust`` entries of all classes and functions in a JSON tree that need trust."""
    if isinstance(tree, list):
        for item in tree:
            yield from list_code(item)
    elif isinstance(tree, dict):
        name = str(tree.get("class", tree.get("function")))
        own = _is_own(name) and ("class" in tree or name in FUNCTIONS)
        if not own and not name.startswith(f"{CONFIG_MODULE}:"):
            yield trust.name_entry(name)
        for item in tree.values():
            yield from list_code(item)
