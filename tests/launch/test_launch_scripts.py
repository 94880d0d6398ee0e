"""What `genjax launch` writes, and what it refuses before anything is written."""

import shlex
import subprocess

import pytest
import yaml

from genjax.__main__ import main
from genjax.cli.runs import launch
from genjax.errors import UserError
from genjax.launch import hosts, slurm
from genjax.machine.places import Place, find_place

TPU = ["--zone", "us-central1-a", "--type", "v5litepod-16", "--run-dir", "gs://b/run"]
POD = ["--image", "registry.example.org/genjax:1", "--run-dir", "gs://b/run"]


def write(kind, *options, config="vae_digits", capsys):
    """The script that a command line prints."""
    assert main(["launch", kind, config, *options]) == 0
    return capsys.readouterr().out


def header(script):
    lines = [line.partition("--")[2] for line in script.splitlines() if line.startswith("#SBATCH ")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def trained(script):
    """The words after `genjax train` of each command in a script."""
    lines = [line.partition("train=(")[2].partition(")")[0] for line in script.splitlines()]
    return [shlex.split(line)[4:] for line in lines if line]


def test_slurm_with_a_process_for_each_node(capsys):
    options = ["--nodes", "2", "--gpus", "4", "--time", "1-12", "--partition", "a100"]
    options += ["--account=me", "--steps", "500", "--run-dir", "my runs/a"]
    script = write("slurm", *options, capsys=capsys)
    assert header(script) == {
        "job-name": "vae_digits",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "4",
        "time": "1-12",
        "partition": "a100",
        "account": "me",
        "output": "vae_digits-%j.out",
        "signal": "B:USR1@120",
        "requeue": "",
        "open-mode": "append",
    }
    own = ["--steps", "500", "--run-dir", "my runs/a"]
    assert trained(script) == [["vae_digits", *own, "--devices.distributed"]]


def test_slurm_with_a_process_for_each_gpu(capsys):
    options = ["--gpus", "4", "--per", "gpu", "--cpus", "8", "--setup", "module load cuda"]
    script = write("slurm", *options, capsys=capsys)
    assert header(script)["ntasks-per-node"] == "4" and "\nmodule load cuda\n" in script
    assert "srun --kill-on-bad-exit=1 --distribution=block --cpus-per-task=8 " in script


def test_one_process_needs_no_others(capsys):
    assert trained(write("slurm", capsys=capsys)) == [["vae_digits"]]


def test_an_array_has_a_seed_and_a_directory_for_each_run(capsys):
    options = ["--seeds", "2", "--each=--steps 8", "--each=--steps 9"]
    script = write("slurm", *options, "--tiny", "--seed=7", capsys=capsys)
    assert header(script)["array"] == "0-3"
    runs = [(words[words.index("--seed") + 1], words[-1]) for words in trained(script)]
    assert runs == [
        ("0", "runs/vae_digits_tiny_0_seed0"),
        ("1", "runs/vae_digits_tiny_0_seed1"),
        ("0", "runs/vae_digits_tiny_1_seed0"),
        ("1", "runs/vae_digits_tiny_1_seed1"),
    ]
    assert all(words.count("--run-dir") == 1 for words in trained(script))
    assert "--seed=7" not in script


@pytest.mark.parametrize(
    "command",
    [
        ["slurm", "vae_digits"],
        ["slurm", "vae_digits", "--seeds", "2", "--nodes", "2", "--setup", "module load 'a b'"],
        ["tpu", "vae_digits", *TPU],
        ["tpu", "vae_digits", *TPU, "--spot", "--project", "p", "--source", "a 'b' c"],
    ],
)
def test_scripts_are_read_by_bash(command, capsys):
    assert main(["launch", *command]) == 0
    subprocess.run(["bash", "-n"], input=capsys.readouterr().out, text=True, check=True)


def test_a_script_is_written_once(tmp_path, capsys):
    path = tmp_path / "job.sbatch"
    assert main(["launch", "slurm", "vae_digits", "--out", str(path)]) == 0
    assert capsys.readouterr().err.endswith(f"start it: sbatch {path}\n")
    before = path.read_text()
    assert main(["launch", "slurm", "vae_digits", "--nodes", "2", "--out", str(path)]) == 2
    assert "out must be a new file" in capsys.readouterr().err and path.read_text() == before


def test_a_name_that_slurm_would_split_is_joined(tmp_path, capsys):
    config = tmp_path / "my first.py"
    config.write_text("from configs.first import get_config\n")
    (tmp_path / "first.py").write_text("")
    config.write_text(
        "from genjax import gx\n\ndef get_config(tiny=False):\n"
        "    from genjax.config_files import load_config\n"
        "    return load_config('vae_digits', tiny)[0]\n"
    )
    script = write("slurm", config=str(config), capsys=capsys)
    assert header(script)["job-name"] == "my_first" and trained(script) == [[str(config)]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("0:45", 45), ("1:02:03", 3723), ("2-3", 183_600), ("1-0:30:15", 88_215)],
)
def test_times_are_read_as_slurm_does(text, seconds):
    assert slurm.read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0:00", "1h", "-5", "1:2:3:4", "1-", "1-2-3", "9 9"])
