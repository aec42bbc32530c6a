"""Train the codebooks of tq4, tq3 and tq2 and write them for numpy and for C.

    python -m benchmarks.train_levels            # about ten minutes; prints the distortion it reaches
    python -m benchmarks.train_levels --write    # also writes levels.py and tq_levels.h

Generalised Lloyd on normal data: code the blocks with the Viterbi search, move every level to the
weighted mean of the values that it stood for, repeat. The data are scaled as the writer scales them
(``sigma_part`` of the root mean square plus ``peak_part`` of the largest value), the codebook is kept
symmetric, and at the end the levels are rounded to integers of at most 127.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.turboquant.trellis import subsets, viterbi

ROOT = Path(__file__).resolve().parent.parent
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """One bit rate: how blocks are scaled before coding, and the integer search."""

    bits: int
    sigma_part: float
    peak_part: float
    fine: int
    coarse: int

    @property
    def by_path(self) -> bool:
        return self.bits < 4


RECIPES = (Recipe(2, 0.6, 0.137, 0, 3), Recipe(3, 0.15, 0.29, 1, 2), Recipe(4, 0.0, 0.343, 2, 2))


def lloyd_max(levels: int, samples: Floats) -> Floats:
    """The scalar quantizer of ``levels`` levels with the least squared error on ``samples``."""
    ordered = np.sort(samples)
    centre = np.quantile(ordered, (np.arange(levels) + 0.5) / levels)
    for _ in range(300):
        cell = np.searchsorted((centre[1:] + centre[:-1]) / 2, ordered)
        centre = np.bincount(cell, ordered, levels) / np.maximum(1, np.bincount(cell, minlength=levels))
    return centre


def normalize(recipe: Recipe, x: Floats) -> Floats:
    sigma = np.sqrt((x * x).mean(1))
    return x / (recipe.sigma_part * sigma + recipe.peak_part * np.abs(x).max(1))[:, None]


def code(recipe: Recipe, y: Floats, table: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Index of the level of each value, the levels, and the best scale of each block."""
    distance = np.abs(y[:, :, None, None] - table)
    windows, _ = viterbi((distance.min(3) ** 2).astype(np.float32), recipe.by_path)
    kind = subsets()[windows] + (4 * (windows & 1) if recipe.by_path else 0)
    point = np.take_along_axis(distance.argmin(3), kind[:, :, None], 2)[:, :, 0]
    level = table[kind, point]
    scale = (y * level).sum(1) / (level * level).sum(1)
    return kind * table.shape[1] + point, level, scale


def distortion(recipe: Recipe, x: Floats, table: Floats) -> float:
    """Mean relative squared error of blocks."""
    y = normalize(recipe, x)
    _, level, scale = code(recipe, y, table)
    return float((((y - scale[:, None] * level) ** 2).sum(1) / (y * y).sum(1)).mean())


def symmetric(table: Floats, by_path: bool) -> Floats:
    """Negation maps subset s to 3 - s, and the table of path bit 0 to that of path bit 1."""
    shaped = table.reshape(2 if by_path else 1, 4, -1)
    return ((shaped - shaped[::-1, ::-1, ::-1]) / 2).reshape(table.shape)


