"""Write TensorBoard event files that hold each row of a run once, even if processes were killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from genjax.machine import disk


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Let imports within do without PyTorch, which tensorboardX takes seconds to import where it is
    installed, for tensors that no run has.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]


with _without_torch():
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import directory_check, masked_crc32c

LENGTH, CHECK = 8, 4  # bytes of the length and of the checksum after it and after the contents
PATTERN = "events.out.tfevents.*"


class Events:
    """Appends to the event files of a folder, in this thread; a file is created with the first
    event.

    Args:
      folder: folder of the files.
      step: step that the run continues from. Events of later steps are removed.
    """

    def __init__(self, folder: epath.Path, step: int) -> None:
        self._folder, self._step = folder, step
        self._writer: EventsWriter | None = None
        found = (
            [_truncate_events(path, step) for path in sorted(folder.glob(PATTERN))]
            if folder.exists()
            else []
        )
        self._known = frozenset().union(*found)  # (tag, step) of every scalar

    def write_scalars(self, step: int, split: str, numbers: Mapping[str, float | None]) -> None:
        """Write the numbers of a row that the files do not hold yet; None stands for NaN or
        infinity.
        """
        for name, value in numbers.items():
            content = summary.scalar(f"{split}/{name}", np.nan if value is None else value)
            if (content.value[0].tag, step) not in self._known:
                self._add(step, content)

    def write_picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Write a picture, uint8 [H, W, C]."""
        self._add(step, summary.image(name, image, dataformats="HWC"))

    def flush(self) -> None:
        """Flush the files to disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, step: int, content: Any) -> None:
        if self._writer is None:
            directory_check(os.fspath(self._folder))
            suffix = f".{secrets.token_hex(4)}"  # two starts within a second
            self._writer = EventsWriter(os.path.join(os.fspath(self._folder), "events"), suffix)
            # Makes a TensorBoard that has later steps in memory forget them.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(step=self._step + 1, session_log=start))
        self._write(event_pb2.Event(step=step, summary=content))

    def _write(self, event: event_pb2.Event) -> None:
        assert self._writer is not None
        event.wall_time = time.time()
        self._writer.write_event(event)


def records(content: bytes) -> Iterator[bytes]:
    """Yield the serialized events of a file up to the first damaged or incomplete one."""
    start = 0
    while len(head := content[start : start + LENGTH + CHECK]) == LENGTH + CHECK:
        size, check = struct.unpack("<QI", head)
        data = content[start + len(head) : start + len(head) + size]
        start += len(head) + size + CHECK
        whole = start <= len(content) and check == masked_crc32c(head[:LENGTH])
        if not whole or struct.unpack("<I", content[start - CHECK : start])[0] != masked_crc32c(
            data
        ):
            return
        yield data


def _truncate_events(path: epath.Path, step: int) -> set[tuple[str, int]]:
    """Remove later or damaged events from a file; return the tag and step of every scalar left."""
    content, kept, found = path.read_bytes(), [], set()
    for data in records(content):
        event = event_pb2.Event.FromString(data)
        if event.step <= step or event.HasField("session_log"):
            head = struct.pack("<Q", len(data))
            kept += [
                head,
                struct.pack("<I", masked_crc32c(head)),
                data,
                struct.pack("<I", masked_crc32c(data)),
            ]
            scalars = (value for value in event.summary.value if value.HasField("simple_value"))
            found |= {(value.tag, event.step) for value in scalars}
    left = b"".join(kept)
    if left != content:
        disk.write(path, left)
    return found
