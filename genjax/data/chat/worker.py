"""The child process that renders chat templates: JSON lines in, JSON lines out.

A template is a program by an unknown author. It runs in Jinja's sandbox, and this process limits
its time, memory and output, which no expression can get around. The file imports nothing of genjax,
so that it starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

SECONDS = 1.0  # of processor time for one text; an ordinary one takes a thousandth of that
MEMORY = 2**30  # bytes of address space
LONGEST = 2**23  # characters of one text


class Generation(jinja2.ext.Extension):
    """Parses ``{% generation %}`` blocks, which mark what the assistant generates."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_marked", [jinja2.nodes.ContextReference()])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _marked(self, context: jinja2.runtime.Context, caller: Callable[[], str]) -> str:
        before, after = context.get("generation_marks") or ("", "")
        return f"{before}{caller()}{after}"


class Names(jinja2.utils.Namespace):
    """A namespace that refuses names leading into Python."""

    def __init__(*args: Any, **names: Any) -> None:
        self, *given = args
        for name in dict(*given, **names):
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, *given, **names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: str) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a name must not start with _: {name!r}")


@functools.lru_cache(maxsize=8)
def compiled(source: str) -> jinja2.Template:
    """Compile a template in the same environment as ``transformers``."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": refuse, "namespace": Names, "dict": dict}
    return environment.from_string(source)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Format JSON without escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def refuse(message: str) -> None:
    """Raise the error of a template that refuses a conversation."""
    raise jinja2.exceptions.TemplateError(message)


def now(date: str | None, form: str) -> str:
    """Return the fixed date of a run in the given format."""
    if date is None:
        refuse("it writes the date (strftime_now): give the template one, as date='2026-01-31'")
    return datetime.datetime.fromisoformat(str(date)).strftime(form)


def rendered(request: dict[str, Any]) -> list[str]:
    """Render the jobs of a request."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends this process; constants are folded early
    template = compiled(request["source"])
    names = dict(request["names"]) | {"strftime_now": functools.partial(now, request["date"])}
    texts = []
    for job in request["jobs"]:
        inputs = {
            "messages": job["messages"],
            "tools": None,
            "documents": None,
            "add_generation_prompt": job["prompt"],
            "generation_marks": job["marks"],
        }
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        parts, size = [], 0
        for part in template.generate(**(names | inputs)):
            parts.append(part)
            size += len(part)
            if size > LONGEST:
                refuse(f"it writes more than {LONGEST:,} characters")
        texts.append("".join(parts))
    return texts


def reply(line: str) -> dict[str, Any]:
    """Answer a line of input with the rendered texts, or with what is wrong with the template."""
    try:
        return {"texts": rendered(json.loads(line))}
    except jinja2.exceptions.TemplateSyntaxError as error:
        reason = f"line {error.lineno}: {error.message}"
    except jinja2.exceptions.SecurityError as error:
        reason = f"it is not allowed: {error}"
    except jinja2.exceptions.TemplateError as error:
        reason = str(error) or type(error).__name__
    except MemoryError:
        reason = f"it takes more than {MEMORY:,} bytes of memory"
    except Exception as error:  # an expression of the template may raise anything
        reason = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"error": " ".join(reason.split())[:500]}


def main() -> None:
    """Answer each line until the input ends."""
    for limit, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # the system may lack this limit
            resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(reply(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