def train(recipe: Recipe, x: Floats, rounds: int) -> Floats:
    """The codebook, shape (classes, points), in units of the normalised data."""
    y = normalize(recipe, x)
    weight = 1 / (y * y).mean(1)
    subsets_first = lloyd_max(4 << (recipe.bits - 1), np.random.default_rng(0).standard_normal(200_000))
    table = subsets_first.reshape(-1, 4).T
    if recipe.by_path:  # two copies that differ a little, so that they can part
        table = np.concatenate([table + 0.02, table - 0.02])
    table = symmetric(table, recipe.by_path)
    for i in range(rounds):
        part = slice(0, len(x) // 5) if i < rounds * 2 // 3 else slice(None)
        index, _, _ = code(recipe, y[part], table)
        w = weight[part, None]
        mass = np.bincount(index.ravel(), np.broadcast_to(w, index.shape).ravel(), table.size)
        total = np.bincount(index.ravel(), (w * y[part]).ravel(), table.size)
        flat = np.where(mass > 0, total / np.maximum(mass, 1e-12), table.ravel())
        table = symmetric(flat.reshape(table.shape), recipe.by_path)
    return table


def round_levels(table: Floats) -> tuple[NDArray[np.int64], float]:
    """Integer levels and the level that stands for 1; the factor with the smallest rounding error."""
    top = np.abs(table).max()
    weight = np.exp(-(table**2) / 3)

    def error(factor: float) -> float:
        rounded = np.clip(np.rint(table * factor), -127, 127) / factor
        return float((weight * (rounded - table) ** 2).sum())

    factor = min(np.arange(118 / top, 128 / top, 0.05).tolist(), key=error)
    return np.clip(np.rint(table * factor), -127, 127).astype(np.int64), round(factor, 2)


def stored_order(recipe: Recipe, levels: NDArray[np.int64]) -> list[int]:
    """(classes, points) in the order table, point, subset of the formats; 16 levels for 2 bits, else 32."""
    if recipe.bits == 2:
        return [int(v) for v in levels.reshape(2, 4, 2).transpose(0, 2, 1).ravel()]
    if recipe.bits == 3:
        return [int(v) for v in levels.reshape(2, 4, 4).transpose(0, 2, 1).ravel()]
    return [int(v) for v in levels.T.ravel()]


PYTHON_HEAD = '''"""Codebooks of the trellis formats, made by ``benchmarks/train_levels.py``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Codebook:
    """Levels of one bit rate, as integers, and how the search for the path sees the data."""

    levels: NDArray[np.int8]
    """Shape (2, 4, 4): table, point, subset. tq2 uses the first table only."""
    sigma_part: float
    """A level stands for value / (sigma_part * root mean square + peak_part * largest value)."""
    peak_part: float
    fine: int
    """Values are compared with levels in steps of 2^-fine levels."""
    coarse: int
    """Squared distances are shifted right by this before they are added up."""


def _book(levels: str, sigma_part: float, peak_part: float, fine: int, coarse: int) -> Codebook:
    table = np.zeros(32, np.int8)
    given = np.array(levels.split(), np.int8)
    table[: given.size] = given
    return Codebook(table.reshape(2, 4, 4), sigma_part, peak_part, fine, coarse)


'''

C_HEAD = """/* Codebooks of tq2, tq3 and tq4, made by benchmarks/train_levels.py. Do not edit. */
#ifndef STRETCH_TQ_LEVELS_H
#define STRETCH_TQ_LEVELS_H

#include <stdint.h>

/* Levels by table, point and subset; see tq.h. tq2 has one table, repeated. */
typedef struct st_tq_book {
    int8_t levels[32];
    float sigma_part; /* level = value / (sigma_part * root mean square + peak_part * largest value) */
    float peak_part;
    int fine;   /* values are compared with levels in steps of 2^-fine levels */
    int coarse; /* squared distances are shifted right by this before they are added up */
} st_tq_book;

"""


def sources(books: dict[int, tuple[list[int], float, float, Recipe]]) -> tuple[str, str]:
    """The text of levels.py and of tq_levels.h."""
    python, c = PYTHON_HEAD + "LEVELS = {\n", C_HEAD
    for bits, (levels, sigma_part, peak_part, recipe) in books.items():
        tail = f"{sigma_part:.6g}, {peak_part:.6g}, {recipe.fine}, {recipe.coarse}"
        rows = [levels[i : i + 16] for i in range(0, len(levels), 16)]
        text = "\n".join(
            f'        "{" ".join(map(str, row))}{" " if row is not rows[-1] else ""}"' for row in rows
        )
        python += (
            f"    {bits}: _book(\n{text},\n        {tail.replace(', ', f',{chr(10)}        ')},\n    ),\n"
        )
        body = ",\n     ".join(", ".join(map(str, row)) for row in (rows if len(rows) == 2 else rows * 2))
        floats = f"{sigma_part:.6g}f, {peak_part:.6g}f".replace(" 0f", " 0.0f")
        floats = floats if "." in floats.split(",")[0] else floats.replace("0f,", "0.0f,", 1)
        c += f"static const st_tq_book st_tq{bits}_book = {{\n    {{{body}}},\n"
        c += f"    {floats}, {recipe.fine}, {recipe.coarse}}};\n\n"
    return python + "}\n", c + "#endif\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write the two source files")
    parser.add_argument("--blocks", type=int, default=3000, help="blocks of 128 values to train on")
    parser.add_argument("--rounds", type=int, default=18)
    args = parser.parse_args()
    rng = np.random.default_rng(2025)
    x, held_out = rng.standard_normal((args.blocks, 128)), rng.standard_normal((1000, 128))
    books = {}
    for recipe in RECIPES:
        table = train(recipe, x, args.rounds)
        levels, factor = round_levels(table)
        rounded = distortion(recipe, held_out, levels / factor)
        print(
            f"{recipe.bits} bits: distortion {distortion(recipe, held_out, table):.5f},"
            f" with integer levels {rounded:.5f}, levels {sorted(set(levels.ravel().tolist()))}",
            flush=True,
        )
        parts = recipe.sigma_part / factor, recipe.peak_part / factor
        books[recipe.bits] = (stored_order(recipe, levels), *parts, recipe)
    if args.write:
        python, c = sources(books)
        (ROOT / "quantize/turboquant/levels.py").write_text(python)
        (ROOT / "quantize/native/tq_levels.h").write_text(c)


if __name__ == "__main__":
    main()
