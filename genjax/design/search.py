"""Search of a latent space towards a design brief: a plain function of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax import checks
from genjax.design.space import Space, measure_excess
from genjax.errors import UserError
from genjax.families.image_rewards import ImageReward, score_images

Method = Literal["evolution", "gradient", "random"]


@dataclass(frozen=True)
class Designs:
    """Designs that a search has found, the best first.

    Attributes:
      latents: float32 [N, Z].
      images: float32 [N, H, W, C] in [-1, 1].
      scores: what the brief gives them, [N].
      history: best score of each search after every step, [steps, N].
      evaluations: images that the brief has scored.
    """

    latents: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    history: np.ndarray
    evaluations: int


@checks.frozen
class Search:
    """Searches latents whose images score high.

    A search starts from a draw of the prior; ``num`` of them run side by side, so that the designs
    differ. Each maximises the score minus ``typical`` times the excess of the latents' distance
    from 0, which keeps them where the decoder was trained.

    Attributes:
      method: "evolution" by CMA-ES (Hansen, arXiv 1604.00772), for any function; "gradient" by
        Adam through the decoder, for functions of JAX arrays; "random" for the best of as many
        draws as an evolution decodes.
      num: number of designs.
      steps: generations, or steps of the gradient.
      population: images that a generation of one search decodes.
      rate: standard deviation of the first generation, or step size of Adam.
      typical: weight of the distance beyond the typical.
    """

    method: Method = "evolution"
    num: int = 16
    steps: int = 40
    population: int = 16
    rate: float = 0.3
    typical: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            known = ", ".join(map(repr, get_args(Method)))
            raise UserError(f"method must be one of {known}, got {self.method!r}", "method")
        checks.between(self, 1, 1024, "num")
        checks.between(self, 1, 100_000, "steps")
        checks.between(self, 4, 4096, "population")
        checks.above(self, 0, "rate")
        checks.at_least(self, 0, "typical")

    def __call__(self, space: Space, brief: ImageReward, seed: int) -> Designs:
        """Search a space for the brief, ``brief(images, None) -> [N]``.

        Raises:
          UserError: the brief fails, has no gradient for "gradient", or a package is missing.
        """
        start = space.draw(seed, self.num)
        if self.method == "gradient":
            latents, history, used = self._climb(space, brief, start)
        elif self.method == "evolution":
            latents, history, used = self._evolve(space, brief, start, seed)
        else:
            latents, history, used = self._draw(space, brief, seed)
        images = space.decode(latents)
        scores = score_images(brief, images, None)
        order = np.argsort(-scores, kind="stable")
        return Designs(latents[order], images[order], scores[order], history[:, order], used)

    def _judge(self, space: Space, brief: ImageReward, latents: np.ndarray) -> np.ndarray:
        """Return the score of latents [N, Z] less what their distance costs, [N]."""
        scores = score_images(brief, space.decode(latents), None)
        return scores - self.typical * np.asarray(measure_excess(latents))

    def _evolve(
        self, space: Space, brief: ImageReward, start: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        cma = _import_cma()
        options = {"popsize": self.population, "verbose": -9, "maxiter": self.steps + 1}
        searches = [
            cma.CMAEvolutionStrategy(z, self.rate, options | {"seed": seed * self.num + k + 1})
            for k, z in enumerate(start.astype(np.float64))
        ]
        history = []
        for _ in range(self.steps):
            asked = [np.stack(one.ask()) for one in searches]  # [P, Z] each
            judged = self._judge(space, brief, np.concatenate(asked).astype(np.float32))
            for one, z, value in zip(searches, asked, np.split(judged, len(searches)), strict=True):
                one.tell(list(z), (-value).tolist())
            history.append([-one.best.f for one in searches])
        found = np.stack([one.best.x for one in searches]).astype(np.float32)
        return found, np.array(history), self.steps * self.population * self.num

    def _climb(
        self, space: Space, brief: ImageReward, start: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        family, state, adam = space.run.family, space.run.eval_state, optax.adam(self.rate)

        def cost(z: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
            whole = family.decode_latents(state.params, state.variables, z)
            # What is clipped keeps its gradient, or a pixel beyond the range would stay there.
            images = whole + jax.lax.stop_gradient(jnp.clip(whole, -1, 1) - whole)
            scores = brief(images, None)
            judged = jnp.asarray(scores) - self.typical * measure_excess(z)
            return -judged.sum(), judged

        def step(z: jax.Array, memory: Any, state: Any) -> tuple[jax.Array, Any, jax.Array]:
            slope, judged = jax.grad(cost, has_aux=True)(z, state)
            updates, memory = adam.update(slope, memory, z)
            return optax.apply_updates(z, updates), memory, judged

        compiled = space.run.layout.compile_evaluation(step)
        z: Any = jnp.asarray(start, jnp.float32)
        memory, history = adam.init(z), []
        try:
            for _ in range(self.steps):
                z, memory, judged = compiled(z, memory, state)
                history.append(np.asarray(judged))
        except jax.errors.TracerArrayConversionError as error:
            name = getattr(brief, "__name__", str(brief))
            raise UserError(
                f"method must be 'evolution' for {name}, which has no gradient: it turns images "
                "into NumPy arrays",
                "method",
            ) from error
        return np.asarray(z), np.maximum.accumulate(history), self.steps * self.num

    def _draw(
        self, space: Space, brief: ImageReward, seed: int
    ) -> tuple[np.ndarray, np.ndarray, int]:
        best = np.full(self.num, -np.inf)
        found, history = np.zeros((self.num, space.dim), np.float32), []
        for step in range(self.steps):
            drawn = space.draw((seed + step + 1) % 2**32, self.num * self.population)
            judged = self._judge(space, brief, drawn).reshape(self.num, -1)
            chosen, rows = judged.argmax(1), np.arange(self.num)
            better = judged[rows, chosen] > best
            drawn = drawn.reshape(self.num, self.population, -1)[rows, chosen]
            found = np.where(better[:, None], drawn, found)
            best = np.where(better, judged[rows, chosen], best)
            history.append(best)
        return found, np.array(history), self.steps * self.population * self.num


def _import_cma() -> Any:
    """Import the library of CMA-ES.

    Raises:
      UserError: it is missing; the message says how to install it.
    """
    try:
        import cma
    except ModuleNotFoundError:
        raise UserError(
            "method='evolution' needs cma: pip install 'genjax-train[design]'", "method"
        ) from None
    return cma