def test_times_that_slurm_does_not_read_are_refused(text):
    with pytest.raises(UserError) as error:
        slurm.read_time(text)
    assert error.value.field == "time"


def jobset(capsys, *options, config="vae_digits"):
    found = yaml.safe_load(write("kubernetes", *POD, *options, config=config, capsys=capsys))
    return found, found["spec"]["replicatedJobs"][0]["template"]["spec"]


CLAIM = ["--claim", "disk", "--run-dir", "/runs/a"]
GPUS = ["--nodes", "4", "--gpus", "8", "--memory", "64Gi", "--namespace", "ml", "--tiny"]
GPUS += ["--batch-size", "32", *CLAIM]
SLICE = ["--nodes", "4", "--tpu", "tpu-v5-lite-podslice", "--topology", "4x4", *CLAIM]


def test_pods_of_a_jobset_find_each_other_by_name(capsys, monkeypatch):
    found, job = jobset(capsys, *GPUS)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["metadata"] == {"name": "vae-digits-tiny", "namespace": "ml"}
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 4, 4)
    (pod,) = job["template"]["spec"]["containers"]
    assert pod["resources"]["limits"] == {"nvidia.com/gpu": 8, "memory": "64Gi"}
    words = pod["command"]
    given = {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}
    # NAME-workers-JOB-POD, in the domain that the headless service of the JobSet has.
    host = f"{found['metadata']['name']}-{found['spec']['replicatedJobs'][0]['name']}-0-0"
    address = given["--devices.coordinator"]
    assert address == f"{host}.{found['spec']['network']['subdomain']}:8476"
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    place = find_place(Place(address, int(given["--devices.processes"])), 1.0)
    assert place.number == 3 and place.hosts[3] == "vae-digits-tiny-workers-0-3.vae-digits-tiny"


def test_pods_for_tpus_ask_for_their_slice(capsys):
    _, job = jobset(capsys, *SLICE)
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}


