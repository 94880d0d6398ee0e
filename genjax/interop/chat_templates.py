"""Reads and writes chat templates in folders of Hugging Face's layout."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.template import ChatCodec, ChatTemplate
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.interop import tokenizers
from genjax.serial import json_text
from genjax.serial.json_text import Json

FILE = "chat_template.jinja"
MAP, GENERATION = "special_tokens_map.json", "generation_config.json"
LONGEST = 2**20  # characters of a template; the longest in use have a twentieth of that
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def read(folder: Path, config: Mapping[str, Json], codec: Subwords) -> JinjaTemplate | None:
    """Read the chat template of a folder; None if it has none.

    It is ``chat_template.jinja`` or, without that file, ``chat_template`` of tokenizer_config.json:
    a text, or a list with one named "default". Answers end with the tokens named in
    generation_config.json, or else in config.json.

    Args:
      config: fields of config.json.
      codec: tokenizer of the folder.

    Raises:
      UserError: a file is damaged, or the template fails on a question and its answer; the field
        is the path.
    """
    path, fields = folder / FILE, _fields(folder / tokenizers.CONFIG)
    if path.exists():
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}", str(path)) from None
    else:
        path = folder / tokenizers.CONFIG
        found = _default(fields.get("chat_template"), path)
        if found is None:
            return None
        source = found
    if len(source) > LONGEST:
        raise UserError(
            f"{path}: a template must have at most {LONGEST:,} characters, got {len(source):,}",
            str(path),
        )
    generation = _fields(folder / GENERATION)
    ids = generation.get("eos_token_id", config.get("eos_token_id"))
    stops = [codec.name(i) for i in (ids if isinstance(ids, list) else [ids])]
    template = JinjaTemplate(
        source,
        special_names(folder),
        tuple(dict.fromkeys(stop for stop in stops if stop is not None)),
        datetime.datetime.now().isoformat(timespec="minutes") if "strftime_now" in source else None,
        str(path),
    )
    template.end(codec)  # renders it once
    return template


def special_names(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the special tokens that a folder names, such as ("bos_token", "<s>")."""
    fields = _fields(folder / MAP) | _fields(folder / tokenizers.CONFIG)
    found = []
    for role in ROLES:
        value = fields.get(f"{role}_token")
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str):
            found.append((f"{role}_token", value))
    return tuple(found)


def to_jinja(codec: ChatCodec) -> JinjaTemplate:
    """Convert the template of a codec to Jinja, with which other programs produce the same tokens.

    A ``ChatTemplate`` encodes its pieces separately, a Jinja template the text as a whole. Tokens
    are the same unless one spans a header and an answer. This can happen if the answer starts with
    a blank, or, with a tokenizer that puts a space before every text, for any answer.
    """
    template = codec.template
    if isinstance(template, JinjaTemplate):
        return template
    assert isinstance(template, ChatTemplate)
    start, end = tokenizers.start_and_end(codec.tokens)
    spoken = []
    for name, before, after in template.roles:
        learned = name == template.assistant
        called = {template.user: "user", template.assistant: "assistant"}.get(name, name)
        over = _literal(end) if learned else _literal(after)
        later = f" + ('' if loop.last and not add_generation_prompt else {_literal(after)})"
        said = f"{_literal(before)} + message['content'] + {over}{later if learned else ''}"
        spoken.append(f"if message['role'] == {_literal(called)} %}}{{{{ {said} }}}}{{%- ")
    before = next(before for name, before, _ in template.roles if name == template.assistant)
    source = (
        f"{{{{ {_literal(start)} }}}}{{%- for message in messages %}}{{%- "
        + "el".join(spoken)
        + "else %}{{ raise_exception('the template has no role ' + message['role']) }}{%- endif %}"
        "{%- endfor %}{%- if add_generation_prompt %}{{ " + _literal(before) + " }}{%- endif %}"
    )
    return JinjaTemplate(source)


def _literal(text: str) -> str:
    """Format a text as a literal in a Jinja expression."""
    plain = (c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text)
    return f"'{''.join(plain)}'"


def _default(found: Any, path: Path) -> str | None:
    if isinstance(found, list) and all(isinstance(one, Mapping) for one in found):
        named = {one.get("name"): one.get("template") for one in found}
        found = named.get("default")
    if isinstance(found, str | None):
        return found
    raise UserError(
        f"{path}: chat_template must be a text or a list of name and template, got {found!r:.60}",
        str(path),
    )


def _fields(path: Path) -> dict[str, Json]:
    """Read the fields of a JSON file; none if there is no file."""
    if not path.exists():
        return {}
    try:
        found = json_text.parse(path.read_bytes(), str(path), finite=False)
        if isinstance(found, dict):
            return found
    except (OSError, UserError):
        pass
    raise UserError(f"{path} is damaged: it is not a table of fields in JSON", str(path))
