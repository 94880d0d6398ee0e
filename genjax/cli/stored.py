"""Draws of a run as records of a store: prompts, responses, their scores, and the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from genjax.checks import Component
from genjax.cli.compare import is_unprompted, split_answers
from genjax.config_files import to_json
from genjax.data.chat.template import before_end
from genjax.data.codecs import ImageCodec
from genjax.data.pictures import png_bytes
from genjax.errors import UserError
from genjax.evaluation.images.reward_of_images import requested_labels
from genjax.families.autoregressive.request import MOST_PROMPTS
from genjax.runs.run import Run
from genjax.samplers.options import encode_options
from genjax.store.opening import open_store
from genjax.store.records import Feedback, Payload, Prompt, Record, Response
from genjax.store.rows import make_ids
from genjax.store.runs import make_id, mend, record_run

Drawn = tuple[int, np.ndarray, np.ndarray | None]  # of a seed, in model space, and scores [N]
PNG = "image/png"


def store_draws(
    place: str, run: Run, sampler: Component, drawn: Iterable[Drawn], reward: str | None = None
) -> int:
    """Write draws to a store, all or none, which is made where it is missing; returns how many.

    Args:
      place: the store's path or URL.
      run: that drew them.
      sampler: that they were drawn by.
      drawn: seeds, samples as ``run.sample`` gives them, and scores.
      reward: that gave the scores.

    Raises:
      UserError: the store cannot be written, or the draws are neither texts nor images.
    """
    with open_store(place, create=True) as store:
        origin = record_run(store, run)
        records: list[Record] = []
        options = to_json(sampler)
        known: set[str] = set()
        count = 0
        for seed, samples, scores in drawn:
            prompts, payloads = _read_samples(run, sampler, samples)
            ids = make_ids(len(payloads))
            for number, (said, payload) in enumerate(zip(prompts, payloads, strict=True)):
                prompt = Prompt(
                    id=make_id("prompt", said), origin="real", payload=Payload(text=said)
                )
                if prompt.id not in known:
                    known.add(prompt.id)
                    store.add_new([prompt])
                records.append(
                    Response(
                        id=ids[number],
                        origin="synthetic",
                        generator=origin.id,
                        prompt=prompt.id,
                        payload=payload,
                        run=origin.id,
                        step=run.step,
                        sampler=options if isinstance(options, dict) else None,
                        seed=seed,
                        metadata={"number": number},
                    )
                )
                count += 1
                if scores is not None and np.isfinite(scores[number]):
                    records.append(
                        Feedback(
                            origin="real",
                            target=ids[number],
                            name="reward",
                            value=float(scores[number]),
                            source_kind="CODE",
                            source_id=reward,
                        )
                    )
        store.add(*records)
    return count


def _read_samples(
    run: Run, sampler: Component, samples: np.ndarray
) -> tuple[Sequence[str], list[Payload]]:
    """What was said to the model, and what it answered."""
    codec: Component = run.codec
    if isinstance(codec, ImageCodec):
        labels = requested_labels(run.family, run.spec, sampler, len(samples))
        names = run.spec.class_names or tuple(map(str, range(run.spec.classes or 0)))
        said = [""] * len(samples) if labels is None else [str(names[label]) for label in labels]
        pictures = [png_bytes(image) for image in codec.decode(samples)]
        return said, [Payload(content=content, media_type=PNG) for content in pictures]
    if is_unprompted(run.model()):
        request = encode_options(sampler, codec)
        typed = sampler.prompts or (sampler.prompt,)
        said = [typed[number % MOST_PROMPTS % len(typed)] for number in range(len(samples))]
        answers = split_answers(samples, request, codec).responses
        return said, [Payload(text=mend(answer)) for answer in answers]
    if run.spec.vocabulary is not None:
        texts = [codec.decode(before_end(codec, row)) for row in np.asarray(samples)]
        if all(isinstance(text, str) for text in texts):
            return [""] * len(texts), [Payload(text=mend(text)) for text in texts]
    raise UserError(f"store: {run.run_dir} draws neither texts nor images", "store")
