"""Write a shell script that trains on a TPU slice of Google Cloud."""

from __future__ import annotations

import shlex

from genjax import checks
from genjax.launch.job import LABEL, WORD, Job, as_label, check_text

KIND = r"v[0-9]+[a-z]*-[0-9]+"
ZONE = r"[a-z]+-[a-z]+[0-9]+-[a-z]"
PYTHON = ".venv/bin/python"


@checks.frozen
class TpuOptions:
    """Write a shell script that makes a TPU slice with `gcloud` and trains on all its hosts. If the
    slice was preempted, the same script makes another one, and the run resumes. All other options
    are those of `genjax train`; the hosts share no disk, so --run-dir must be a bucket (gs://...).

    Attributes:
      zone: zone, such as us-central1-a.
      type: accelerator type, such as v5litepod-16 or v4-32.
      version: software of the hosts, such as v2-alpha-tpuv5-lite for v5litepod.
      project: project; that of gcloud's configuration by default.
      name: name of the slice; that of the config by default.
      spot: whether to take a cheaper slice that may be preempted.
      source: folder with genjax and the config that is copied to all hosts.
      setup: shell command that installs it there.
      out: file to write; - prints.
    """

    zone: str
    type: str
    version: str = "tpu-ubuntu2204-base"
    project: str | None = None
    name: str | None = None
    spot: bool = False
    source: str = "."
    setup: str = f"python3 -m venv .venv && {PYTHON} -m pip install -q '.[tpu]'"
    out: str = "-"

    def __post_init__(self) -> None:
        check_text(self, ZONE, "a zone such as us-central1-a", "zone")
        check_text(self, KIND, "a type such as v5litepod-16", "type")
        check_text(self, *WORD, "version", "project")
        check_text(self, *LABEL, "name")


def write_tpu(options: TpuOptions, job: Job) -> str:
    """Return the shell script."""
    project = "" if options.project is None else f" --project={options.project}"
    place = f"{options.name or as_label(job.name)} --zone={options.zone}{project}"
    spot = " --spot" if options.spot else ""
    setup = shlex.quote(f"cd genjax && {options.setup}")
    train = job.write_command(PYTHON, "--devices.distributed")
    return f"""#!/bin/bash
# Run it again if it stops: what is there stays, and the run resumes.
set -eu
slice=({place})
vm=(gcloud compute tpus tpu-vm)

"${{vm[@]}}" describe "${{slice[@]}}" >/dev/null 2>&1 ||
    "${{vm[@]}}" create "${{slice[@]}}" --accelerator-type={options.type} \\
        --version={options.version}{spot}

"${{vm[@]}}" scp --worker=all --recurse {shlex.quote(options.source)} \\
    "${{slice[0]}}:genjax" "${{slice[@]:1}}"
"${{vm[@]}}" ssh "${{slice[@]}}" --worker=all --command={setup}
"${{vm[@]}}" ssh "${{slice[@]}}" --worker=all \\
    --command={shlex.quote(f"cd genjax && exec {train}")}

# The slice costs money until it is deleted:
echo "gcloud compute tpus tpu-vm delete ${{slice[*]}}"
"""
