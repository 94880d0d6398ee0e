"""The base class of families that train one base run further."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from genjax import checks
from genjax.checks import Component
from genjax.continued import Continued
from genjax.family import Family

BASE = "base"


@checks.frozen
class FromBase(Continued):
    """A family that trains a base run further; evaluated, sampled and exported as the base's
    family.

    Attributes:
      base: run directory of the model; ``resolve`` replaces it by its family.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/gpt_docs"
    sampler: Component = dataclasses.field(default=None, kw_only=True)

    @property
    def runs(self) -> Mapping[str, str]:
        return {BASE: self.base}

    @property
    def wrapped(self) -> Family:
        base: Family = self.base
        return base if self.sampler is None else dataclasses.replace(base, sampler=self.sampler)  # type: ignore[call-arg]
