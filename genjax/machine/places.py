"""Find the place of a process in its run: its number, how many there are, and where they meet.

JAX reads the variables of SLURM, of Open MPI up to version 4, and of TPU machines. Read here, as it
does not: Open MPI 5, the worker list of a TPU pod before its TPUs are opened, and the index of a
Kubernetes Job.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from jax._src.clusters import ClusterEnv  # no public function says this without joining

from genjax.errors import UserError

TPU_PORT = 8482  # the one that JAX takes
FIRST, PORTS = 61440, 4096  # range of ports for runs that name none
NODES = re.compile(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*")  # of SLURM: a1,b[001-004,7]


@dataclass(frozen=True)
class Place:
    """What is known of the place of a process.

    Attributes:
      address: HOST:PORT of process 0.
      processes: number of processes.
      number: number of this one.
      devices: numbers of the GPUs of this machine that it uses; None for all.
      hosts: machine of each process by number; empty if unknown.
    """

    address: str | None = None
    processes: int | None = None
    number: int | None = None
    devices: tuple[int, ...] | None = None
    hosts: tuple[str, ...] = ()

    @property
    def whole(self) -> tuple[str, int, int]:
        """Address, number of processes, and number of this one.

        Raises:
          UserError: one of them is unknown.
        """
        if self.address is None or self.processes is None or self.number is None:
            raise UserError(
                "devices.distributed needs SLURM (srun), Open MPI (mpirun), a Kubernetes Job or "
                "TPU hosts; elsewhere give devices.coordinator, devices.processes and "
                f"devices.process_id (unknown here: {', '.join(self._unknown())})",
                "devices.distributed",
            )
        if not 0 <= self.number < self.processes:
            raise UserError(
                f"devices.process_id must be from 0 to {self.processes - 1} for {self.processes} "
                f"process(es), got {self.number}",
                "devices.process_id",
            )
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(
                f"devices.coordinator must be HOST:PORT, got {self.address!r}",
                "devices.coordinator",
            )
        return self.address, self.processes, self.number

    def _unknown(self) -> list[str]:
        found = (self.address, self.processes, self.number)
        names = ("coordinator", "processes", "process_id")
        return [name for name, value in zip(names, found, strict=True) if value is None]


def find_place(given: Place, patience: float) -> Place:
    """Complete what the user has given by what the environment says.

    Args:
      given: what the user has given, which goes first.
      patience: seconds to wait until the name of process 0's machine is known.

    Raises:
      UserError: a variable is not a number, or the place remains unknown.
    """
    environment = dict(os.environ)
    ids = environment.get("JAX_LOCAL_DEVICE_IDS")
    devices = None if not ids else tuple(_parse("JAX_LOCAL_DEVICE_IDS", n) for n in ids.split(","))
    given = _join(given, Place(environment.get("JAX_COORDINATOR_ADDRESS"), devices=devices))
    for read in (_read_open_mpi, _read_slurm, _read_tpu_hosts, _read_job):
        given = _join(given, read(environment, given))
    if None in (given.address, given.processes, given.number):
        given = _detect(given, patience)
    given.whole  # noqa: B018  refuses what is missing
    return given


def _join(first: Place, then: Place) -> Place:
    known = {n: v for n, v in vars(first).items() if v is not None and v != ()}
    return dataclasses.replace(then, **known)


def _detect(given: Place, patience: float) -> Place:
    """Complete a place as JAX does."""
    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(
            given.address, given.processes, given.number, given.devices, None, max(1, int(patience))
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"the processes did not find each other: {error}") from error
    address, processes, number, devices = found
    devices = None if devices is None else tuple(devices)
    return dataclasses.replace(
        given, address=address, processes=processes, number=number, devices=devices
    )


def _read_open_mpi(environment: Mapping[str, str], given: Place) -> Place:
    """Read the variables of Open MPI. Those of version 5 name no machine, so that it must be given
    unless there is one only.
    """
    if "OMPI_COMM_WORLD_RANK" not in environment:
        return Place()
    processes = _number(environment, "OMPI_COMM_WORLD_SIZE")
    number = _number(environment, "OMPI_COMM_WORLD_RANK")
    here = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")
    local = _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK")
    address = None
    if "OMPI_MCA_orte_hnp_uri" not in environment and given.address is None:
        if here is None or here != processes:
            raise UserError(
                "devices.coordinator must be given: Open MPI does not say where process 0 runs "
                "(--devices.coordinator HOST:PORT)",
                "devices.coordinator",
            )
        name = environment.get("PMIX_NAMESPACE", "")
        port = environment.get("JAX_COORDINATOR_PORT") or FIRST + zlib.crc32(name.encode()) % PORTS
        address = f"127.0.0.1:{port}"
    devices = None if here == 1 or local is None else (local,)
    return Place(address, processes, number, devices)


def _read_slurm(environment: Mapping[str, str], given: Place) -> Place:
    """Read which machines SLURM gives, and all GPUs of a process that is alone on its machine: JAX
    would take one.
    """
    nodes = environment.get("SLURM_STEP_NODELIST")
    counts = _expand_counts(environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if nodes is None or "SLURM_PROCID" not in environment or given.number is not None:
        return Place()
    hosts = expand_nodes(nodes)
    gpus = _number(environment, "SLURM_GPUS_ON_NODE")
    devices = tuple(range(gpus)) if gpus and set(counts) == {1} else None
    if len(hosts) != len(counts):
        return Place(devices=devices)
    in_turn = environment.get("SLURM_DISTRIBUTION", "block").startswith(("cyclic", "plane"))
    if in_turn and set(counts) != {1}:
        return Place(devices=devices)
    each = [host for host, count in zip(hosts, counts, strict=True) for _ in range(count)]
    return Place(devices=devices, hosts=tuple(each))


def _read_tpu_hosts(environment: Mapping[str, str], given: Place) -> Place:
    """Read the workers of a TPU slice; several slices are left to JAX."""
    listed = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if listed is None or "TPU_WORKER_ID" not in environment:
        return Place()
    if environment.get("MEGASCALE_NUM_SLICES", "1") != "1":
        return Place()
    hosts = tuple(host.partition(":")[0].strip() for host in listed.split(","))
    port = environment.get("JAX_COORDINATOR_PORT") or TPU_PORT
    number = _number(environment, "TPU_WORKER_ID")
    return Place(f"{hosts[0]}:{port}", len(hosts), number, hosts=hosts)


def _read_job(environment: Mapping[str, str], given: Place) -> Place:
    """Read the index of a Kubernetes Job, whose pods are named after it: the first is process 0."""
    if "JOB_COMPLETION_INDEX" not in environment or given.address is None:
        return Place()
    number = _number(environment, "JOB_COMPLETION_INDEX")
    name, dot, domain = given.address.rpartition(":")[0].partition(".")
    hosts: tuple[str, ...] = ()
    if name.endswith("-0") and given.processes is not None:
        hosts = tuple(f"{name[:-1]}{i}{dot}{domain}" for i in range(given.processes))
    return Place(number=number, hosts=hosts)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    return None if value is None else _parse(name, value)


def _parse(name: str, value: str) -> int:
    if not value.isdecimal():
        raise UserError(f"the variable {name} must hold numbers, got {value!r}", name)
    return int(value)


def expand_nodes(text: str) -> list[str]:
    """Return the names in a list of nodes as SLURM writes it: a1,b[01-03,7]."""
    names: list[str] = []
    for part in NODES.findall(text):
        made = [""]
        for plain, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            ends = [plain] if plain else [n for r in ranges.split(",") for n in _expand_range(r)]
            made = [before + end for before in made for end in ends]
        names += made
    return names


def _expand_range(text: str) -> list[str]:
    first, dash, last = text.partition("-")
    if not dash or not (first.isdecimal() and last.isdecimal()):
        return [text]
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _expand_counts(text: str) -> list[int]:
    """Return the tasks of each node from SLURM's short form: 2(x3),1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(count) for count, times in found for _ in range(int(times or 1))]
