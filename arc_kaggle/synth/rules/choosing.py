"""Which of several objects a rule is about: the largest, the one of another colour, the symmetric one, ..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from arc_kaggle.synth.rules.base import Make, Params, Rng, Setting, between, blank, need, pick, some
from arc_kaggle.synth.rules.scene import blob, blobs, box, mixed, place, walk
from arc_kaggle.synth.rules.things import Thing, has_hole, the_most
from arc_kaggle.tasks.grid import Grid

Choose = Callable[[Grid, list[Thing]], Thing]
"""Which of the objects it is. Raises Unfit where none stands out."""


def by_size(sign: int) -> Choose:
    def choose(grid: Grid, found: list[Thing]) -> Thing:
        return found[the_most({i: sign * thing.size for i, thing in enumerate(found)})]

    return choose


def odd_one(key: Callable[[Grid, Thing], object]) -> Choose:
    """The object whose key no other has, while all others share theirs with another one."""

    def choose(grid: Grid, found: list[Thing]) -> Thing:
        keys = [key(grid, thing) for thing in found]
        counts = Counter(keys)
        single = [i for i, each in enumerate(keys) if counts[each] == 1]
        need(len(found) >= 3 and len(single) == 1)
        return found[single[0]]

    return choose


def colour_of(grid: Grid, thing: Thing) -> object:
    return thing.colour


def shape_of(grid: Grid, thing: Thing) -> object:
    """The same for equal objects in whatever colour."""
    picture = thing.picture(grid) > 0
    return picture.shape, picture.tobytes()


def most_colours(grid: Grid, found: list[Thing]) -> Thing:
    counts = {i: len(np.unique(grid[thing.ys, thing.xs])) for i, thing in enumerate(found)}
    return found[the_most(counts)]


def the_symmetric(grid: Grid, found: list[Thing]) -> Thing:
    """The only one whose picture is the same mirrored left to right."""
    pictures = [thing.picture(grid) for thing in found]
    even = [i for i, picture in enumerate(pictures) if (picture == picture[:, ::-1]).all()]
    need(len(even) == 1)
    return found[even[0]]


def at_border(grid: Grid, found: list[Thing]) -> Thing:
    """The only one that touches the outer ring."""
    inner_y, inner_x = grid.shape[0] - 1, grid.shape[1] - 1
    there = [i for i, t in enumerate(found) if 0 in t.ys or 0 in t.xs or inner_y in t.ys or inner_x in t.xs]
    need(len(there) == 1)
    return found[there[0]]


def by_height(grid: Grid, found: list[Thing]) -> Thing:
    rows = [thing.box[0] for thing in found]
    return found[the_most({i: each.stop - each.start for i, each in enumerate(rows)})]


def the_holed(grid: Grid, found: list[Thing]) -> Thing:
    """The only one that encloses an empty cell."""
    holed = [i for i, thing in enumerate(found) if has_hole(thing.picture(grid))]
    need(len(holed) == 1)
    return found[holed[0]]


def commonest_shape(grid: Grid, found: list[Thing]) -> Thing:
    """The first of those whose shape most objects have."""
    keys = [shape_of(grid, thing) for thing in found]
    counts: dict[int, int] = {}
    for key in keys:
        counts[keys.index(key)] = counts.get(keys.index(key), 0) + 1
    most = the_most(counts)
    need(counts[most] >= 2 and len(counts) >= 2)
    return found[most]


def copies(rng: Rng, setting: Setting, pictures: list[Grid]) -> Grid:
    """Pictures placed apart, in a random order. Raises Unfit where there is no room for all."""
    height, width = setting.sides(rng, 6)
    grid = blank(height, width)
    for i in rng.permutation(len(pictures)):
        need(place(rng, grid, pictures[i]))
    return grid


def one_other_colour(rng: Rng, setting: Setting, params: Params) -> Grid:
    need(len(setting.palette) >= 2)
    most, odd = setting.palette[:2]
    shapes = [(blob(rng, setting) > 0).astype(np.int8) for _ in range(setting.amount(rng, 3, 6))]
    return copies(rng, setting, [shapes[0] * odd, *(shape * most for shape in shapes[1:])])


def one_other_shape(rng: Rng, setting: Setting, params: Params) -> Grid:
    odd, most = (blob(rng, setting) > 0, blob(rng, setting) > 0)
    masks = [odd, *[most] * (setting.amount(rng, 3, 5) - 1)]
    return copies(rng, setting, [mask * np.int8(pick(rng, setting.palette)) for mask in masks])


def one_most_coloured(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Patches; one of them has a colour more than the others may have."""
    most = between(rng, 2, min(4, len(setting.palette)))
    pictures = []
    for n in (most, *(between(rng, 1, most - 1) for _ in range(setting.amount(rng, 1, 4)))):
        cells = walk(rng, between(rng, max(3, n), 4 + round(5 * setting.difficulty)))
        colours = some(rng, setting.palette, n)
        cells[cells > 0] = [*colours, *(pick(rng, colours) for _ in range(np.count_nonzero(cells) - n))]
        pictures.append(cells)
    return copies(rng, setting, pictures)


def one_symmetric(rng: Rng, setting: Setting, params: Params) -> Grid:
    half = blob(rng, setting)
    others = [blob(rng, setting) for _ in range(setting.amount(rng, 1, 3))]
    return copies(rng, setting, [np.hstack([half, half[:, ::-1][:, 1:]]), *others])


def one_holed(rng: Rng, setting: Setting, params: Params) -> Grid:
    """A hollow box among solid ones and blobs."""
    holed = blank(between(rng, 3, 4), between(rng, 3, 4), pick(rng, setting.palette))
    holed[1:-1, 1:-1] = 0
    return copies(
        rng, setting, [holed, *(pick(rng, (blob, box))(rng, setting) for _ in range(setting.amount(rng, 1, 4)))]
    )


def one_at_border(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = setting.sides(rng, 6)
    grid = blank(height, width)
    for _ in range(setting.amount(rng, 1, 4)):
        place(rng, grid[1:-1, 1:-1], pick(rng, (blob, box))(rng, setting))
    picture = blob(rng, setting)
    h, w = picture.shape
    edges = [(y, x) for y in range(height - h + 1) for x in range(width - w + 1) if y in (0, height - h)]
    y, x = pick(rng, edges)
    need(not grid[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any())
    grid[y : y + h, x : x + w] = picture
    return grid if rng.random() < 0.5 or setting.shape else grid.T


CHOOSERS: dict[str, tuple[Choose, Make]] = {
    "largest": (by_size(1), mixed),
    "smallest": (by_size(-1), blobs),
    "most_colours": (most_colours, one_most_coloured),
    "odd_colour": (odd_one(colour_of), one_other_colour),
    "odd_shape": (odd_one(shape_of), one_other_shape),
    "symmetric": (the_symmetric, one_symmetric),
    "at_border": (at_border, one_at_border),
    "tallest": (by_height, blobs),
    "holed": (the_holed, one_holed),
}
