"""Write comparisons and evaluations of runs to a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.cli.options import CompareOptions
from genjax.cli.runs.compared import Sides
from genjax.cli.stored import (
    Score,
    find_kind,
    make_payloads,
    make_prompts,
    make_responses,
    make_scores,
    read_said,
    record_run,
    unique,
)
from genjax.evaluation.judge import Report
from genjax.runs.run import Run
from genjax.store.access.entering import open_as
from genjax.store.formats.reading import PREFERENCE
from genjax.store.records import Feedback, Payload, Record, Relation, Response
from genjax.store.runs import make_checkpoint, mend

COMPARED = "was compared with"


def store_comparison(
    place: str, runs: tuple[Run, Run], sides: Sides, options: CompareOptions
) -> int:
    """Write all samples of a comparison to a store, or none, and return the number of pairs.

    The two samples of a pair answer the same prompt and are linked by a relation. If a reward
    tells them apart, a preference records which is better.

    Args:
      place: the store's path or URL; the store is created if it does not exist.
      runs: the runs A and B.
      sides: the samples of both runs.
      options: the options of the comparison, with the seed and the reward.

    Raises:
      UserError: the store cannot be written to.
    """
    by = Score(options.reward, find_kind(options.reward))
    with open_as(place, create=True) as store:
        records: list[Record] = []
        drawn: list[list[Response]] = []
        for number, run in enumerate(runs):
            if sides.texts:
                said, sampler = sides.prompts, run.model().family.sampler
                payloads = [Payload(text=mend(text)) for text in sides.texts[number]]
            else:
                sampler = run.family.sampler
                payloads = make_payloads(run, sides.images[number])
                said = read_said(run, sampler, len(payloads))
            prompts = make_prompts(said, guard=store.guard)
            answers = make_responses(
                run, record_run(store, run), sampler, options.seed, prompts, payloads
            )
            records += [*prompts, *answers]
            if sides.rewards:
                records += make_scores(answers, sides.rewards[number], by)
            drawn.append(answers)
        records += _relate(drawn, sides.rewards, by)
        store.add_new(unique(records))
    return len(drawn[0])


def _relate(
    drawn: Sequence[Sequence[Response]], rewards: Sequence[np.ndarray], by: Score
) -> list[Record]:
    """Return the relation and any preference of each pair; NaN ranks below all numbers."""
    found: list[Record] = []
    for number, (a, b) in enumerate(zip(*drawn, strict=True)):
        found.append(Relation(origin="real", subject=b.id, predicate=COMPARED, object=a.id))
        if not rewards or a.prompt != b.prompt:
            continue
        values = [float(np.nan_to_num(side[number], nan=-np.inf)) for side in rewards]
        if values[0] == values[1]:
            continue
        best, worst = (b, a) if values[1] > values[0] else (a, b)
        apart = abs(values[1] - values[0])
        found.append(
            Feedback(
                origin="real",
                target=best.id,
                against=worst.id,
                name=PREFERENCE,
                value=apart if np.isfinite(apart) else 1.0,
                source_kind=by.kind,
                source_id=by.source,
            )
        )
    return found


def store_report(place: str, run: Run, split: str, found: Report) -> int:
    """Write an evaluation to a store, all or nothing, and return the number of samples.

    The metrics become feedback on the checkpoint; the samples that evaluators used are stored
    with their scores.

    Args:
      place: the store's path or URL; the store is created if it does not exist.
      run: the evaluated run.
      split: the split it was evaluated on.
      found: the evaluators' report.

    Raises:
      UserError: the store cannot be written to.
    """
    with open_as(place, create=True) as store:
        record = record_run(store, run)
        sampler = None if run.family.no_samples is not None else run.family.sampler
        records: list[Record] = [
            Feedback(
                origin="real",
                target=make_checkpoint(record, run.step).id,
                name=name,
                value=value,
                source_kind="CODE",
                source_id="genjax evaluate",
                rationale=found.protocols[name],
                metadata={"split": split, "data": found.data, "fingerprint": found.fingerprint},
            )
            for name, value in found.numbers.items()
            if np.isfinite(value)
        ]
        count = 0
        for one in found.drawn:
            if one.samples is None:
                said: Sequence[str] = one.prompts
                payloads = [Payload(text=mend(text)) for text in one.texts]
            else:
                said = read_said(run, sampler, len(one.samples))
                payloads = make_payloads(run, one.samples, sampler)
            prompts = make_prompts(said, guard=store.guard)
            answers = make_responses(run, record, sampler, run.experiment.seed, prompts, payloads)
            records += [*prompts, *answers]
            for name, scores in one.scores.items():
                records += make_scores(answers, scores, Score("genjax evaluate", name=name))
            count += len(answers)
        store.add_new(unique(records))
    return count
