"""Write samples of a run to a store: prompts, responses, scores, and the run itself."""

from __future__ import annotations

import hashlib
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
from genjax.runs import lineage
from genjax.runs.run import Run
from genjax.samplers.options import encode_options
from genjax.store.opening import open_store
from genjax.store.records import DataSet, Feedback, Payload, Prompt, Record, Response
from genjax.store.records import Run as RunRecord
from genjax.store.rows import make_ids
from genjax.store.store import Store

Drawn = tuple[int, np.ndarray, np.ndarray | None]  # seed, samples in model space, scores [N]
PNG = "image/png"


def store_draws(
    place: str, run: Run, sampler: Component, drawn: Iterable[Drawn], reward: str | None = None
) -> int:
    """Write samples to a store, all or none, and create it if it is missing; return their number.

    Args:
      place: path or URL of the store.
      run: run that drew the samples.
      sampler: sampler of the samples.
      drawn: seeds, samples from ``run.sample``, and scores.
      reward: reward that gave the scores.

    Raises:
      UserError: the store cannot be written, or the samples are neither texts nor images.
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
                prompt = Prompt(id=_name("prompt", said), origin="real", payload=Payload(text=said))
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


def record_run(store: Store, run: Run) -> RunRecord:
    """Return the record of a run, after adding it and those of its data if they are missing."""
    known = lineage.read_record(run.run_dir, run.step)
    sets = []
    for one in known["origins"]:
        sets.append(
            DataSet(
                id=_name("dataset", str(one["fingerprint"])),
                origin="real",
                name=str(one["name"]),
                fingerprint=str(one["fingerprint"]),
                manifest={"inputs": dict(lineage.read_inputs(one) or {}), "kind": one["kind"]},
            )
        )
    place = str(run.run_dir)
    record = RunRecord(
        id=_name("run", f"{place}\n{known['config']}\n{known['data_fingerprint']}"),
        origin="real",
        name=run.run_dir.name,
        path=place,
        config=known["config"],
        fingerprint=known["data_fingerprint"],
        parents=tuple(dict.fromkeys(one.id for one in sets)),
        metadata={"commits": known["commits"], "training_seed": known["training_seed"]},
    )
    store.add_new([*{one.id: one for one in sets}.values(), record])
    return record


def _read_samples(
    run: Run, sampler: Component, samples: np.ndarray
) -> tuple[Sequence[str], list[Payload]]:
    """Return the prompts and the answers of samples."""
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
        return said, [Payload(text=_mend(answer)) for answer in answers]
    if run.spec.vocabulary is not None:
        texts = [codec.decode(before_end(codec, row)) for row in np.asarray(samples)]
        if all(isinstance(text, str) for text in texts):
            return [""] * len(texts), [Payload(text=_mend(text)) for text in texts]
    raise UserError(f"store: {run.run_dir} draws neither texts nor images", "store")


def _mend(text: str) -> str:
    """Remove characters that databases cannot store, but a model may draw."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _name(kind: str, content: str) -> str:
    """Return an id derived from the content, so that equal content is recorded once."""
    digest = hashlib.sha256(f"{kind}\n{content}".encode("utf-8", "replace")).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
