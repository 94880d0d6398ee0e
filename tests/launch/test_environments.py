"""Processes find their places by what SLURM, Open MPI, TPU pods and Kubernetes give them, and
train one run together.
"""

import numpy as np
import pytest

import genjax
from genjax.errors import UserError
from genjax.machine import places
from genjax.machine.places import Place, find_place
from genjax.parallel import Devices
from tests import launched, toy

NAMES = ("SLURM_", "OMPI_", "TPU_", "JAX_COORDINATOR", "JOB_", "PMIX_", "MEGASCALE_")


def slurm(number, of, port):
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": str(of),
        "SLURM_NTASKS": str(of),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "JAX_COORDINATOR_PORT": str(port),
    }


def open_mpi_4(number, of, port):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1,10.148.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": str(of),
        "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(of),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
        "JAX_COORDINATOR_PORT": str(port),
    }


def open_mpi_5(number, of, port):
    return {
        "PMIX_NAMESPACE": f"prterun-here-{port}@1",
        "OMPI_COMM_WORLD_SIZE": str(of),
        "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(of),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
    }


def tpu_hosts(number, of, port):
    return {
        "TPU_WORKER_ID": str(number),
        "TPU_WORKER_HOSTNAMES": ",".join(["localhost"] * of),
        "JAX_COORDINATOR_PORT": str(port),
    }


def kubernetes(number, of, port):
    return {"JOB_COMPLETION_INDEX": str(number), "JAX_COORDINATOR_ADDRESS": f"localhost:{port}"}


ENVIRONMENTS = [slurm, open_mpi_4, open_mpi_5, tpu_hosts, kubernetes]
# Two processes of the others run in what `genjax launch` writes for them.
CASES = [(slurm, 4), (open_mpi_4, 2), (open_mpi_5, 2)]


@pytest.fixture
def bare(monkeypatch):
    """An environment without a scheduler, to which variables can be added."""
    for name in list(places.os.environ):
        if name.startswith(NAMES):
            monkeypatch.delenv(name)
    return lambda variables: [monkeypatch.setenv(n, v) for n, v in variables.items()]


@pytest.mark.long
@pytest.mark.parametrize(("environment", "count"), CASES)
def test_processes_train_as_one_with_as_many_devices(tmp_path, environment, count):
    config, port = launched.write_config(tmp_path), launched.free_port()
    run = ["train", config, "--run-dir", tmp_path / "run", "--devices.distributed"]
    launched.finish(
        [launched.start(*run, **environment(i, count, port)) for i in range(count)], *[0] * count
    )
    one, _ = genjax.load_config(str(config))
    one = toy.experiment(optimizer=one.optimizer, devices=Devices(count=count, mode="pmapped"))
    genjax.train(one, tmp_path / "one", quiet=True)
    np.testing.assert_allclose(
        launched.curve(tmp_path / "run"), launched.curve(tmp_path / "one"), rtol=1e-4
    )


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_places_are_read(bare, environment):
    bare(environment(1, 2, 7001))
    given = Place(processes=2) if environment is kubernetes else Place()
    address, processes, number = find_place(given, 1.0).whole
    host, _, port = address.rpartition(":")
    assert (processes, number) == (2, 1) and host in ("localhost", "127.0.0.1")
    assert port == "7001" or environment is open_mpi_5


def test_who_is_given_goes_first(bare):
    bare(tpu_hosts(1, 2, 7001))
    assert find_place(Place("there:1", 3, 2), 1.0).whole == ("there:1", 3, 2)
    assert find_place(Place("there:1"), 1.0).whole == ("there:1", 2, 1)


def test_one_process_a_node_has_all_its_gpus_and_several_have_one_each(bare):
    nodes = {"SLURM_STEP_NODELIST": "a[1-2]", "SLURM_GPUS_ON_NODE": "4"}
    bare(slurm(1, 2, 7001) | nodes | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_LOCALID": "0"})
    found = find_place(Place(), 1.0)
    assert found.devices == (0, 1, 2, 3) and found.hosts == ("a1", "a2")
    assert found.address == "a1:7001"
    bare(slurm(5, 8, 7001) | nodes | {"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_LOCALID": "1"})
    found = find_place(Place(), 1.0)
    assert found.devices == (1,) and found.hosts == ("a1",) * 4 + ("a2",) * 4
    bare({"JAX_LOCAL_DEVICE_IDS": "2,3"})
    assert find_place(Place(), 1.0).devices == (2, 3)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a,b-1", ["a", "b-1"]),
        ("n[001-003,7],b", ["n001", "n002", "n003", "n7", "b"]),
        ("r[1-2]n[8-9].x", ["r1n8.x", "r1n9.x", "r2n8.x", "r2n9.x"]),
    ],
)
def test_lists_of_nodes_are_expanded(text, names):
    assert places.expand_nodes(text) == names


def test_pods_are_named_after_the_first(bare):
    bare({"JOB_COMPLETION_INDEX": "1", "JAX_COORDINATOR_ADDRESS": "a-workers-0-0.a:81"})
    assert find_place(Place(processes=2), 1.0).hosts == ("a-workers-0-0.a", "a-workers-0-1.a")


@pytest.mark.parametrize(
    ("variables", "given", "field"),
    [
        ({}, Place(), "devices.distributed"),
        ({"JOB_COMPLETION_INDEX": "0"}, Place(), "devices.distributed"),
        (tpu_hosts("x", 2, 1), Place(), "TPU_WORKER_ID"),
        (tpu_hosts(2, 2, 1), Place(), "devices.process_id"),
        (tpu_hosts(0, 2, "http"), Place(), "devices.coordinator"),
        (open_mpi_5(0, 4, 1) | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, Place(), "devices.coordinator"),
        ({}, Place("host", 2, 1), "devices.coordinator"),
        ({}, Place("host:99999", 2, 1), "devices.coordinator"),
        ({}, Place("host:1", 2, 2), "devices.process_id"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(bare, variables, given, field):
    bare(variables)
    with pytest.raises(UserError) as error:
        find_place(given, 1.0)
    assert error.value.field == field and field in str(error.value)
