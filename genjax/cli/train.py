"""``genjax train``: train from a config."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from genjax.cli.options import TrainOptions
from genjax.cli.parsing import explain_store, parse
from genjax.config_files import load_config
from genjax.runs import pretrained
from genjax.training import train


def train_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax train CONFIG``."""
    experiment, path = load_config(target, "--tiny" in arguments)
    options = parse(TrainOptions(experiment), f"train {target}", arguments)
    run_dir = options.run_dir or str(
        Path("runs") / (f"{path.stem}_tiny" if options.tiny else path.stem)
    )
    experiment = options.experiment
    if options.from_ is not None:
        experiment = pretrained.with_base(experiment, options.from_, run_dir)
    with contextlib.ExitStack() as stack:
        watch = None
        if options.store is not None:
            with explain_store():
                from genjax.cli.rollouts import keep_rollouts
            watch = stack.enter_context(keep_rollouts(options.store, experiment))
        run = train(
            experiment,
            run_dir,
            max_minutes=options.max_minutes,
            source=path,
            tracking=options.tracking,
            watch=watch,
        )
    if not run.layout.is_main:
        return
    print(f"run       {run.run_dir}")
    print(f"metrics   {run.run_dir / 'metrics.jsonl'}")
    print(f"losses    {run.run_dir / 'plots' / 'loss.png'}")
    pictures = sorted((run.run_dir / "samples").glob(f"{run.step:08d}*.png"))
    for picture in pictures:
        print(f"picture   {picture}")
