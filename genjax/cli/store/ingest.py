"""``genjax store ingest``: add files to a store as documents and chunks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from genjax.cli.store.options import IngestOptions
from genjax.errors import UserError
from genjax.store.store import Store


def ingest(store: Store, words: Sequence[str], options: IngestOptions) -> None:
    """Ingest files in turn, and continue with the others if one is refused.

    Raises:
      UserError: a file was refused; of several files, each refused one is printed.
    """
    from genjax.rag.chunks import Cutting, open_tokens
    from genjax.rag.ingest import ingest_file

    cutting = Cutting(options.chunk_tokens, options.overlap)
    tokens = open_tokens(options.tokenizer)
    refused: list[UserError] = []
    for word in words:
        try:
            done = ingest_file(
                store,
                word,
                cutting,
                tokens,
                encoding=options.encoding,
                field=options.field,
                origin=options.origin,
                generator=options.generator,
            )
        except UserError as error:
            if len(words) == 1:
                raise
            refused.append(error)
            print(f"genjax: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        removed = f", {done.removed:,} removed" if done.removed else ""
        kept = f", {done.kept:,} known already" if done.kept else ""
        print(f"{word}: {done.documents:,} documents, {done.added:,} new chunks{kept}{removed}")
    if refused:
        raise UserError(f"{len(refused):,} of {len(words):,} files were refused", "ingest")
