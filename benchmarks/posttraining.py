"""Post-training of a small GPT-2, compared with TRL's trainers and with peft.

The model has 4 layers, 4 heads, 128 wide, 2,048 tokens, and random weights.

- ``grpo``: an iteration: 32 responses of 32 tokens to 4 prompts of 32, none of which ends early,
  rewards by a plain Python function, and 4 updates with the KL to the first model (0.04), next to
  ``trl.GRPOTrainer``, whose 4 steps are one iteration.
- ``dpo``: a step on 16 pairs of 64 tokens, of which 32 are the prompt, next to ``trl.DPOTrainer``.
  Both compute the log-probabilities of the reference beforehand.
- ``sft_lora``: a step on 16 rows of 64 tokens that trains adapters of rank 8 of every matrix of the
  blocks, next to ``peft`` in a plain loop.

AdamW, clip 1, no dropout, no recomputation, float32. The trainers make their steps in their own
loop, with their data loader and log; genjax places each batch and fetches the metrics of each step,
as its loop does.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LAYERS, HEADS, WIDTH, VOCABULARY, PROMPT, RESPONSE = 4, 4, 128, 2048, 32, 32
GROUP, RESPONSES, UPDATES, KL = 8, 32, 4, 0.04
PAIRS, ROWS, RANK, ALPHA, BETA = 16, 16, 8, 16, 0.1
RATE, DECAY, CLIP = 1e-4, 0.01, 1.0
LENGTH = PROMPT + RESPONSE
EXAMPLES = 512  # of a data set, which is repeated


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    return {"grpo": _genjax_grpo, "dpo": _genjax_dpo, "sft_lora": _genjax_lora}[case]()


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of TRL or peft."""
    from benchmarks.peers import use_torch

    use_torch()
    return {"grpo": _trl_grpo, "dpo": _trl_dpo, "sft_lora": _peft_lora}[case]()


def _tokens(seed: int, *shape: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).integers(0, VOCABULARY, shape, np.int32)


