"""The flow of another run, which a flow map distills."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion import conditioning
from genjax.families.diffusion.diffusion import Diffusion
from genjax.family import Params, Trained
from genjax.samplers.diffusion.processes import Straight, velocity


def check_teacher(teacher: Trained, spec: Spec, conditional: bool, guidance_scale: float) -> None:
    """Refuse a run whose flow cannot be distilled.

    Args:
      teacher: the run.
      spec: spec of the data.
      conditional: whether the flow map sees labels.
      guidance_scale: guidance that the flow gets.

    Raises:
      UserError: it is of another family, process, noise, shape, or other conditions.
    """
    family, run_dir = teacher.family, teacher.run_dir

    def refuse(must: str, got: object) -> UserError:
        return UserError(f"teacher must {must}, but {run_dir} {got}", "teacher")

    if not isinstance(family, Diffusion):
        raise refuse("be a run of a Diffusion", f"is a {type(family).__name__}")
    if not isinstance(family.process, Straight):
        raise refuse("have the process Straight", f"has {type(family.process).__name__}")
    if not family.noise.gaussian or family.coupling != "independent":
        raise refuse("start from NormalNoise in independent pairs", "does not")
    if family.text is not None or family.conditional != conditional:
        seen = "text" if family.text is not None else "labels" if family.conditional else "nothing"
        raise refuse(
            f"be conditioned on {'labels' if conditional else 'nothing'}, as the flow map is",
            f"is on {seen}",
        )
    teacher.check(spec)
    if conditional and teacher.spec.classes != spec.classes:
        raise refuse(f"have the {spec.classes} labels of the data", f"has {teacher.spec.classes}")
    conditioning.check_guidance(guidance_scale, conditional, family.drop_label)


def predict_velocity(
    family: Diffusion,
    params: Params,
    x: jax.Array,
    t: jax.Array,
    label: jax.Array | None = None,
) -> jax.Array:
    """Return the velocity dx/dt [B, ...] of a diffusion's ODE at x [B, ...] and t [B].

    ``label`` [B] is for a conditional model; the number of labels is the null label. Times below
    the smallest of the process are taken as that.
    """
    process = family.bind_process(params)
    t = jnp.maximum(t, process.t_min)
    given = {"label": label, "augment": family.augment.make_null(len(x))}
    inputs = {name: value for name, value in given.items() if value is not None}
    output = family.predict(params, x, t, inputs)
    if family.target == "velocity":
        return output
    return velocity(process, family.make_parametrization(params).x0(output, x, t), x, t)
