"""How near a model's translations come to those of people."""

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
    """BLEU (Papineni et al., 2002) and chrF (Popović, 2015) of greedy translations, by sacreBLEU
    (arXiv 1804.08771).

    ``bleu`` and ``chrf`` are of the translations as they are read against the reference as it is
    written: sacreBLEU tokenises both (13a), and the numbers compare with others that it made. Where
    the codec of the target knows lower case alone, both sides are lower-cased, which the signature
    in the protocol tells. ``bleu_tokenised`` is of the words that the codec splits the reference
    into, in lower case as the codec has it, and of those that the model wrote, "<unk>" among them,
    without smoothing: what papers reported that give no signature, and higher as a rule. All are
    from 0 to 100.

    Attributes:
      limit: pairs, evenly spaced over the split; None for all.
      steps: the most tokens of a translation; None for as many as the rows of the data have.
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
        _sacrebleu()

    def __call__(self, subject: Subject) -> Findings:
        part = subject.select_part(self.limit)
        codec: Component = subject.model.codec
        whole: Component = part.whole
        if not isinstance(whole, HasReferences):
            raise UserError(
                f"the {subject.split} split has no sentences as they are written to compare with"
            )
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
        splitter = _splitter(codec)
        lower = splitter.lower and splitter is not WORDS
        scores, signature = corpus_scores(
            [codec.decode(row) for row in translations], references, lower
        )
        words = [_words(codec, row) for row in translations]
        tokenised = tokenised_bleu(words, [splitter.split(text) for text in references])
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
                f"bleu {bleu:.4g}: the translations are the references to the letter; the model "
                "may have learned from this set, or a source may hold its own translation",
            )
        if bleu < WORTHLESS and chrf > READABLE:
            return (
                f"bleu {bleu:.3g} with chrf {chrf:.3g}: characters agree where words do not; the "
                "references may be of another tokenisation, of one word each, or of a script "
                "without spaces",
            )
        if bleu < WORTHLESS:
            return (
                f"bleu {bleu:.3g}: hardly four words in a row agree; the translations may be "
                "empty, in another language, or the references those of other sentences",
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
    """Return greedy translations [B, steps] int32 of sources int32 [B, S] of any lengths, which
    ``source_mask`` [B, S] tells; ended ones are filled up with ``end``.
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
    """Return greedy answers [B, steps] int32 to what rows int32 [B, T + 1] start with, which
    ``prefix_mask`` [B, T + 1] tells; ended ones are filled up with ``end``.

    Args:
      longest: tokens of the longest prompt.
    """
    prompts = Prompts(*extract_prompts(tokens, prefix_mask, longest))
    options, key = TokenSampler(steps, temperature=0), jax.random.key(0)  # nothing is drawn
    return continue_prompts(family, state.params, prompts, options, key, ((end,),), end).tokens


def corpus_scores(
    translations: Sequence[str], references: Sequence[str], lower: bool = False
) -> tuple[dict[str, float], str]:
    """``bleu`` and ``chrf`` of texts [N] as they are read, from 0 to 100, and what they were made
    by.

    Args:
      lower: do not tell capital letters from small ones.
    """
    metrics = _sacrebleu()
    bleu, chrf = metrics.BLEU(lowercase=lower), metrics.CHRF(lowercase=lower)
    found = {
        name: float(metric.corpus_score(list(translations), [list(references)]).score)
        for name, metric in (("bleu", bleu), ("chrf", chrf))
    }
    return found, f"bleu {bleu.get_signature()}, chrf {chrf.get_signature()}"


def tokenised_bleu(
    translations: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> float:
    """Return BLEU of texts that are words already, orders up to 4, without smoothing; from 0 to
    100.
    """
    metric = _sacrebleu().BLEU(tokenize="none", smooth_method="none", force=True)
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


def _splitter(codec: Component) -> Words:
    """What splits the target's text into words: its own codec, where that is one of words."""
    target = codec.target if isinstance(codec, HasTarget) else codec
    return target if isinstance(target, Words) else WORDS


def _words(codec: Component, row: np.ndarray) -> list[str]:
    """Return the words of a translation [T]: a token each where the codec is of words."""
    splitter = _splitter(codec)
    if splitter is WORDS:
        return WORDS.split(codec.decode(row))
    return [codec.decode(row[i : i + 1]) for i in range(len(row))]


def _sacrebleu() -> Any:
    """Its metrics; slow to import, and only evaluation needs them."""
    from sacrebleu import metrics

    return metrics
