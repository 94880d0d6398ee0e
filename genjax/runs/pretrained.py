"""Import a pretrained model as a run, for ``sample``, ``evaluate`` and other runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
from etils import epath

from genjax import parallel
from genjax.checks import Component
from genjax.config_files import load_run_config
from genjax.continued import wrap_family
from genjax.data.chat.template import ChatCodec
from genjax.data.images.decode import note
from genjax.data.sources import PythonDocs
from genjax.data.text.dataset import set_codec
from genjax.data.text.layouts import Documents, RandomWindows
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.masked_lm import MaskedLM
from genjax.family import HasNet
from genjax.interop import huggingface, peft, tokenizers
from genjax.machine import disk
from genjax.optim import SGD
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.lora import LoRA
from genjax.runs import directory
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.checkpoint_files import newest_step
from genjax.runs.export import export_pretrained
from genjax.runs.first_state import first_state
from genjax.runs.run import Run, load
from genjax.runs.setup import initial_state, load_family, set_up

# Most tokens of the rows it is evaluated on and of the texts it draws.
LENGTH = 256


def import_run(source: str | Path, run_dir: str | Path, data: Component = None) -> Run:
    """Write a Hugging Face model as a run directory with a checkpoint at step 0.

    Args:
      source: a Hugging Face model folder, or a name at the hub.
      run_dir: run directory to create; ``genjax sample``, ``evaluate``, ``show`` and ``export``
        work on it.
      data: source of text to evaluate it on, with the model's codec; None for ``PythonDocs``. If
        the model has a chat template, prompts are turns of the user.

    Raises:
      UserError: the model cannot be read, see ``huggingface.load``; the directory is not empty; or
        the rows of the data are longer than the context.
    """
    model = huggingface.load(source)
    folder = epath.Path(run_dir).expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{run_dir} must be empty or missing", str(run_dir))
    length = min(model.net.context, LENGTH)
    family: Component
    rows: Any
    codec = dataclasses.replace(model.codec, file=str(folder / tokenizers.FILE), tokenizer="")
    if model.net.causal:
        family, rows = (
            Autoregressive(model.net, sampler=Decoding(steps=length)),
            RandomWindows(length),
        )
    else:
        # The last token of a row is read, too.
        family, rows = (
            MaskedLM(model.net),
            Documents(length - 1),
        )
    data = dataclasses.replace(data or PythonDocs(layout=rows), codec=codec)
    if model.template is not None:
        data = set_codec(data, ChatCodec(codec, model.template))
    # An optimizer whose state does not copy the parameters.
    experiment = Experiment(family, data, optimizer=SGD())
    layout = parallel.start(
        experiment.devices if jax.device_count() == 1 else parallel.Devices(count=1)
    )

    directory.check_claim(folder, experiment, None).write()
    disk.write(folder / tokenizers.FILE, model.codec.tokenizer)
    opened = data.open()
    if model.template is not None and not isinstance(opened.codec, ChatCodec):
        opened = dataclasses.replace(opened, codec=ChatCodec(opened.codec, model.template))
    setup = set_up(experiment, folder, data=opened, layout=layout)
    draw = initial_state(setup.experiment, setup.data.spec)
    # Everything of a random state except the parameters, which are not drawn.
    state = layout.init(lambda: draw().replace(params={})).replace(params=model.params)
    directory.describe(folder, setup.data, layout)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(0, state, {"step": 0, "position": 0, "meter": None}, None)
        checkpoints.wait()
    return load(folder)


def import_adapters(source: str | Path, run_dir: str | Path, base: str) -> Run:
    """Write low-rank adapters in the format of the package ``peft`` as a LoRA run at step 0.

    Args:
      source: folder with adapter_config.json and adapter_model.safetensors.
      run_dir: run directory to create; it is sampled, evaluated and exported as the merged model.
      base: base model: a run directory, a Hugging Face model folder, or a name at the hub; a model
        becomes a run beside it, ``run_dir``_from.

    Raises:
      UserError: the adapters or the base cannot be read or do not fit one another, see
        ``interop.peft.load``; the directory is not empty.
    """
    folder = epath.Path(run_dir).expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{run_dir} must be empty or missing", str(run_dir))
    if not _is_ours(base):
        base = _import_base(base, _base_directory(str(run_dir)))
    learned = load(base)
    model = export_pretrained(learned)
    found = peft.load(source, model.net, model.params)
    adapters = Adapters(found.rank, found.alpha, found.targets)
    experiment = Experiment(LoRA(str(base), adapters), learned.experiment.data, optimizer=SGD())
    directory.check_claim(folder, experiment, None).write()
    setup = set_up(experiment, folder, layout=learned.layout)
    state = first_state(setup).state
    params = jax.tree.map(
        lambda mine, place: jax.device_put(mine, place.sharding), found.params, state.params
    )
    directory.describe(folder, setup.data, learned.layout)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(
            0, state.replace(params=params), {"step": 0, "position": 0, "meter": None}, None
        )
        checkpoints.wait()
    return load(folder)


def with_base(experiment: Experiment, source: str, run_dir: str) -> Experiment:
    """Return the experiment with another base model than in its config, and that model's net.

    A run that has started uses its stored copy, so the other model may be gone; its base model
    cannot change.

    Args:
      experiment: the experiment.
      source: a run directory, a Hugging Face model folder, or a name at the hub.
      run_dir: directory of the run; a Hugging Face model becomes a run beside it, ``run_dir``_from.

    Raises:
      UserError: there is no such model, the run has started with another, or several processes
        would import it.
    """
    folder = epath.Path(run_dir).expanduser()
    own = directory.load_experiment(folder) if newest_step(folder) is not None else None
    if own is not None:
        _check_same(source, run_dir, own)
        if "base" in wrap_family(experiment.family).runs:
            family = dataclasses.replace(
                experiment.family, base=wrap_family(own.family).runs["base"]
            )
            return dataclasses.replace(experiment, family=family)
        family = _set_net(experiment.family, _get_net(own.family))
        return dataclasses.replace(experiment, family=family, start_from=own.start_from)
    if not _is_ours(source):
        if experiment.devices.distributed or experiment.devices.coordinator is not None:
            raise UserError(
                f"{source} becomes a run first, in one process: "
                "genjax.runs.pretrained.import_run(source, run_dir)"
            )
        source = _import_base(source, _base_directory(run_dir))
    if "base" in wrap_family(experiment.family).runs:
        return dataclasses.replace(
            experiment, family=dataclasses.replace(experiment.family, base=source)
        )
    start = dataclasses.replace(experiment.start_from, run=source)
    named = load_run_config(source)
    there = directory.load_experiment(epath.Path(source)) is not None
    learned = load_family(source) if there else None if named is None else named[0].family
    if learned is not None and not experiment.start_from.rules:
        _check_family(experiment.family, learned, source)
    family = _set_net(experiment.family, _get_net(learned))
    if family != experiment.family:
        note(f"using the net of {source}: {family.net}")
    return dataclasses.replace(experiment, family=family, start_from=start)


def _check_family(family: Component, learned: Component, source: str) -> None:
    """Refuse to continue a model of another family.

    Raises:
      UserError: the families differ; the message names both and says what to do.
    """
    if isinstance(learned, type(family)) or isinstance(family, type(learned)):
        return
    mine, other = type(family).__name__, type(learned).__name__
    if wrap_family(family).runs:
        return
    raise UserError(
        f"--from continues a run of the same family: {source} is a {other}, and this config trains "
        f"a {mine}; name a run of a {mine}, or say in start_from.rules which of its parameters go "
        "where",
        "from",
    )


def _is_ours(source: str) -> bool:
    """Return whether a name is a run directory or a config, not a Hugging Face model."""
    config = epath.Path(source).expanduser() / "config.json"
    if not config.exists():
        return load_run_config(source) is not None
    try:
        return "experiment" in json.loads(config.read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
        TypeError,
        RecursionError,
    ):
        # Reported when it is read as a model.
        return False


def _check_same(source: str, run_dir: str, own: Experiment) -> None:
    """Raise ``UserError`` for another base model than the one that a run has started with."""
    first = wrap_family(own.family).runs.get("base") or (
        own.start_from.run if own.start_from is not None else None
    )
    made = _base_directory(run_dir)
    if first == str(made):
        first = _origin(made).read_text(encoding="utf-8") if _origin(made).exists() else source
    if first is None or Path(first).expanduser().resolve() != Path(source).expanduser().resolve():
        began = "without another model" if first is None else f"with {first}"
        raise UserError(
            f"{run_dir} has started {began}: give another --run-dir to start with {source}"
        )


def _base_directory(run_dir: str) -> Path:
    """Return the directory of the imported base model of a run."""
    return Path(f"{Path(run_dir)}_from")


def _origin(made: Path) -> Path:
    """Return the file that names the imported Hugging Face model."""
    return made.with_name(f"{made.name}.txt")


def _import_base(source: str, made: Path) -> str:
    """Import a Hugging Face model, unless that is done already; return its run directory."""
    origin = _origin(made)
    if newest_step(epath.Path(made)) is None:
        if origin.exists():
            shutil.rmtree(made, ignore_errors=True)  # incomplete
        elif made.exists():
            raise UserError(
                f"{made} exists already, but {source} would be imported there: give another "
                "--run-dir"
            )
        made.parent.mkdir(parents=True, exist_ok=True)
        origin.write_text(source, encoding="utf-8")
        try:
            import_run(source, made)
        except UserError:
            shutil.rmtree(made, ignore_errors=True)
            origin.unlink()
            raise
    elif not origin.exists() or origin.read_text(encoding="utf-8") != source:
        raise UserError(
            f"{made} holds another model than {source}: remove it, or give another --run-dir"
        )
    return str(made)


def _get_net(family: Component) -> Component:
    return family.net if isinstance(family, HasNet) else None


def _set_net(family: Component, net: Component) -> Any:
    """Return a family, or what its net depends on, with hyper-parameters of that kind of net
    instead of its own.
    """
    own = _get_net(family)
    if own is None or net is None:
        return family
    return dataclasses.replace(family, net=net if type(own) is type(net) else _set_net(own, net))
