"""The whole training loop, compared with a plain PyTorch loop around a ``DataLoader``.

A step of ``train_loop`` is an epoch: 100 batches of 128 images of MNIST's size, for the perceptron
VAE of the case ``vae``, Adam. The images are MNIST where GENJAX_DATA has it, else its stand-ins.

genjax runs the loop of ``genjax.train``: shuffled input, prefetched; the average of the parameters;
the check for what is not finite; a row of metrics each 50 steps and a checkpoint each 1000.
PyTorch's data set turns one image at a time into floats, as torchvision's ``ToTensor`` does, and
its loop prints the loss each 50 steps and saves model and optimizer each 1000. Of no worker and of
two, the faster counts.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH, STEPS, LATENT = 128, 100, 20
LOG, SAVE, DISPATCH = 50, 1000, 10
IMAGES = BATCH * STEPS


@dataclass(frozen=True)
class Part:
    """The first images of MNIST, or of its stand-ins, for one epoch."""

    def open(self) -> Any:
        """Open the data set, whose training split has whole batches."""
        import dataclasses

        import numpy as np

        from genjax.data.sources import TFDS

        found = TFDS("mnist").open()
        train: Any = found.splits["train"]
        chosen = np.arange(IMAGES) % len(train)
        return dataclasses.replace(found, splits={**found.splits, "train": train.take(chosen)})


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(epochs)`` of genjax."""
    from etils import epath

    from genjax.evaluation.ahead import Ahead
    from genjax.evaluation.judge import Judge
    from genjax.experiment import Every, Experiment
    from genjax.families.vae import VAE
    from genjax.nets.mlp import MLPCoder
    from genjax.optim import Adam
    from genjax.runs import writers
    from genjax.runs.checkpoint import Checkpoints
    from genjax.runs.first_state import examples, first_state
    from genjax.runs.setup import set_up
    from genjax.runs.stop import Stop
    from genjax.runs.summary import Summary
    from genjax.training import Loop

    experiment = Experiment(
        VAE(LATENT, MLPCoder((400,))),
        data=Part(),
        optimizer=Adam(),
        batch_size=BATCH,
        ema=0.999,
        steps=10**9,
        steps_per_dispatch=DISPATCH,
        every=Every(log=LOG, evaluate=0, sample=0, checkpoint=SAVE),
    )
    folder = epath.Path(tempfile.mkdtemp())
    setup = set_up(experiment, folder)
    opened = contextlib.ExitStack()  # until the process ends
    stop = opened.enter_context(Stop())
    checkpoints = opened.enter_context(Checkpoints(folder))
    start = first_state(setup, checkpoints)
    out = opened.enter_context(writers.Writers(folder, 0, experiment.steps, True, True))
    source, _ = opened.enter_context(examples(setup, start.state, 0, experiment.steps))
    summary = Summary(experiment.keep, (), "", [])
    judge = Judge.of(experiment, setup.layout, setup.data, (), {})
    ahead = opened.enter_context(Ahead())
    loop = Loop(setup, start, judge, checkpoints, out, summary, ahead)

    def run(epochs: int) -> None:
        assert opened is not None
        last = loop.step + epochs * STEPS
        while loop.step < last:
            loop.advance(next(source))
            loop.observe_and_save(loop.is_stopping(stop, math.inf), stop)

    return run


def peer_step(case: str) -> Callable[[int], None]:
    """``run(epochs)`` of the plain PyTorch loop, with the faster number of workers."""
    from benchmarks.peers import use_torch

    use_torch()
    loops = [Plain(workers) for workers in (0, 2)]
    took: list[float] = []

    def run(epochs: int) -> None:
        if loops[-1].step == 0:  # the first call is at the start, while others may be busy
            for loop in loops:
                loop.run(1)
            return
        if not took:
            for loop in loops:
                begin = time.perf_counter()
                loop.run(1)
                took.append(time.perf_counter() - begin)
        loops[took.index(min(took))].run(epochs)

    return run


class Plain:
    """The usual loop of PyTorch."""

    def __init__(self, workers: int) -> None:
        import torch
        from torch import nn
        from torch.utils.data import DataLoader

        self.encoder: Any = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 2 * LATENT)
        )
        self.decoder: Any = nn.Sequential(nn.Linear(LATENT, 400), nn.ReLU(), nn.Linear(400, 784))
        self.net = nn.ModuleList([self.encoder, self.decoder])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.loader: Any = DataLoader(
            Images(),  # type: ignore[arg-type]
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.folder, self.step = Path(tempfile.mkdtemp()), 0

    def run(self, epochs: int) -> None:
        """Train for some epochs."""
        import torch
        from torch.nn import functional

        for images, _ in itertools.chain.from_iterable(self.loader for _ in range(epochs)):
            mean, log_variance = self.encoder(images).chunk(2, dim=-1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            logits, targets = self.decoder(z), images.flatten(1)
            nll = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            loss = (nll + kl) / BATCH
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.step += 1
            if self.step % LOG == 0:
                with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
                    print(self.step, loss.item(), file=log)
            if self.step % SAVE == 0:
                state = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
                torch.save(state, self.folder / "checkpoint.pt")


class Images:
    """The images as a data set of PyTorch: a picture at a time, as floats, with its label."""

    def __init__(self) -> None:
        import torch

        train = Part().open().splits["train"]
        self.images = torch.from_numpy(train.raw[..., 0])
        self.labels = torch.from_numpy(train.label).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.images[index][None].float().div(255), self.labels[index]
