"""Compares a model's translations with reference translations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import HasReferences, Spec
from genjax.data.text.codec_parts import HasTarget
from genjax.data.text.codecs import Words
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.text.drawn import cut_at_end
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.families.rewards import extract_prompts
from genjax.family import Batch, Family, State
from genjax.samplers.tokens.decoding import Prompts, TokenSampler

WORDS = Words()
PERFECT, READABLE, WORTHLESS = 99.0, 40.0, 0.5  # BLEU, chrF, BLEU that come with a caution


@checks.frozen
class TranslationQuality(Evaluator):
    """Computes BLEU (Papineni et al., 2002) and chrF (Popović, 2015) of greedy translations, by
    sacreBLEU (arXiv 1804.08771).

    ``bleu`` and ``chrf`` compare the decoded translations with the original references: sacreBLEU
    tokenises both (13a), so the numbers compare with others by sacreBLEU. If the target's codec has
    only lower case, both sides are lower-cased, as the signature in the protocol says.
    ``bleu_tokenised`` compares words as the codec splits them, including "<unk>", without
    smoothing, like papers that give no signature; it is usually higher. All are from 0 to 100.

    Attributes:
      limit: number of pairs, evenly spaced over the split; None for all.
      steps: maximum number of tokens of a translation; None for the row length of the data.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    limit: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "limit", "steps")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if spec.source_length is None and not spec.prefixed:
            raise UserError(
                "TranslationQuality needs pairs of texts, but these data have no source"
            )
        _import_sacrebleu()

    def __call__(self, subject: Subject) -> Findings:
        part = subject.select_part(self.limit)
        codec: Component = subject.model.codec
        whole: Component = part.whole
        if not isinstance(whole, HasReferences):
            raise UserError(f"the {subject.split} split has no original sentences to compare with")
        references = whole.references()
        references = [references[row] for row in part.rows]
        steps, context = (
            self.steps or subject.model.spec.shape[0] - 1,
            subject.model.family.net.context,
        )
        if subject.model.spec.source_length is None:
            longest = int(part.batch(np.arange(len(part)))["prefix_mask"].sum(1).max())
            steps = min(steps, context + 1 - longest)
            written = subject.collect(_answer_batch, steps, longest, codec.end, limit=self.limit)
        else:
            steps = min(steps, context)
            written = subject.collect(
                _translate_batch, steps, codec.start, codec.end, limit=self.limit
            )
        translations = [cut_at_end(row, (codec.end,)) for row in written]
        splitter = _find_splitter(codec)
        lower = splitter.lower and splitter is not WORDS
        scores, signature = score_corpus(
            [codec.decode(row) for row in translations], references, lower
        )
        words = [_split_words(codec, row) for row in translations]
        tokenised = compute_tokenised_bleu(words, [splitter.split(text) for text in references])
        return Findings(
            scores | {"bleu_tokenised": tokenised},
            protocol=f"{len(references):,} pairs of {subject.split}, greedy, at most {steps} "
            f"tokens; {signature}; "
            f"bleu_tokenised: words of {type(splitter).__name__}, no smoothing",
        )

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        bleu, chrf = numbers.get("bleu", READABLE), numbers.get("chrf", 0.0)
        if bleu > PERFECT:
            return (
                f"bleu {bleu:.4g}: the translations equal the references; the model "
                "may have been trained on this set, or the sources may contain the translations",
            )
        if bleu < WORTHLESS and chrf > READABLE:
            return (
                f"bleu {bleu:.3g} with chrf {chrf:.3g}: characters agree where words do not; the "
                "references may be tokenised differently, have one word each, or be in a script "
                "without spaces",
            )
        if bleu < WORTHLESS:
            return (
                f"bleu {bleu:.3g}: hardly any four consecutive words agree; the translations may "
                "be empty or in another language, or the references may be in another order",
            )
        return ()


def translate(
    family: Autoregressive,
    state: State,
    source: jax.Array,
    source_mask: jax.Array,
    start: int,
    end: int,
    steps: int,
) -> jax.Array:
    """Translate sources, int32 [B, S] with ``source_mask`` [B, S], greedily: int32 [B, steps],
    padded with ``end``.
    """
    starts = jnp.full((len(source), 1), start, jnp.int32)
    prompts = Prompts(starts, jnp.ones(starts.shape, bool))
    key = jax.random.key(0)  # nothing is drawn
    options = TokenSampler(steps, temperature=0)
    return continue_prompts(
        family, state.params, prompts, options, key, ((end,),), end, (source, source_mask)
    ).tokens


def answer(
    family: Autoregressive,
    state: State,
    tokens: jax.Array,
    prefix_mask: jax.Array,
    longest: int,
    end: int,
    steps: int,
) -> jax.Array:
    """Answer the prompts of rows, int32 [B, T + 1] with ``prefix_mask`` [B, T + 1], greedily: int32
    [B, steps], padded with ``end``.

    Args:
      longest: length of the longest prompt, in tokens.
    """
    prompts = Prompts(*extract_prompts(tokens, prefix_mask, longest))
    options, key = TokenSampler(steps, temperature=0), jax.random.key(0)  # nothing is drawn
    return continue_prompts(family, state.params, prompts, options, key, ((end,),), end).tokens


def score_corpus(
    translations: Sequence[str], references: Sequence[str], lower: bool = False
) -> tuple[dict[str, float], str]:
    """Compute ``bleu`` and ``chrf`` of texts [N], from 0 to 100; also return their signatures.

    Args:
      lower: whether case is ignored.
    """
    metrics = _import_sacrebleu()
    bleu, chrf = metrics.BLEU(lowercase=lower), metrics.CHRF(lowercase=lower)
    found = {
        name: float(metric.corpus_score(list(translations), [list(references)]).score)
        for name, metric in (("bleu", bleu), ("chrf", chrf))
    }
    return found, f"bleu {bleu.get_signature()}, chrf {chrf.get_signature()}"


def compute_tokenised_bleu(
    translations: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> float:
    """Compute the BLEU of texts split into words, with orders up to 4 and no smoothing; from 0 to
    100.
    """
    metric = _import_sacrebleu().BLEU(tokenize="none", smooth_method="none", force=True)
    one, other = ([" ".join(words) for words in texts] for texts in (translations, references))
    return float(metric.corpus_score(one, [other]).score)


def _translate_batch(
    family: Autoregressive,
    state: State,
    batch: Batch,
    key: jax.Array,
    steps: int,
    start: int,
    end: int,
) -> jax.Array:
    return translate(family, state, batch["source_tokens"], batch["source_mask"], start, end, steps)


def _answer_batch(
    family: Autoregressive,
    state: State,
    batch: Batch,
    key: jax.Array,
    steps: int,
    longest: int,
    end: int,
) -> jax.Array:
    return answer(family, state, batch["tokens"], batch["prefix_mask"], longest, end, steps)


def _find_splitter(codec: Component) -> Words:
    """Return the target's codec if it splits text into words, else ``WORDS``."""
    target = codec.target if isinstance(codec, HasTarget) else codec
    return target if isinstance(target, Words) else WORDS


def _split_words(codec: Component, row: np.ndarray) -> list[str]:
    """Split a translation [T] into words: one per token if the codec has words."""
    splitter = _find_splitter(codec)
    if splitter is WORDS:
        return WORDS.split(codec.decode(row))
    return [codec.decode(row[i : i + 1]) for i in range(len(row))]


def _import_sacrebleu() -> Any:
    """Import the metrics; they are slow to import, and only evaluation needs them."""
    from sacrebleu import metrics

    return metrics
