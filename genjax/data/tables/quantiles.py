"""A column of numbers by quantiles: its distribution is mapped to a normal one, as in TabDDPM
(Kotelnikov et al., arXiv 2209.15421).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from genjax import checks
from genjax.errors import UserError

KNOTS = 1000  # most points of the distribution function that are stored
FEW = KNOTS // 2  # up to this many distinct numbers, each is stored with its share


@checks.frozen
class QuantileColumn:
    """A column of numbers by its distribution function F: x is encoded as the quantile of the
    standard normal at F(x), then standardised.

    F is linear between its knots. A number that many rows have is a step of F; it is encoded at the
    middle of the step, and everything that falls on the step is decoded to it.

    Attributes:
      name: name of the column.
      shares: values of F at the knots, rising from 0 to 1.
      values: numbers at the knots, rising.
      centre: mean of the normal quantiles of the training rows.
      scale: their standard deviation.
      edge: shares are kept this far from 0 and 1, where normal quantiles are infinite.
      decimals: decimals to which decoded numbers are rounded; None does not round.
      missing: whether numbers may be missing, which is value 1 of the column's ``categorical``.
    """

    name: str
    shares: tuple[float, ...]
    values: tuple[float, ...]
    centre: float = 0.0
    scale: float = 1.0
    edge: float = 1e-4
    decimals: int | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.values) or len(self.values) < 2:
            raise UserError(
                f"shares and values of {self.name!r} must have the same length, at least 2"
            )
        if min(np.diff(self.shares)) < 0 or min(np.diff(self.values)) < 0:
            raise UserError(f"shares and values of {self.name!r} must rise")
        if not self.scale > 0 or not 0 < self.edge < 0.5:
            raise UserError(f"scale of {self.name!r} must be > 0, and edge > 0 and < 0.5")

    @property
    def size(self) -> int:
        """Number of values of the column in ``categorical``: known, and perhaps missing."""
        return 1 + self.missing

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode numbers [N], NaN where missing: standardised normal quantiles float32 [N], and 0,
        or 1 where missing, int32 [N].

        Raises:
          UserError: a number is missing, but none is in the training rows.
        """
        absent = np.isnan(values)
        if absent.any() and not self.missing:
            raise UserError(
                f"row {int(absent.argmax()) + 1:,} has no value in {self.name!r}, but every "
                "training row has one"
            )
        z = ndtri(np.clip(self._share(values), self.edge, 1 - self.edge))
        within = np.where(absent, 0, (z - self.centre) / self.scale)
        return within.astype(np.float32), absent.astype(np.int32)

    def decode(self, within: np.ndarray, mode: np.ndarray) -> np.ndarray:
        """Return the numbers float64 [N] of encoded ones; missing numbers are NaN."""
        absent = (mode == 1) | ~np.isfinite(within)
        z = self.centre + self.scale * np.where(absent, 0, within).astype(np.float64)
        values = np.interp(ndtr(z), self.shares, self.values)
        if self.decimals is not None:
            values = np.round(values, self.decimals) + 0.0  # avoids negative zero
        return np.where(absent, np.nan, values)

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers [N]: decoded ones are within the range of the training rows."""
        return values

    def format(self, values: np.ndarray) -> list[str]:
        """Format numbers as in a file; "" where one is missing."""
        return format_numbers(values, self.decimals)

    def _share(self, values: np.ndarray) -> np.ndarray:
        """Return F [N], in the middle of its step where it has one."""
        known = np.where(np.isnan(values), self.values[0], values)
        shares, at = np.asarray(self.shares), np.asarray(self.values)
        above = np.interp(known, at, shares)
        below = -np.interp(-known, -at[::-1], -shares[::-1])
        return 0.5 * (above + below)


def fit_quantiles(name: str, values: np.ndarray, decimals: int | None) -> QuantileColumn:
    """Fit a column to the numbers [N] of the training rows, at least one of them not NaN."""
    known = np.sort(values[~np.isnan(values)])
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= FEW:
        ends = np.cumsum(counts) / len(known)
        shares = np.stack([np.append(0.0, ends[:-1]), ends], 1).ravel()
        at = np.repeat(distinct, 2)
    else:
        shares = np.linspace(0, 1, KNOTS)
        at = np.quantile(known, shares)
    edge = min(0.5 / len(known), 0.25)
    found = QuantileColumn(
        name,
        tuple(shares.tolist()),
        tuple(at.tolist()),
        edge=edge,
        decimals=decimals,
        missing=len(known) < len(values),
    )
    z, _ = found.encode(known)
    spread = float(z.std(dtype=np.float64))
    return QuantileColumn(
        name,
        found.shares,
        found.values,
        float(z.mean(dtype=np.float64)),
        spread if spread > 1e-6 else 1.0,
        edge,
        decimals,
        found.missing,
    )


def format_numbers(values: np.ndarray, decimals: int | None) -> list[str]:
    """Format numbers [N] as in a file, with these decimals if not None; "" where one is NaN."""
    form = ".9g" if decimals is None else f".{decimals}f"
    return ["" if np.isnan(value) else format(value, form) for value in values]
