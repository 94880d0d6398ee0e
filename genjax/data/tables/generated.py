"""Generate tables in the form of Adult and Abalone, for machines that do not have those."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

import numpy as np

EDUCATION = ("HS-grad", "Some-college", "Bachelors", "Masters", "Doctorate")
YEARS = (9, 10, 13, 14, 16)
RELATION = ("Husband", "Wife", "Not-in-family", "Own-child")


def make_adult(rows: int = 2000) -> bytes:
    """Return people as CSV: 14 columns and ``income``, " ?" where a value is missing."""
    rng = np.random.default_rng(0)
    age = np.clip(rng.gamma(6, 6.5, rows), 17, 90).round().astype(int)
    grade = np.minimum(rng.geometric(0.35, rows) - 1, 4)
    sex = rng.random(rows) < 0.67
    married = rng.random(rows) < np.clip((age - 20) / 40, 0.05, 0.7)
    hours = np.clip(rng.normal(38 + 5 * married, 9), 1, 99).round().astype(int)
    gain = np.where(rng.random(rows) < 0.08, rng.lognormal(8.5, 0.8, rows).round(), 0).astype(int)
    score = -4 + 0.8 * grade + 1.6 * married + 0.03 * (hours - 40) + 2 * (gain > 6000)
    rich = rng.random(rows) < 1 / (1 + np.exp(-score))
    jobs = np.array(("Private", "Self-emp", "Gov", "?"))[
        rng.choice(4, rows, p=(0.7, 0.1, 0.15, 0.05))
    ]
    relation = np.where(married, np.where(sex, 0, 1), np.where(age < 24, 3, 2))
    columns: dict[str, Iterable[object]] = {
        "age": age,
        "workclass": [f" {job}" for job in jobs],
        "fnlwgt": rng.lognormal(12, 0.5, rows).round().astype(int),
        "education": [f" {EDUCATION[i]}" for i in grade],
        "education-num": np.array(YEARS)[grade],
        "marital-status": [" Married" if m else " Never-married" for m in married],
        "occupation": [f" {('Sales', 'Craft', 'Prof')[i]}" for i in rng.integers(0, 3, rows)],
        "relationship": [f" {RELATION[i]}" for i in relation],
        "race": [
            f" {('White', 'Black', 'Other')[i]}" for i in rng.choice(3, rows, p=(0.8, 0.1, 0.1))
        ],
        "sex": [" Male" if s else " Female" for s in sex],
        "capital-gain": gain,
        "capital-loss": np.where(rng.random(rows) < 0.05, rng.integers(1000, 2500, rows), 0),
        "hours-per-week": hours,
        "native-country": [
            f" {('United-States', 'Mexico')[i]}" for i in rng.choice(2, rows, p=(0.9, 0.1))
        ],
        "income": [" >50K" if r else " <=50K" for r in rich],
    }
    return _write(columns)


def make_abalone(rows: int = 1000) -> bytes:
    """Return shells as CSV: ``Sex``, seven measures and ``Rings``."""
    rng = np.random.default_rng(1)
    years = rng.gamma(9, 1.1, rows) + 1
    size = np.clip(0.65 * (1 - np.exp(-0.25 * years)) + rng.normal(0, 0.04, rows), 0.08, 0.8)
    whole = 6.2 * size**3 * np.exp(rng.normal(0, 0.12, rows))
    parts = (0.43, 0.22, 0.29)
    columns = {
        "Sex": np.where(years < 7, "I", np.where(rng.random(rows) < 0.5, "M", "F")),
        "Length": size.round(3),
        "Diam": (0.8 * size + rng.normal(0, 0.01, rows)).round(3),
        "Ht": (0.27 * size + rng.normal(0, 0.01, rows)).clip(0.01).round(3),
        "WWt": whole.round(4),
        **{
            name: (whole * part * np.exp(rng.normal(0, 0.1, rows))).round(4)
            for name, part in zip(("SWt", "VWt", "Shell"), parts, strict=True)
        },
        "Rings": np.clip(years.round(), 1, 29).astype(int),
    }
    return _write(columns)


def _write(columns: Mapping[str, Iterable[object]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue().encode()
