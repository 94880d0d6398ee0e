"""Tries a tokenizer of unknown origin in a process of its own, with an end to time and memory.

The library's patterns can backtrack endless, its replacements multiply a text, and what it does
not expect ends in a panic of Rust that writes pages to standard error. In a process of its own all
of them are one line. A tokenizer that has passed is remembered by its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from genjax.errors import UserError
from genjax.serial import trust

LARGEST = 256 * 2**20  # bytes of the file; those of the largest models have 40 MB
MOST_ADDED = 20_000  # the library takes minutes for a million; models have hundreds
HIGHEST = 10_000_000  # of an id; tables have a row for each up to it
SECONDS = 20.0
MEMORY = 4 * 2**30  # bytes, and 100 for each of the file
LETTERS = "aA0 \n.\u00e9\u4e2d"  # one of each kind
TRY = """
import json, sys
try:
    import resource
    room = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
except (ImportError, ValueError, OSError):
    pass
sys.path[:] = json.loads(sys.argv[2])
given = json.loads(sys.stdin.buffer.read())
try:
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_str(given["text"])
    for text in given["texts"]:
        try:
            tokenizer.decode(tokenizer.encode(text).ids)
        except Exception:
            pass  # a text that the vocabulary cannot spell
except BaseException as error:
    print((str(error).splitlines() or [type(error).__name__])[0][:300])
    sys.exit(1)
print("passed")
"""


def check(text: str, where: str) -> None:
    """Refuse the JSON of a tokenizer that cannot be loaded and used within bounds.

    Args:
      text: of a tokenizer.json.
      where: the file, for messages and as the ``field`` of errors.

    Raises:
      UserError: it is damaged, too large, too slow, or ends in a panic of the library.
    """
    entry = entry_of(text)
    if trust.is_known(entry):
        return
    if len(text) > LARGEST:
        raise UserError(f"{where} must have <= {LARGEST:,} bytes, got {len(text):,}", where)
    try:
        stored = json.loads(text)
        added = stored.get("added_tokens") or []
        tried = list(_texts(stored))
    except (ValueError, AttributeError, RecursionError) as error:
        raise _refused(where, f"{error or 'it is nested too deeply'}") from None
    if len(added) > MOST_ADDED:
        raise UserError(
            f"{where}: added_tokens must be <= {MOST_ADDED:,}, got {len(added):,}", where
        )
    if (highest := _highest(stored)) > HIGHEST:
        raise UserError(
            f"{where}: the id of a token must be <= {HIGHEST:,}, got {highest:,}", where
        )
    here = os.path.realpath(os.curdir)
    paths = [path for path in sys.path if path and os.path.realpath(path) != here]
    room = MEMORY + 100 * len(text)
    command = [sys.executable, "-I", "-S", "-c", TRY, str(room), json.dumps(paths)]
    calm = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    try:
        found = subprocess.run(
            command,
            input=json.dumps({"text": text, "texts": tried}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | calm | {"OPENBLAS_NUM_THREADS": "1"},
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _refused(where, f"short texts take it more than {SECONDS:.0f} s") from None
    said = found.stdout.decode(errors="replace").strip()
    if found.returncode or said != "passed":
        raise _refused(
            where,
            said or f"it takes more than {room / 2**30:.0f} GB of memory, or ends the process",
        )
    trust.remember([entry], quietly=True)


def entry_of(text: str) -> str:
    """The entry of a tokenizer among what is trusted."""
    return f"tokenizer {hashlib.sha256(text.encode()).hexdigest()}"


def _texts(stored: dict[str, Any]) -> Iterator[str]:
    """Short texts that the patterns of a tokenizer are likely to be slow at: repeated letters
    of theirs.
    """
    patterns = json.dumps(
        [stored.get("normalizer"), stored.get("pre_tokenizer")], ensure_ascii=False
    )
    letters = dict.fromkeys(LETTERS + "".join(sorted(set(patterns))[:100]))
    yield from ("", *letters, "Hello world, it's 12.5 \U0001f642!\n")
    for letter in letters:
        yield f"{letter * 40}\0!"
    yield "".join(letters) * 20
    yield f"{'a' * 2000}!"


def _highest(stored: dict[str, Any]) -> int:
    """The highest id of a token that a tokenizer names."""
    vocabulary = (stored.get("model") or {}).get("vocab")
    named = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    named += [
        token.get("id") for token in stored.get("added_tokens") or [] if isinstance(token, dict)
    ]
    return max((one for one in named if isinstance(one, int)), default=0)


def _refused(where: str, reason: str) -> UserError:
    return UserError(f"{where} is not a usable tokenizer.json: {reason}", where)
