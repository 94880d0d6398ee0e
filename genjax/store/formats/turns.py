"""Convert messages in OpenAI's form to prompts and responses and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store.conversation import Said
from genjax.store.records import Origin, Payload, Prompt, Response

MESSAGE = "message"  # in the metadata of a turn: members of its message besides role and content
COLUMNS = "columns"  # in the metadata of a record: members of its row that no field holds
FORM = "form"  # in the metadata of a response that has another form than its prompt
ASSISTANT = "assistant"
Object = dict[str, Json]


@dataclass(frozen=True)
class Reading:
    """How rows become records.

    Attributes:
      where: place of the row, for messages.
      next_id: function that returns an id for each record of the row, reproducibly.
      origin: origin of the records.
      generator: generator of synthetic records.
      session: session of the prompts.
    """

    where: str
    next_id: Callable[[], str]
    origin: Origin = "real"
    generator: str | None = None
    session: str | None = None

    @property
    def made(self) -> dict[str, Any]:
        """The fields that all records of the row share."""
        return {"id": self.next_id(), "origin": self.origin, "generator": self.generator}


def read_turns(
    messages: Sequence[Json], reading: Reading, before: Said | None = None
) -> list[Said]:
    """Return a chain of prompts, and of responses for the assistant's turns.

    Raises:
      UserError: a message is invalid; the error names the row.
    """
    found: list[Said] = []
    for number, message in enumerate(messages):
        name = f"messages.{number}"
        if not isinstance(message, Mapping):
            raise UserError(f"{name} must be an object ({reading.where})", name)
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise UserError(f"{name}.role must be a text ({reading.where})", f"{name}.role")
        payload, rest = _read_content(message)
        metadata = {MESSAGE: rest} if rest else {}
        last = found[-1] if found else before
        if role == ASSISTANT and isinstance(last, Prompt):
            found.append(
                Response(**reading.made, prompt=last.id, payload=payload, metadata=metadata)
            )
            continue
        found.append(
            Prompt(
                **reading.made,
                session=reading.session,
                parent=None if last is None else last.id,
                role=role,
                payload=payload,
                metadata=metadata,
            )
        )
    return found


def _read_content(message: Mapping[str, Json]) -> tuple[Payload, Object]:
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    content = message.get("content")
    if isinstance(content, str):
        return Payload(text=content), rest
    if isinstance(content, Mapping | list):
        return Payload(data=content), rest
    if "content" in message:
        rest["content"] = content
    return Payload(), rest


def write_turn(record: Said) -> Object:
    """Return the message of a prompt or response."""
    role = ASSISTANT if isinstance(record, Response) else record.role or "user"
    payload = record.payload
    content = payload.data if payload.text is None else payload.text
    message: Object = {"role": role}
    if content is not None:
        message["content"] = content
    return message | dict(record.metadata.get(MESSAGE) or {})


def read_prompt(value: Json, reading: Reading, columns: Object) -> list[Said]:
    """Read a prompt in TRL's form, a text or messages; the columns go to its last record."""
    if isinstance(value, str):
        metadata = {COLUMNS: columns} if columns else {}
        return [Prompt(**reading.made, payload=Payload(text=value), metadata=metadata)]
    if not isinstance(value, list) or not value:
        raise UserError(f"prompt must be a text or messages ({reading.where})", "prompt")
    return read_turns(value, reading)


def write_prompt(branch: Sequence[Said]) -> str | list[Object]:
    """Write a prompt in TRL's form: a text if it is a single prompt without a role, otherwise
    messages.
    """
    if len(branch) == 1 and isinstance(branch[0], Prompt) and not branch[0].role:
        return _text_of(branch[0])
    return [write_turn(record) for record in branch]


def read_completion(
    value: Json, name: str, prompt: Said, reading: Reading, metadata: Object
) -> Response:
    """Read a completion in TRL's form, a text or messages."""
    metadata = dict(metadata)
    plain = isinstance(prompt, Prompt) and not prompt.role
    if isinstance(value, str):
        payload = Payload(text=value)
        if not plain:
            metadata[FORM] = "text"
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        payload, rest = _read_content(value[0])
        if plain or len(value) > 1 or value[0].get("role") != ASSISTANT:
            payload = Payload(data=list(value))  # several turns are kept unchanged
            metadata[FORM] = "messages"
        elif rest:
            metadata[MESSAGE] = rest
    else:
        raise UserError(f"{name} must be a text or messages ({reading.where})", name)
    return Response(**reading.made, prompt=prompt.id, payload=payload, metadata=metadata)


def write_completion(response: Response, as_text: bool) -> Json:
    """Write a completion in TRL's form, a text if its prompt is one."""
    form = response.metadata.get(FORM, "text" if as_text else "message")
    if form == "messages":
        return response.payload.data
    return _text_of(response) if form == "text" else [write_turn(response)]


def _text_of(record: Said) -> str:
    """Return the text of a record; "" if it has none."""
    return record.payload.text or ""
