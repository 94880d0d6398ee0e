"""Runs are paired with their drafts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from genjax.data.chat.template import ends_of
from genjax.data.text.dataset import get_tokenizer
from genjax.errors import UserError, unknown_name
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import DRAFT, Decoding, Request
from genjax.runs import directory
from genjax.runs.run import Run
from genjax.runs.setup import load_family, require_run
from genjax.serve.engines.drafting import DraftEngine, DraftPrograms, Pair


def read_draft(given: str, places: Mapping[str, str]) -> tuple[str, str]:
    """Return the name of a run and the directory of its draft, from "NAME=RUN_DIR"; if there is
    only one run, "RUN_DIR" is enough.

    Args:
      given: name and directory.
      places: directories of the runs, by name.

    Raises:
      UserError: there is no such run, or the draft does not fit it.
    """
    name, equals, path = given.partition("=")
    if not equals or name not in places:
        if len(places) > 1 and equals:
            raise UserError(f"draft: {unknown_name('run', name, places)}", "draft")
        if len(places) > 1:
            raise UserError(f"draft must be NAME={given}, as several runs are served", "draft")
        (name,), path = places, given
    require_run(path, "draft")
    target, draft = (load_family(one) for one in (places[name], path))
    for one, family in ((places[name], target), (path, draft)):
        if not isinstance(family, Autoregressive):
            kind = type(family).__name__
            raise UserError(f"draft must be of language models, but {one} is a {kind}", "draft")
    codecs = [directory.load_codec(epath.Path(one).expanduser())[1] for one in (places[name], path)]
    if get_tokenizer(codecs[0]) != get_tokenizer(codecs[1]):
        raise UserError(
            f"draft must have the codec of its run: the tokens of {path} are not those of "
            f"{places[name]}",
            "draft",
        )
    return name, path


def open_pair(run: Run, path: str, vocabulary: int, batch: int) -> tuple[DraftEngine, Any]:
    """Load a draft; return the engine of the pair, and the draft's parameters.

    Args:
      run: run that draws.
      path: run directory of its draft.
      vocabulary: vocabulary size of the run's network.
      batch: maximum number of rows that take turns.

    Raises:
      UserError: the draft does not fit the run.
    """
    own: Decoding = run.family.sampler
    plain: dict[str, Any] = {"prompt": "", "prompts": (), "tokens": (), "beams": 1, "stop": ()}
    drafted = dataclasses.replace(own, **plain, repetition_penalty=1.0, draft=path)
    request, state = run.prepare_drawing(drafted)
    assert isinstance(request, Request) and state.frozen is not None
    ends = frozenset(ends_of(run.codec))
    pair = Pair(run.family, request.draft, own.draft_tokens, ends, vocabulary)
    params = (state.params, state.frozen[DRAFT]["params"])
    return DraftEngine(DraftPrograms(pair, run.layout), params, batch), params[1]
