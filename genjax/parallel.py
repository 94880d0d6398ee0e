"""Devices and processes: the only module that knows about meshes, shardings, mapped steps and
hosts.

A step is written once, with an optional axis name, and runs in one of three ways:

- *single*: ``jit`` on one device; - *pmapped*: one copy of the state per device, with explicit
means over the data axis. ``jax.pmap`` is in maintenance mode and itself ``jit(shard_map(...))``, so
this is used directly, and the state has no leading device axis; - *sharded*: ``jit`` over a mesh
with axes data, fsdp and tensor; rules on parameter paths say which axis of a parameter is split
over which axis of the mesh, and the compiler adds the communication.
"""

from __future__ import annotations

import collections
import functools
import itertools
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax import checks, trees
from genjax.checks import Component
from genjax.errors import UserError, unknown_name
from genjax.machine import joining
from genjax.machine.compiling import Options, Use, choose_options
from genjax.machine.heap import keep_freed_memory
from genjax.machine.places import Place
from genjax.machine.target import Mapped, trace_for

T = TypeVar("T")
# Errors of the layers below when a process is gone.
LEFT = (
    r"gloo|connection (closed|reset|refused)|coordination "
    r"service|heartbeat|unavailable|nccl|socket closed"
)
Tree = Any
Mode = Literal["auto", "single", "pmapped", "sharded"]
# jax.jit caches by function object, so the same one must be returned.
_trace_again = functools.lru_cache(maxsize=64)(trace_for)
EXPERTS = re.compile("(^|/)experts/")  # paths of parameters whose first axis is experts
ROWS = ("data", "fsdp")  # mesh axes that the rows of a batch are split over


@checks.frozen
class ShardRule:
    """How parameters with a matching path are split over devices.

    Attributes:
      pattern: regular expression on the parameter's path.
      axes: mesh axis over which each axis of the parameter is split: "fsdp", "tensor" or None.
    """

    pattern: str
    axes: tuple[str | None, ...]

    def __post_init__(self) -> None:
        trees.check_syntax("devices.rules", (self.pattern,))
        for axis in self.axes:
            if axis not in (None, "fsdp", "tensor"):
                raise unknown_name("mesh axis", str(axis), ("fsdp", "tensor"))


@checks.frozen
class Devices:
    """The devices of a run, which may change when it is resumed.

    Attributes:
      count: number of devices to use; None for all.
      mode: "auto" is "single" on one device and "pmapped" on several; "sharded" is for models too
        large for one.
      fsdp: number of devices that a parameter and its optimizer state are split over; sharded only.
      tensor: number of devices that a matrix product is split over; sharded only.
      rules: placements that override the default (largest divisible axis over fsdp, last over
        tensor, but experts over tensor, for all parameters with two or more axes); sharded only.
      distributed: whether to join other processes, whose places are known under SLURM and Open MPI,
        on a TPU pod and in a Kubernetes Job.
      coordinator: address:port of process 0, if it is not known otherwise.
      processes: number of processes, if it is not known otherwise.
      process_id: number of this process, if it is not known otherwise.
      join_timeout: seconds to wait for the other processes.
    """

    count: int | None = None
    mode: Mode = "auto"
    fsdp: int = 1
    tensor: int = 1
    rules: tuple[ShardRule, ...] = ()
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    join_timeout: float = 300.0

    def __post_init__(self) -> None:
        if (self.fsdp, self.tensor) != (1, 1) and self.mode != "sharded":
            raise UserError("devices.fsdp and devices.tensor need --devices.mode sharded")
        checks.at_least(self, 1, "count", "fsdp", "tensor", "processes")
        checks.at_least(self, 0, "process_id")
        checks.numbers(self, ("join_timeout",), "> 0 and <= 86400", lambda x: 0 < x <= 86400)
        known = None not in (self.processes, self.process_id) or self.distributed
        if self.coordinator is not None and not known:
            raise UserError("devices.coordinator needs devices.processes and devices.process_id")


