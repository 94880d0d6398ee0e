"""Write a JobSet for Kubernetes: an indexed job whose pods find each other by their host names."""

from __future__ import annotations

import json
import math

from genjax import checks
from genjax.errors import UserError
from genjax.launch.job import LABEL, Job, as_label, check_text

IMAGE = r"[a-z0-9][A-Za-z0-9._:/@-]*"
MEMORY = r"[1-9][0-9]*([KMGT]i?)?"
TOPOLOGY = r"[1-9][0-9]*(x[1-9][0-9]*){1,2}"


@checks.frozen
class KubernetesOptions:
    """Write a JobSet for Kubernetes: `kubectl apply -f FILE` starts it. If a pod is lost, all start
    again, and the run resumes. All other options are those of `genjax train`; pods share no disk,
    so --run-dir must be a bucket (gs://..., s3://...), or lie on the volume of a claim.

    Attributes:
      image: image with genjax and the config.
      nodes: number of pods, one for each node.
      gpus: number of GPUs of each pod.
      tpu: TPU of the nodes on Google's clusters, such as tpu-v5-lite-podslice.
      topology: its topology, such as 4x4.
      chips: number of TPU chips of each node.
      memory: memory of a pod, such as 64Gi.
      claim: claim of a volume that is mounted at /runs.
      name: name of the JobSet; that of the config by default.
      namespace: namespace; that of kubectl by default.
      port: port of the first pod at which the others find it.
      restarts: number of times that all pods start again after one is lost.
      grace: seconds for saving before a pod is removed.
      python: Python in the image.
      out: file to write; - prints.
    """

    image: str
    nodes: int = 1
    gpus: int = 0
    tpu: str | None = None
    topology: str | None = None
    chips: int = 4
    memory: str | None = None
    claim: str | None = None
    name: str | None = None
    namespace: str | None = None
    port: int = 8476
    restarts: int = 20
    grace: int = 120
    python: str = "python"
    out: str = "-"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "nodes", "chips", "grace")
        checks.at_least(self, 0, "gpus", "restarts")
        checks.between(self, 1, 65535, "port")
        check_text(self, IMAGE, "an image such as registry.example.org/genjax:1", "image")
        check_text(self, MEMORY, "a size such as 64Gi", "memory")
        check_text(self, TOPOLOGY, "a topology such as 4x4 or 2x2x4", "topology")
        check_text(self, *LABEL, "tpu", "claim", "name", "namespace")
        if (self.tpu is None) != (self.topology is None):
            raise UserError("tpu and topology go together: give both or neither", "tpu")
        if self.tpu is not None and self.gpus:
            raise UserError("gpus must be 0 with tpu", "gpus")
        if self.topology is not None:
            chips = math.prod(map(int, self.topology.split("x")))
            if chips != self.nodes * self.chips:
                raise UserError(
                    f"topology {self.topology} has {chips} chips, which must be nodes "
                    f"{self.nodes} x chips {self.chips}",
                    "topology",
                )


def write_kubernetes(options: KubernetesOptions, job: Job) -> str:
    """Return the JobSet as YAML."""
    name = options.name or as_label(job.name)
    # Pods are called NAME-workers-JOB-POD, in the domain of the headless service NAME.
    place = [] if options.nodes == 1 else _place(name, options)
    words = job.list_words(options.python, *place)
    command = "".join(f"                - {json.dumps(word)}\n" for word in words)
    namespace = f"\n  namespace: {options.namespace}" if options.namespace else ""
    return f"""apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}{namespace}
spec:
  failurePolicy:
    maxRestarts: {options.restarts}
  network:
    enableDNSHostnames: true
    subdomain: {name}
    publishNotReadyAddresses: true
  replicatedJobs:
    - name: workers
      replicas: 1
      template:
        spec:
          completionMode: Indexed
          completions: {options.nodes}
          parallelism: {options.nodes}
          backoffLimit: 0
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: {options.grace}
{_write_nodes(options)}              containers:
              - name: genjax
                image: {json.dumps(options.image)}
                command:
{command}{_write_resources(options)}{_write_volume(options)}"""


def _place(name: str, options: KubernetesOptions) -> list[str]:
    address = f"{name}-workers-0-0.{name}:{options.port}"
    coordinator = ["--devices.distributed", "--devices.coordinator", address]
    return [*coordinator, "--devices.processes", str(options.nodes)]


def _write_nodes(options: KubernetesOptions) -> str:
    if options.tpu is None:
        return ""
    return f"""              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: {options.tpu}
                cloud.google.com/gke-tpu-topology: {options.topology}
"""


def _write_resources(options: KubernetesOptions) -> str:
    limits = {
        "nvidia.com/gpu": options.gpus or None,
        "google.com/tpu": None if options.tpu is None else options.chips,
        "memory": options.memory,
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in limits.items() if value is not None]
    if not lines:
        return ""
    body = "".join(f"                    {line}\n" for line in lines)
    return f"                resources:\n                  limits:\n{body}"


def _write_volume(options: KubernetesOptions) -> str:
    if options.claim is None:
        return ""
    return f"""                volumeMounts:
                - name: runs
                  mountPath: /runs
              volumes:
              - name: runs
                persistentVolumeClaim:
                  claimName: {options.claim}
"""