def _genjax_grpo() -> Callable[[int], None]:
    import numpy as np

    from benchmarks.ppo import character, even
    from genjax.data.dataset import Spec
    from genjax.data.text.codecs import Characters
    from genjax.posttrain.grpo import GRPO

    mean = np.zeros(PROMPT, np.float32)
    spec = Spec("tokens", (PROMPT,), mean, vocabulary=VOCABULARY, prefixed=True)
    family = GRPO(reward=even, group=GROUP, new_tokens=RESPONSE, minibatches=UPDATES, kl=KL)
    family = family.with_codec(Characters("".join(map(character, range(VOCABULARY)))))
    shape = RESPONSES, PROMPT
    batches = [
        {
            "tokens": np.repeat(_tokens(seed, RESPONSES // GROUP, PROMPT), GROUP, 0),
            "loss_mask": np.zeros(shape, np.float32),
            "prefix_mask": np.ones(shape, np.float32),
            "mask": np.ones(RESPONSES, np.float32),
        }
        for seed in range(EXAMPLES // RESPONSES)
    ]
    return _continue(family, spec, batches)


def _genjax_dpo() -> Callable[[int], None]:
    import numpy as np

    from genjax.data.dataset import Spec
    from genjax.posttrain.dpo import DPO

    mean = np.zeros(LENGTH, np.float32)
    spec = Spec("chosen_tokens", (LENGTH,), mean, vocabulary=VOCABULARY, preferences=True)
    response = np.ones((PAIRS, LENGTH), np.float32)
    response[:, :PROMPT] = 0
    batches = []
    for seed in range(EXAMPLES // PAIRS):
        chosen, rejected = _tokens(seed, 2, PAIRS, LENGTH)
        rejected[:, :PROMPT] = chosen[:, :PROMPT]
        batch: dict[str, Any] = {"mask": np.ones(PAIRS, np.float32)}
        for side, tokens in (("chosen", chosen), ("rejected", rejected)):
            batch |= {
                f"{side}_tokens": tokens,
                f"{side}_mask": np.ones_like(response),
                f"{side}_response": response,
            }
        batches.append(batch)
    return _continue(DPO(beta=BETA), spec, batches)


def _genjax_lora() -> Callable[[int], None]:
    import numpy as np

    from genjax.data.dataset import Spec
    from genjax.posttrain.adapters import Adapters
    from genjax.posttrain.lora import LoRA

    spec = Spec("tokens", (LENGTH,), np.zeros(LENGTH, np.float32), vocabulary=VOCABULARY)
    batches = [
        {
            "tokens": _tokens(seed, ROWS, LENGTH),
            "loss_mask": np.ones((ROWS, LENGTH), np.float32),
            "mask": np.ones(ROWS, np.float32),
        }
        for seed in range(EXAMPLES // ROWS)
    ]
    return _continue(LoRA(adapters=Adapters(RANK, ALPHA)), spec, batches)


def _continue(family: Any, spec: Any, batches: list[dict[str, Any]]) -> Callable[[int], None]:
    """``run(steps)`` of a family that continues the model: collect, place, step and fetch the
    metrics, as the loop does.
    """
    import jax
    import numpy as np

    from genjax import parallel
    from genjax.continued import apply_initial_params
    from genjax.data.sources import Digits
    from genjax.experiment import Experiment
    from genjax.families.autoregressive.autoregressive import Autoregressive
    from genjax.family import State, Trained, make_example
    from genjax.nets.transformer.transformer import Transformer
    from genjax.optim import AdamW
    from genjax.posttrain.continued import BASE
    from genjax.runs.setup import initial_state, make_step
    from genjax.schedules import Constant

    model = Autoregressive(Transformer(LAYERS, HEADS, WIDTH, LENGTH))
    tokens = spec if not spec.preferences else family.wrapped_spec(spec)
    family = family.resolve({BASE: Trained("", model, tokens)}, spec)
    optimizer = AdamW(Constant(RATE), weight_decay=DECAY, clip=CLIP)
    experiment = Experiment(
        family, data=Digits(), optimizer=optimizer, batch_size=len(batches[0]["mask"])
    )
    plain = initial_state(experiment, spec)

    def begin() -> State:
        params, variables = model.init(jax.random.key(1), make_example(tokens), tokens)
        frozen = {BASE: {"params": params, "variables": variables}}
        return apply_initial_params(family, plain().replace(frozen=frozen))

    layout = parallel.start(parallel.Devices(count=1))
    step = layout.compile_step(make_step(experiment), layout.eval_shapes(begin))
    state = layout.init(begin)
    if family.precompute is not None:
        known = layout.compile_evaluation(family.precompute)
        batches = [
            batch | {name: np.asarray(value) for name, value in known(state, batch).items()}
            for batch in batches
        ]
    source: Iterator[Mapping[str, Any]] = itertools.cycle(batches)

    def run(steps: int) -> None:
        nonlocal state
        pending = None
        for _ in range(steps):
            batch = layout.place(next(source))
            if family.collect is not None:
                batch = layout.place(family.collect(state, batch, state.step_key))
            state, metrics = step(state, batch)
            if pending is not None:
                np.asarray(pending.pairs)
            pending = metrics
        jax.block_until_ready((state, metrics))

    return run


def _torch_model() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    folder = tempfile.mkdtemp()  # from where a trainer loads its reference
    GPT2LMHeadModel(config).save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder)


def _tokenizer() -> Any:
    """Return a tokenizer of transformers with a character for each token, as genjax has it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from benchmarks.ppo import character

    words = {character(token): token for token in range(VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token=character(0)))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    last = character(VOCABULARY - 1)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=last, pad_token=last)


def _texts(seed: int, count: int, length: int) -> list[str]:
    """Draw texts without the last token, which ends texts."""
    from benchmarks.ppo import character

    rows = _tokens(seed, count, length) % (VOCABULARY - 1)
    return ["".join(map(character, row)) for row in rows.tolist()]


def _settings(rows: int) -> dict[str, Any]:
    """Return what the configs of both trainers share."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": rows,
        "max_steps": 10**9,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": DECAY,
        "max_grad_norm": CLIP,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 50,
        "disable_tqdm": True,
    }


def _trl_grpo() -> Callable[[int], None]:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from benchmarks.ppo import even

    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return even(prompts, completions)

    options = GRPOConfig(
        **_settings(RESPONSES // UPDATES),
        steps_per_generation=UPDATES,
        num_generations=GROUP,
        max_completion_length=RESPONSE,
        beta=KL,
        loss_type="grpo",
        generation_kwargs={"min_new_tokens": RESPONSE},
    )
    data = Dataset.from_dict({"prompt": _texts(0, EXAMPLES, PROMPT)})
    trainer = GRPOTrainer(
        _torch_model(), reward, options, train_dataset=data, processing_class=_tokenizer()
    )
    return _pace(trainer, UPDATES)


def _trl_dpo() -> Callable[[int], None]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    options = DPOConfig(
        **_settings(PAIRS), max_length=LENGTH, beta=BETA, precompute_ref_log_probs=True
    )
    columns = {
        "prompt": _texts(0, EXAMPLES, PROMPT),
        # The trainer adds the token that ends a text.
        "chosen": _texts(1, EXAMPLES, RESPONSE - 1),
        "rejected": _texts(2, EXAMPLES, RESPONSE - 1),
    }
    trainer = DPOTrainer(
        _torch_model(),
        None,
        options,
        train_dataset=Dataset.from_dict(columns),
        processing_class=_tokenizer(),
    )
    return _pace(trainer, 1)


def _pace(trainer: Any, each: int) -> Callable[[int], None]:
    """``run(steps)``: lets the trainer's own loop, in a thread, make ``each`` of its steps a
    step.
    """
    from transformers import TrainerCallback

    from benchmarks.peers import use_torch

    go, done = threading.Semaphore(0), threading.Semaphore(0)
    faults: list[BaseException] = []

    class Pace(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            go.acquire()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.release()

    def train() -> None:
        use_torch()
        try:
            trainer.train()
        except BaseException as fault:
            faults.append(fault)
            done.release(10**6)
            raise

    trainer.add_callback(Pace())
    threading.Thread(target=train, daemon=True).start()

    def run(steps: int) -> None:
        go.release(steps * each)
        for _ in range(steps * each):
            done.acquire()
        if faults:
            raise RuntimeError("the trainer stopped") from faults[0]

    return run


def _peft_lora() -> Callable[[int], None]:
    import torch
    from peft import LoraConfig, get_peft_model

    options = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=["c_attn", "c_proj", "c_fc"],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    net: Any = get_peft_model(_torch_model(), options)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    batches = [torch.from_numpy(_tokens(seed, ROWS, LENGTH)).long() for seed in range(32)]
    source = itertools.cycle(batches)

    def run(steps: int) -> None:
        for _ in range(steps):
            tokens = next(source)
            optimizer.zero_grad(set_to_none=True)
            net(input_ids=tokens, labels=tokens).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIP)
            optimizer.step()

    return run