@dataclass(frozen=True)
class Layout:
    """The arranged devices of a run.

    Attributes:
      mesh: mesh with axes data, fsdp and tensor.
      mode: "single", "pmapped" or "sharded".
      platform: "cpu", "gpu" or "tpu", for which networks choose their operations; ``start`` sets
          that of the devices.
      rules: placements that override the default.
    """

    mesh: Mesh
    mode: str
    platform: str
    rules: tuple[ShardRule, ...] = ()

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return jax.process_index() == 0

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def measure_memory(self) -> float | None:
        """Return the memory of all devices in bytes; None if it is that of the host, as for
        CPUs.
        """
        stats = self.mesh.local_devices[0].memory_stats()
        limit = stats.get("bytes_limit") if stats else None
        return None if limit is None else float(limit) * self.mesh.size

    def check_batch(self, batch_size: int, accumulate: int = 1) -> None:
        """Refuse a batch size that devices and microbatches do not divide."""
        places = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        if batch_size % (places * accumulate):
            raise UserError(
                f"batch_size {batch_size} is not divisible by {places} device(s) x {accumulate} "
                "microbatch(es)"
            )

    def count_step_rows(self, batch_size: int) -> int:
        """Return the number of rows that a step works on: those of a device if steps are mapped,
        else all.
        """
        return batch_size // self.mesh.shape["data"] if self.mode == "pmapped" else batch_size

    def check_rules(self, params: Tree) -> None:
        """Refuse a rule that matches no parameter."""
        trees.check_patterns("devices.rules", [rule.pattern for rule in self.rules], params)

    def select_rows(self, batch_size: int) -> slice:
        """Return the slice of the global batch that this process reads."""
        share = batch_size // jax.process_count()
        return slice(jax.process_index() * share, (jax.process_index() + 1) * share)

    def place(self, batch: Tree, stacked: bool = False) -> Tree:
        """Place this process's rows on the devices. ``stacked`` batches have a leading axis of
        steps.
        """
        sharding = self._batch_sharding(stacked)
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def shape_batch(self, entries: Mapping[str, Any], batch_size: int) -> Tree:
        """Return the shapes, dtypes and shardings of a placed batch and its mask.

        Args:
          entries: shape of an example and dtype, by name.
        """
        whole = {**entries, "mask": ((), np.float32)}
        return {
            name: jax.ShapeDtypeStruct(
                (batch_size, *shape), dtype, sharding=self._batch_sharding(False)
            )
            for name, (shape, dtype) in whole.items()
        }

    def make_shardings(self, state: Tree) -> Tree:
        """Return the sharding of every leaf of a (possibly abstract) state."""
        if self.mode != "sharded":
            return jax.tree.map(lambda _: self.replicated, state)
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: NamedSharding(
                self.mesh, self._spec(trees.path_string(path), leaf.shape)
            ),
            state,
        )

    def init(self, make: Callable[[], T]) -> T:
        """Run ``make()``, compiled so that every leaf is created on its devices."""
        make = trace_for(self.platform, make)
        return jax.jit(
            make,
            out_shardings=self.make_shardings(jax.eval_shape(make)),
            compiler_options=self._choose_options("once"),
        )()

    def eval_shapes(self, make: Callable[..., T], *arguments: Tree) -> T:
        """Return the shapes, dtypes and shardings of the state that ``make`` returns, such as that
        of ``init``, which is the target of a restore.
        """
        shapes = jax.eval_shape(trace_for(self.platform, make), *arguments)
        return jax.tree.map(
            lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
            shapes,
            self.make_shardings(shapes),
        )

    def compile_step(
        self, step: Callable[..., tuple[T, Tree]], state: T, stacked: bool = False
    ) -> Any:
        """Compile ``step(state, batch, axis)`` for these devices, donating the state.

        With ``stacked``, batch and metrics have a leading axis of steps, which run in one dispatch.
        """
        # Inside a mapped step each device sees only its own rows.
        ways = (self._split, self._share) if self.mode == "sharded" else ()
        step = trace_for(self.platform, step, *ways)

        def one(state: T, batch: Tree) -> tuple[T, Tree]:
            if self.mode != "sharded":
                return step(state, batch, "data" if self.mode == "pmapped" else None)
            new, metrics = step(self._gather_params(state), batch, None)
            return jax.lax.with_sharding_constraint(new, self.make_shardings(new)), metrics

        def many(state: T, batches: Tree) -> tuple[T, Tree]:
            return jax.lax.scan(one, state, batches)

        run = many if stacked else one
        rows = self._batch_sharding(stacked)
        if self.mode == "pmapped":
            # With check_vma=True the gradients of replicated parameters would already be summed.
            specs = PartitionSpec(), rows.spec
            out = PartitionSpec(), PartitionSpec()
            run = jax.shard_map(run, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)
        places = self.make_shardings(state)
        return jax.jit(
            run,
            donate_argnums=0,
            in_shardings=(places, rows),
            out_shardings=(places, self.replicated),
            compiler_options=self._choose_options("often"),
        )

    def compile_evaluation(self, evaluate: Callable[..., Tree], **options: Component) -> Any:
        """Compile a function that only reads a state; its results are on every process."""
        ways = (self._split, self._share) if self.mesh.size > 1 else ()
        evaluate = _trace_again(self.platform, evaluate, *ways)
        return jax.jit(
            evaluate,
            out_shardings=self.replicated,
            compiler_options=self._choose_options("often"),
            **options,
        )

    def _choose_options(self, use: Use) -> Options | None:
        use = "split" if use == "often" and self.mesh.size > 1 else use
        # Those of the devices: ``platform`` may name another one to lower for.
        return choose_options(self.mesh.devices.flat[0].platform, use)

    def _gather_params(self, state: T) -> T:
        """Gather the parameters over fsdp for a step; between steps they, the moments and the
        average are split.

        Without this, XLA's partitioner gave wrong gradients for a parameter split over fsdp and
        tensor (openxla/xla#40034).
        """

        def gather(path: Any, leaf: jax.Array) -> jax.Array:
            name = trees.path_string(path)
            if not name.startswith("params"):
                return leaf
            axes = (None if axis == "fsdp" else axis for axis in self._spec(name, leaf.shape))
            return jax.lax.with_sharding_constraint(
                leaf, NamedSharding(self.mesh, PartitionSpec(*axes))
            )

        return jax.tree_util.tree_map_with_path(gather, state)

    def _split(self, function: Mapped) -> Mapped:
        """Map a function of arrays [B, ...] or [B, heads, T, D] over the devices that rows, and
        heads, are split over; what they do not divide is computed by each.
        """
        if self.mesh.size == 1:
            return function

        def split(*arrays: jax.Array) -> jax.Array:
            places = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
            rows = None if len(arrays[0]) % places else ROWS
            counts = [x.shape[1] for x in arrays if x.ndim == 4]
            heads = "tensor" if all(n % self.mesh.shape["tensor"] == 0 for n in counts) else None
            specs = tuple(PartitionSpec(rows, *([heads] if x.ndim == 4 else [])) for x in arrays)
            mapped: Mapped = jax.shard_map(
                function, mesh=self.mesh, in_specs=specs, out_specs=specs[0], check_vma=False
            )
            return mapped(*arrays)

        return split

    def _share(self, function: Mapped) -> Mapped:
        """Map a function as ``map_experts`` does: experts are split over tensor, rows as above."""

        def share(rows: Tree, experts: Tree) -> jax.Array:
            own = len(jax.tree.leaves(experts)[0]) // self.mesh.shape["tensor"]
            places = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
            split = PartitionSpec(None if len(jax.tree.leaves(rows)[0]) % places else ROWS)

            def add(rows: Tree, experts: Tree) -> jax.Array:
                part = function(rows, experts, jax.lax.axis_index("tensor") * own)
                return jax.lax.psum(part, "tensor")

            specs = split, PartitionSpec("tensor")
            return jax.shard_map(
                add, mesh=self.mesh, in_specs=specs, out_specs=split, check_vma=False
            )(rows, experts)

        return share if self.mesh.size > 1 else lambda rows, experts: function(rows, experts, 0)

    def _batch_sharding(self, stacked: bool) -> NamedSharding:
        return NamedSharding(
            self.mesh, PartitionSpec(None, ROWS) if stacked else PartitionSpec(ROWS)
        )

    def _spec(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        if not path.startswith(("params", "opt_state", "ema", "frozen")) or len(shape) < 2:
            return PartitionSpec()
        for rule in self.rules:
            if re.search(rule.pattern, path):
                if len(rule.axes) != len(shape):
                    raise UserError(
                        f"devices.rules: {rule.pattern!r} has {len(rule.axes)} axes, {path} "
                        f"{len(shape)}"
                    )
                return PartitionSpec(*rule.axes)
        axes: list[str | None] = [None] * len(shape)
        tensor = self.mesh.shape["tensor"]
        if EXPERTS.search(path):  # [E, ...], or [L, E, ...] where a scan stacks layers
            place = 1 if "layers/" in path else 0
            if shape[place] % tensor:
                said = f"devices.tensor must divide the {shape[place]} experts of {path}"
                raise UserError(f"{said}, got {tensor}", "devices.tensor")
            axes[place] = "tensor" if tensor > 1 else None
        elif tensor > 1 and shape[-1] % tensor == 0:
            axes[-1] = "tensor"
        free = [
            i
            for i, size in enumerate(shape)
            if axes[i] is None and size % self.mesh.shape["fsdp"] == 0
        ]
        if self.mesh.shape["fsdp"] > 1 and free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
        return PartitionSpec(*axes)


def start(devices: Devices) -> Layout:
    """Join the other processes if there are any, and arrange the devices."""
    # On a CPU, a step runs in the thread that calls it: queued steps would run in others, whose
    # freed memory glibc always unmaps (see ``keep_freed_memory``).
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if devices.distributed or devices.coordinator is not None:
        given = Place(devices.coordinator, devices.processes, devices.process_id)
        joining.join(given, devices.join_timeout)
    layout = arrange(devices, jax.devices(), jax.process_count())
    if layout.platform == "cpu":
        keep_freed_memory()
    return layout


def arrange(devices: Devices, found: Sequence[Any], processes: int = 1) -> Layout:
    """Arrange the devices that were found, which may be descriptions of a machine elsewhere.

    Args:
      devices: what the run uses of them.
      found: devices.
      processes: number of processes that share them.

    Raises:
      UserError: the devices do not suffice, or do not divide as asked.
    """
    found = sorted(found, key=lambda d: (d.process_index, d.id))
    single = devices.mode == "single" or (
        devices.mode == "auto" and devices.count is None and len(found) == 1
    )
    count = devices.count or (1 if single else len(found))
    if count > len(found):
        raise UserError(f"devices.count is {count}, but there are {len(found)} device(s) here")
    if single and count > 1:
        raise UserError(f"devices.mode single uses one device, not {count}")
    if count % processes:
        raise UserError(f"devices.count is {count}, but {processes} processes share it evenly")
    if count % (devices.fsdp * devices.tensor):
        raise UserError(
            f"{count} device(s) do not divide into fsdp {devices.fsdp} x tensor {devices.tensor}"
        )
    mode = devices.mode if devices.mode != "auto" else ("single" if count == 1 else "pmapped")
    if processes == 1:
        used = found[:count]
    else:
        shares = [[d for d in found if d.process_index == i] for i in range(processes)]
        for i, share in enumerate(shares):
            if len(share) < count // processes:
                raise UserError(
                    f"devices.count is {count}, {count // processes} for each process, but process "
                    f"{i} has {len(share)} device(s)",
                    "devices.count",
                )
        used = [d for share in shares for d in share[: count // processes]]
    grid = np.array(used).reshape(-1, devices.fsdp, devices.tensor)
    mesh = Mesh(grid, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    return Layout(mesh, mode, used[0].platform, devices.rules)


def is_alone(error: BaseException) -> bool:
    """Return whether an error means that another process of the run has ended or is unreachable."""
    return (
        jax.distributed.is_initialized() and re.search(LEFT, str(error), re.IGNORECASE) is not None
    )


def abandon(code: int) -> None:
    """Exit at once if there are other processes, which may be waiting; else do nothing.

    A regular exit of JAX waits for all processes. The others notice that this one is gone.
    """
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def prefetch(items: Iterator[T], place: Callable[[T], T], depth: int = 2) -> Generator[T]:
    """Transfer ``depth`` items to the devices ahead of the one in use; closing it closes
    ``items``.
    """
    try:
        ahead = collections.deque(place(item) for item in itertools.islice(items, depth))
        while ahead:
            yield ahead.popleft()
            ahead.extend(place(item) for item in itertools.islice(items, 1))
    finally:
        if isinstance(items, Generator):
            items.close()


def any_process(flag: bool) -> bool:
    """Return whether any process raised the flag: all of them must stop at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def barrier(name: str) -> None:
    """Wait until every process has reached this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def peak_memory() -> int | None:
    """Return the peak memory of the first local device in bytes; None if the platform does not
    report it.
    """
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None
