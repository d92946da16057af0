"""Rules of patterns: what has begun goes on, what is covered is completed."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick, some
from arc_kaggle.tasks.grid import MAX_SIDE, Grid


def begun_rows(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Rows that repeat with a period each, two periods at least, then 0."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    n_shown = max(4, (width + 1) // 2)
    need(n_shown < width)
    for y in range(0, height, pick(rng, (1, 2))):
        period = between(rng, 1, min(3, n_shown // 2))
        cells = some(rng, setting.palette, min(period, len(setting.palette)))
        grid[y, :n_shown] = (cells * n_shown)[:n_shown]
    return grid


@family(begun_rows, hardness=0.05)
def continue_rows(grid: Grid) -> Grid:
    """Every row that begins with a pattern goes on with it to the end."""
    result = grid.copy()
    for row in result:
        n_shown = int(np.count_nonzero(row))
        if n_shown:
            need(not row[n_shown:].any())
            period = next(p for p in range(1, n_shown + 1) if (row[p:n_shown] == row[: n_shown - p]).all())
            need(2 * period <= n_shown)
            row[:] = np.resize(row[:period], len(row))
    return result


def tiled_corner(rng: Rng, setting: Setting, params: Params) -> Grid:
    """A small pattern without 0 in the upper left corner of an empty grid."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    h, w = between(rng, 1, min(3, height // 2)), between(rng, 2, min(3, width // 2))
    colours = np.array(setting.palette, dtype=np.int8)
    grid[:h, :w] = colours[rng.integers(len(colours), size=(h, w))]
    return grid


@family(tiled_corner, hardness=0.05)
def spread_pattern(grid: Grid) -> Grid:
    """The pattern in the upper left corner is repeated over the whole empty grid."""
    h, w = int(grid.any(axis=1).sum()), int(grid.any(axis=0).sum())
    need(0 < h * w < grid.size and bool((grid[:h, :w] > 0).all()))
    return np.tile(grid[:h, :w], (MAX_SIDE, MAX_SIDE))[: grid.shape[0], : grid.shape[1]]


def masked_tiles(rng: Rng, setting: Setting, params: Params) -> Grid:
    """A tile repeated over the grid, with rectangles of the mask's colour on it."""
    height, width = setting.sides(rng, 6)
    colours = np.array(setting.palette, dtype=np.int8)
    tile_cells = colours[rng.integers(len(colours), size=(between(rng, 2, 3), between(rng, 2, 3)))]
    grid = np.tile(tile_cells, (MAX_SIDE // 2, MAX_SIDE // 2))[:height, :width].copy()
    for _ in range(setting.amount(rng, 1, 3)):
        h, w = between(rng, 1, max(1, height // 3)), between(rng, 1, max(1, width // 3))
        y, x = between(rng, 0, height - h), between(rng, 0, width - w)
        grid[y : y + h, x : x + w] = params["mask"]
    return grid


@family(masked_tiles, lambda rng, setting: {"mask": setting.other(rng)}, hardness=0.1)
def repair_tiles(grid: Grid, mask: int) -> Grid:
    """A picture of one repeated tile is completed where masks cover it; of several tiles the smallest counts."""
    need((grid == mask).any())
    sides = [(h, w) for h in range(1, 4) for w in range(1, 4)]
    for h, w in sorted(sides, key=lambda side: side[0] * side[1]):
        found = _tile_of(grid, mask, h, w)
        if found is not None:
            need(not (found == mask).any())
            return np.tile(found, (MAX_SIDE, MAX_SIDE))[: grid.shape[0], : grid.shape[1]]
    need(False)
    return grid


def _tile_of(grid: Grid, mask: int, h: int, w: int) -> Grid | None:
    """The tile of h x w cells that, repeated, gives all cells but the mask; the mask where nothing is seen."""
    found = blank(h, w, mask)
    for y in range(h):
        for x in range(w):
            seen = grid[y::h, x::w]
            seen = seen[seen != mask]
            if seen.size:
                found[y, x] = seen[0]
                if (seen != seen[0]).any():
                    return None
    return found


def begun_stairs(rng: Rng, setting: Setting, params: Params) -> Grid:
    width = setting.side(rng, 4)
    grid = blank(1, width)
    grid[0, : between(rng, 1, max(1, width // 2))] = pick(rng, setting.palette)
    return grid


@family(begun_stairs, lambda rng, setting: {"step": between(rng, 1, 2), "high": pick(rng, (3, 4, 5))}, gives="sparse")
def stairs(grid: Grid, step: int, high: int) -> Grid:
    """A row with a bar at its left; below it the bar grows by `step` cells a row, `high` rows in all."""
    need(grid.shape[0] == 1)
    length = int(np.count_nonzero(grid))
    need(0 < length < grid.shape[1])
    result = np.tile(grid, (high, 1))
    for y, row in enumerate(result):
        row[: length + y * step] = grid[0, 0]
    return result


def nested(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Rings in changing colours, each around the next."""
    height, width = setting.sides(rng, 4)
    grid = blank(height, width)
    last = 0
    for inset in range((min(height, width) + 1) // 2):
        last = pick(rng, [colour for colour in setting.palette if colour != last] or [0])
        grid[inset : height - inset, inset : width - inset] = last
    return grid


@family(nested, hardness=0.05)
def reverse_rings(grid: Grid) -> Grid:
    """The colours of the rings around the middle change places: the outermost with the innermost, and so on."""
    height, width = grid.shape
    n_rings = (min(height, width) + 1) // 2
    result = grid.copy()
    for inset in range(n_rings):
        need(len(np.unique(grid[inset, inset : width - inset])) == 1)
        result[inset : height - inset, inset : width - inset] = grid[n_rings - 1 - inset, n_rings - 1 - inset]
    return result