@pytest.mark.parametrize("options", [[], GPUS, SLICE, ["--nodes", "2", "--restarts", "0"]])
def test_a_jobset_keeps_to_its_schema(options, capsys):
    """The models are made from the OpenAPI description of JobSet and of Kubernetes; they leave out
    what they do not know, so that nothing may be missing afterwards.
    """
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api"
    )
    found, _ = jobset(capsys, *options)
    assert models.JobsetV1alpha2JobSet.from_dict(found).to_dict() == found


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (["slrum", "vae_digits"], "kind"),
        (["slurm", "vae_digitz"], "config"),
        (["slurm", "no/such/config.py"], "no/such/config.py"),
        (["slurm", "vae_digits", "--nodes", "0"], "nodes"),
        (["slurm", "vae_digits", "--nodes", "two"], "options"),
        (["slurm", "vae_digits", "--gpus", "-1"], "gpus"),
        (["slurm", "vae_digits", "--per", "gpu"], "per"),
        (["slurm", "vae_digits", "--time", "soon"], "time"),
        (["slurm", "vae_digits", "--time", "1", "--grace", "60"], "grace"),
        (["slurm", "vae_digits", "--partition", "a b"], "partition"),
        (["slurm", "vae_digits", "--account", "$(id)"], "account"),
        (["slurm", "vae_digits", "--name", "x\n#SBATCH --nodes=9"], "name"),
        (["slurm", "vae_digits", "--seeds", "0"], "seeds"),
        (["slurm", "vae_digits", "--seeds", "1002"], "seeds"),
        (["slurm", "vae_digits", "--each=--no-such-option 1"], "options"),
        (["slurm", "vae_digits", "--each=--steps 'x"], "each"),
        (["slurm", "vae_digits", "--each=--run-dir runs/a"], "each"),
        (["slurm", "vae_digits", "--no-such-option", "1"], "options"),
        (["slurm", "vae_digits", "--steps", "-3"], "steps"),
        (["slurm", "vae_digits", "--hosts", "a"], "options"),
        (["slurm", "vae_digits", "--nodes", "3"], "batch_size"),
        (["slurm", "vae_digits", "--nodes", "2", "--devices.count", "3"], "devices.count"),
        (["slurm", "vae_digits", "--nodes", "2", "--devices.mode", "single"], "devices.mode"),
        (["slurm", "vae_digits", "--devices.distributed"], "devices.distributed"),
        (["slurm", "vae_digits", "--out", "no/such/folder/x"], "out"),
        (["tpu", "vae_digits", *TPU, "--zone", "here"], "zone"),
        (["tpu", "vae_digits", *TPU, "--type", "h100"], "type"),
        (["tpu", "vae_digits", *TPU, "--name", "9x"], "name"),
        (["tpu", "vae_digits", *TPU[:4]], "run_dir"),
        (["tpu", "vae_digits"], "options"),
        (["kubernetes", "vae_digits", *POD, "--image", "a b"], "image"),
        (["kubernetes", "vae_digits", *POD, "--name", "A_b"], "name"),
        (["kubernetes", "vae_digits", *POD, "--memory", "lots"], "memory"),
        (["kubernetes", "vae_digits", *POD, "--topology", "4x4"], "tpu"),
        (["kubernetes", "vae_digits", *POD, *SLICE, "--nodes", "3"], "topology"),
        (["kubernetes", "vae_digits", *POD, *SLICE, "--gpus", "1"], "gpus"),
        (["kubernetes", "vae_digits", *POD, "--run-dir", "runs/a"], "run_dir"),
        (["kubernetes", "vae_digits", *POD, *CLAIM, "--run-dir", "/tmp/a"], "run_dir"),
        (["kubernetes", "vae_digits", *POD, "--port", "70000"], "port"),
        (["ssh", "vae_digits", "--hosts", "a", "b", "me@a"], "hosts"),
        (["ssh", "vae_digits", "--hosts", "a,b"], "hosts"),
        (["ssh", "vae_digits", "--hosts", "-oProxyCommand=x"], "options"),
        (["ssh", "vae_digits", "--hosts", "a", "b", "--port", "0"], "port"),
        (["local", "vae_digits", "--processes", "0"], "processes"),
        (["local", "vae_digits", "--processes", "2", "--gpus", "3"], "gpus"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(command, field, capsys, monkeypatch):
    monkeypatch.setattr(launch, "run_together", lambda commands: pytest.fail("it was started"))
    with pytest.raises(UserError) as error:
        launch.launch_command(command[0], command[1:])
    assert error.value.field == field and not capsys.readouterr().out
    assert field in str(error.value) or field == "options"


def test_trust_and_no_cache_are_passed_on(capsys, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    assert main(["launch", "slurm", "vae_digits", "--trust=a,b"]) == 0
    assert trained(capsys.readouterr().out) == [["vae_digits", "--trust=a,b", "--no-cache"]]
    assert main(["launch", "slurm", "vae_digits", "--seeds", "2", "--trust"]) == 0
    assert all("--trust" in words for words in trained(capsys.readouterr().out))


def test_gpus_of_this_machine_are_shared_out():
    job = launch.read_job("local", "vae_digits", ["--processes", "2", "--gpus", "4"])
    commands = hosts.list_local(*job)
    assert [c.variables["JAX_LOCAL_DEVICE_IDS"] for c in commands] == ["0,1", "2,3"]
    (one,) = hosts.list_local(*launch.read_job("local", "vae_digits", ["--gpus", "4"]))
    assert not one.variables and one.words[4:] == ("vae_digits",)


def test_a_mistake_is_one_line(capsys):
    assert main(["launch", "slrum", "vae_digits"]) == 2
    assert capsys.readouterr().err == "genjax: unknown kind 'slrum'; did you mean 'slurm'?\n"
    assert main(["launch", "slurm"]) == 2
    assert capsys.readouterr().err == "genjax: launch needs KIND CONFIG before its options\n"
    assert main(["launch", "tpu", "vae_digits", *TPU, "--zones", "x"]) == 2
    assert capsys.readouterr().err.endswith("did you mean --zone?\n")
