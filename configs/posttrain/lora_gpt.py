"""LoRA (Hu et al., arXiv 2106.09685): adapters of rank 4 adapt `gpt_books` to an unseen novel.

    python -m genjax train lora_gpt                # trains gpt_books first if missing
    python -m genjax train finetune_gpt            # all parameters, for comparison
    python -m genjax sample runs/lora_gpt --prompt "My dear Watson" --num 4

52,480 parameters are trained, 4.8 % of 1,088,256. 150 steps took about 2 min on two busy x86 cores
(November 2026, jax 0.10.2). The held-out loss of the novel is 3.832 nats per token for both seeds 0
and 1. With all parameters (`finetune_gpt`) it is 3.779 and 3.773, and before training 4.075.

If token embeddings, norms and biases stay frozen, the gap is wider. At rank 4 and a learning rate
of 2e-3 the loss is 3.910 after 100 of 600 steps, with all parameters 3.793. The gap grows with the
steps: the base is far from its optimum, and the general knowledge that it still learns is not of
low rank. After 300 of 600 steps rank 4 with the embeddings has 3.829, all parameters 3.701.

Result:
    command: python -m genjax train lora_gpt
    data: a fifth novel, from `gpt_books`
    hardware: two x86 cores, busy
    minutes: 2
    seeds: 0, 1
    metric: nats per token of the novel, held-out paragraphs, 4.8 % of the parameters
    value: 3.832, 3.832
    baseline: 4.075 before; all parameters 3.779, 3.773
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.LoRA(
            base="runs/gpt_books",
            adapters=gx.Adapters(
                rank=4,
                targets=("attention/.*kernel", "feed_forward/.*kernel", "^embedding$"),
                whole=("norm", "bias"),
            ),
        ),
        data=gx.TextFiles(
            pattern="books/the_adventures_of_sherlock_holmes.txt.gz",
            unit="paragraphs",
            codec=gx.Subwords(),  # the base's, as no vocabulary is given
            layout=gx.RandomWindows(128),
            split=gx.ByDocuments(test=0.1),
        ),
        optimizer=gx.AdamW(gx.WarmUp(30, gx.Linear(8e-3, 0.0)), weight_decay=0.0, clip=1.0),
        steps=150,
        batch_size=16,
        every=gx.Every(log=25, evaluate=50, sample=150, checkpoint=150),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/gpt_books_tiny",
            "family.adapters.rank": 2,
            "data.layout.length": 16,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
