"""Text that ships with every Python: real prose and code without a download."""

from __future__ import annotations

import importlib
from typing import Any

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset
from genjax.data.text.codecs import Characters
from genjax.data.text.dataset import text_dataset
from genjax.data.text.documents import StoredTexts
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError


@checks.frozen
class PythonDocs:
    """Reads the chapters of Python's language reference that ``help()`` shows, about half a million
    characters.

    They are ``pydoc_data.topics`` of the running Python, sorted by name. Each release of Python has
    its own, so numbers are only comparable within a release; 3.11.7 has 79 chapters with 464,970
    characters, 103 of them distinct.

    Attributes:
      codec: codec of the text; without a vocabulary it is fitted to the training text.
      layout: how documents become rows.
      split: how documents are split.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    codec: Component = Characters(unknown="token")
    layout: Any = RandomWindows()
    split: Any = ByDocuments()
    cache: str | None = None

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: this Python lacks its documentation.
        """
        try:
            topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
        except ImportError:
            raise UserError(
                "this Python came without pydoc_data; install its standard library in full"
            ) from None
        texts = StoredTexts("Python's language reference", tuple(sorted(topics.items())))
        return text_dataset(self.split.split(texts), self.codec, self.layout, self.cache)
