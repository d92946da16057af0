"""The ablation of GridLM, the model type of edition 3, at equal CPU time: every missing row by one command.

    python benchmarks/ablation.py --rearc FILE [--minutes 3 10] [--seeds 0 1] [--hours 2] [--only PART ...]
    python benchmarks/ablation.py --toy --out FOLDER/ablation.json

A row is a variant, the CPU minutes of one thread that its training may take, and a seed. What is missing in --out is
made row by row, the shortest minutes first and the base before all others; the hours are printed before, and after
--hours no row begins that should not end in time. A row that was interrupted is made again from its beginning. Two
processes, `--seeds 0` and `--seeds 1`, may add to one file at once.

The learning rate falls to 0 in time for the end. CPU seconds are those of this process: other programs cost a row cache
and memory bandwidth alone. All variants see the same examples in the same steps of a seed, as far as they come.

Measured are nats a label of all outputs but the first on held-out rules, by source, and their mean; the table has
differences to the base of the same minutes and seed. Rows of 600 equal steps, from before this command, stay in the
file and out of the table. Rows of variants that lost and went, such as the vocabulary of cells with coordinates, stay
in both.

Expected at 3 minutes, differences to the base in nats, written down before the first row: coordinate vocabulary with
1-D positions +0.08, absolute embeddings with 1-D positions +0.08, places without embeddings +0.02 (the three by a
smaller study before); AdamW +0.13 at 3e-3 and +0.15 at 1e-3, no QK norm +0.05, grid index +0.025, queries at their own
place +0.012, rate 6e-3 +0.01 (by the rows of 600 steps); z-loss 0, loss on all outputs 0, loss on everything +0.015,
growing lengths -0.01; 96 x 4 ahead of 128 x 4 by 0.01, 192 x 6 behind by 0.05. At 10 minutes all differences but those
of sizes shrink by a third; 128 x 4 is ahead of 96 x 4, and 192 x 6 behind by 0.01.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import OptimConfig
from arc_kaggle.models import grid_network as grid
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.files import write_json
from arc_kaggle.text.tokens import NOT_TRAINED
from arc_kaggle.training.examples import ExampleSource
from arc_kaggle.training.mixture import Mixture, load_mixture
from arc_kaggle.training.packing import BatchStream
from arc_kaggle.training.trainee import make_trainee
from arc_kaggle.training.validation import Validation, make_validation, mean_of, summed
from arc_kaggle.tuning.optimizer import Optimizer

RESULT = Path(__file__).parent / "results" / "edition3_ablation.json"
BASE = "the base"
MANY_STEPS = 10**9
"""More than any row makes: the time decides where its learning rate is."""
BESIDE = 15.0
"""CPU seconds of a row beside its training: a new model, validation examples, validation."""
Row = dict[str, Any]


class Key(NamedTuple):
    """What a row is of."""

    variant: str
    minutes: float
    seed: int


# Variants -------------------------------------------------------------------------------------------------------------


def without_qk_norm(model: LoadedModel) -> None:
    for layer in model.network.model.layers:
        layer.self_attn.q_norm, layer.self_attn.k_norm = nn.Identity(), nn.Identity()


def without_embedded_places(model: LoadedModel) -> None:
    for table in (model.network.model.embed_row, model.network.model.embed_column):
        nn.init.zeros_(table.weight)
        table.weight.requires_grad_(False)


def with_z_loss(model: LoadedModel) -> None:
    """Adds 1e-4 times the squared log of the softmax's denominator while the network trains."""
    network: Any = model.network

    def summed_loss(ids: Tensor, labels: Tensor, positions: Tensor | None) -> tuple[Tensor, int]:
        targets = F.pad(labels[:, 1:], (0, 1), value=NOT_TRAINED)
        kept = targets != NOT_TRAINED
        hidden = network.model(ids, position_ids=positions).last_hidden_state[kept]
        logits = network.lm_head(hidden).float()
        loss = F.cross_entropy(logits, targets[kept], reduction="sum")
        if network.training:
            loss = loss + 1e-4 * logits.logsumexp(-1).square().sum()
        return loss, int(kept.sum())

    network.summed_loss = summed_loss


@contextmanager
def patched(where: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, before)


def turns_of_order(places: Tensor, head_dim: int) -> Tensor:
    """Rotary positions of the number of each token alone, (1, 1, time, head_dim / 2)."""
    half = head_dim // 2
    rates = 10000.0 ** (-torch.arange(half) / half)
    angles = (torch.arange(places.shape[1])[:, None] * rates)[None, None]
    return torch.polar(torch.ones_like(angles), angles)


def turns_of_grids(places: Tensor, head_dim: int) -> Tensor:
    """Rotary positions that count grids where the model counts pairs."""
    angles = (places.float() @ grid.frequencies(head_dim, places.device))[:, None]
    return torch.polar(torch.ones_like(angles), angles)


attend = grid.Attention.forward


def attend_from_own_place(self: Any, hidden: Tensor, turns: tuple[Tensor, Tensor], mask: Any, cache: Any) -> Tensor:
    return attend(self, hidden, (turns[1], turns[1]), mask, cache)


def unchanged(model: LoadedModel) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs from the base: options of the training, the new model, or the code while the row is made."""

    options: Row = field(default_factory=dict)
    change: Callable[[LoadedModel], None] = unchanged
    patch: Callable[[], AbstractContextManager[None]] = nullcontext


RATE = 3e-3


def optim(rate: float = RATE, **options: Any) -> OptimConfig:
    return OptimConfig(
        rate, schedule="linear", warmup_fraction=0.03, weight_decay=0.1, **{"matrices": "muon", **options}
    )


VARIANTS = {
    BASE: Variant(),
    "embeddings of places, 1-D positions": Variant(patch=lambda: patched(grid, "turns_of", turns_of_order)),
    "rotary places without embeddings": Variant(change=without_embedded_places),
    "grid index instead of pair index": Variant(patch=lambda: patched(grid, "turns_of", turns_of_grids)),
    "queries at their own place": Variant(patch=lambda: patched(grid.Attention, "forward", attend_from_own_place)),
    "no norm of queries and keys": Variant(change=without_qk_norm),
    "AdamW": Variant({"optim": optim(matrices="adamw")}),
    "AdamW, learning rate 1e-3": Variant({"optim": optim(1e-3, matrices="adamw")}),
    "learning rate 6e-3": Variant({"optim": optim(6e-3)}),
    "learning rate 1.5e-3": Variant({"optim": optim(1.5e-3)}),
    "z-loss 1e-4": Variant(change=with_z_loss),
    "loss on all outputs": Variant({"loss": "outputs"}),
    "loss on everything": Variant({"loss": "everything"}),
    "growing lengths": Variant({"first_max_tokens": 192, "growing_fraction": 0.6}),
    "96 x 4": Variant({"hidden_size": 96}),
    "192 x 6": Variant({"hidden_size": 192, "n_layers": 6}),
}


# A row ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """What all rows share."""

    config: TrainConfig
    mixture: Mixture

    def config_of(self, key: Key, n_steps: int) -> TrainConfig:
        return replace(self.config, seed=key.seed, steps=n_steps, **VARIANTS[key.variant].options)


def make_row(key: Key, setting: Setting, n_steps: int) -> Row:
    """Train a variant for its CPU minutes and validate it. Lengths grow, where they do, over `n_steps` steps."""
    variant, config = VARIANTS[key.variant], setting.config_of(key, n_steps)
    with variant.patch():
        trainee = make_trainee(config, torch.device("cpu"))
        model = trainee.model
        variant.change(model)
        source = ExampleSource(setting.mixture, model.notation, config)
        weights = [weight for weight in model.network.parameters() if weight.requires_grad]
        trained = train(model, weights, BatchStream(source, model.pad_id), config, 60 * key.minutes)
        measured = replace(source, config=replace(config, loss="outputs_but_first"))
        losses = validate(model, make_validation(measured, model.pad_id))
    counts = {"weights": sum(weight.numel() for weight in weights), "torch": torch.__version__}
    return {**key._asdict(), **counts, **trained, **losses}


def train(
    model: LoadedModel, weights: Sequence[nn.Parameter], stream: BatchStream, config: TrainConfig, seconds: float
) -> Row:
    """Steps until the CPU seconds are used up, data included."""
    optimizer = Optimizer(model, weights, config.optim, MANY_STEPS, config.decay_fraction)
    begun, began, n_tokens, losses = time.process_time(), time.monotonic(), 0, []
    while (used := time.process_time() - begun) < seconds or not losses:
        step = len(losses) + 1
        batches = [batch for number in range(config.n_passes) for batch in stream[step, number]]
        n_tokens += sum(batch.n_tokens for batch in batches)
        pairs = [(torch.from_numpy(batch.ids), torch.from_numpy(batch.labels), None) for batch in batches]
        losses.append(optimizer.update(pairs, used / seconds))
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "steps": len(losses),
        "tokens": n_tokens,
        "cpu_s": round(time.process_time() - begun, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "train": round(sum(last) / len(last), 4),
    }


def validate(model: LoadedModel, validation: Validation) -> Row:
    """Nats a label by source, and the mean of the sources."""
    model.network.eval()
    by_source = {name: mean_of([summed(model, batches)]) for name, batches in validation.examples.items() if batches}
    losses = {name: loss for name, loss in by_source.items() if loss is not None}
    rounded = {name: round(loss, 6) for name, loss in losses.items()}
    return {**rounded, "mean": round(sum(losses.values()) / len(losses), 6)}


# All rows -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Table:
    """The file with all rows; those without minutes are of equal steps."""

    path: Path
    about: Row = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Table:
        about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return cls(path, about, about.pop("rows", []))

    def add(self, row: Row) -> None:
        """Keep a row, and those that other processes have added to the file since."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        turn = os.open(self.path.parent, os.O_RDONLY)
        fcntl.flock(turn, fcntl.LOCK_EX)
        self.rows = [*Table.read(self.path).rows, row]
        write_json(self.path, {**self.about, "rows": self.rows})
        os.close(turn)

    def timed(self) -> dict[Key, Row]:
        return {Key(row["variant"], row["minutes"], row["seed"]): row for row in self.rows if "minutes" in row}

    def missing(self, minutes: Sequence[float], seeds: Sequence[int], only: Sequence[str]) -> list[Key]:
        """Keys without a row, in the order in which they are made; the base always among what is asked for."""
        names = [name for name in VARIANTS if name == BASE or not only or any(part in name for part in only)]
        wanted = [Key(name, each, seed) for each in sorted(minutes) for seed in seeds for name in names]
        return [key for key in wanted if key not in self.timed()]

    def pace(self) -> float:
        """Seconds on the clock for one of the CPU, by the rows so far."""
        timed = [row for row in self.timed().values() if row["cpu_s"]]
        return max(1.0, sum(row["wall_s"] for row in timed) / max(1e-9, sum(row["cpu_s"] for row in timed)))


def seconds_of(key: Key) -> float:
    return 60 * key.minutes + BESIDE


def make_missing(
    table: Table,
    keys: Sequence[Key],
    load: Callable[[], Setting],
    hours: float | None,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Make rows until the hours are used up."""
    begun, total = clock(), sum(map(seconds_of, keys))
    limit = "no limit" if hours is None else f"at most {hours:g} h in this call"
    say(f"{len(keys)} rows to go: about {total / 3600:.2f} h of one free core, {limit}")
    setting = load() if keys else None
    for number, key in enumerate(keys):
        expected = seconds_of(key) * table.pace()
        if hours is not None and clock() - begun + expected > 3600 * hours:
            say(f"{len(keys) - number} rows are left; the next takes {expected:.0f} s and would end too late")
            return
        assert setting is not None
        base = table.timed().get(Key(BASE, key.minutes, key.seed))
        table.add(make_row(key, setting, base["steps"] if base else 1))
        say(f"{key.variant}, {key.minutes:g} min, seed {key.seed}: {table.rows[-1]['mean']} nats a label")


def markdown(rows: dict[Key, Row]) -> str:
    """Means of every variant, and their differences to the base of the same minutes and seed; lowest and highest."""
    minutes, names = sorted({key.minutes for key in rows}), list(dict.fromkeys(key.variant for key in rows))
    heads = [f"{each:g} min | to the base | seeds | steps" for each in minutes]
    lines = [f"| variant | weights | {' | '.join(heads)} |", "|---|--:|" + "--:|---|--:|--:|" * len(minutes)]
    order = {name: number for number, name in enumerate(VARIANTS)}
    for name in sorted(names, key=lambda name: order.get(name, len(order))):
        cells = [cell for each in minutes for cell in _cells(name, each, rows)]
        weights = next(row["weights"] for key, row in rows.items() if key.variant == name)
        lines.append(f"| {name} | {weights:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(name: str, minutes: float, rows: dict[Key, Row]) -> list[str]:
    found = {key.seed: row for key, row in rows.items() if (key.variant, key.minutes) == (name, minutes)}
    if not found:
        return ["", "", "", ""]
    bases = {seed: rows.get(Key(BASE, minutes, seed)) for seed in found}
    less = [row["mean"] - base["mean"] for seed, row in found.items() if (base := bases[seed])]
    mean = sum(row["mean"] for row in found.values()) / len(found)
    steps = sum(row["steps"] for row in found.values()) / len(found)
    shown = f"{sum(less) / len(less):+.3f} ({min(less):+.3f}..{max(less):+.3f})" if less and name != BASE else ""
    return [f"{mean:.3f}", shown, str(len(found)), f"{steps:.0f}"]


DATA = ("arc1:training=1", "arc2:training=1.5", "synth:0.8=4.5")
SIZES: Row = {"hidden_size": 128, "n_layers": 4, "tokens_per_batch": 2048, "max_tokens": 512, "first_max_tokens": 512}
TOY: Row = {"hidden_size": 32, "n_layers": 1, "tokens_per_batch": 256, "max_tokens": 128, "first_max_tokens": 128}


def setting_of(data: Sequence[str], sizes: Row, **options: Any) -> Setting:
    """Load the data."""
    config = TrainConfig(
        Path("unwritten"),
        tuple(data),
        architecture="grid",
        precision="fp32",
        bucket=32,
        optim=optim(),
        remake_share=0.15,
        validation_puzzles=0,
        drop_leaks=True,
        **{**sizes, **options},
    )
    return Setting(config, load_mixture(config))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rearc", default="", help="file of re-arc pairs (rearc.jsonl.xz)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 10.0], help="CPU minutes of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of every row; a process for each may run")
    parser.add_argument("--hours", type=float, default=None, help="most hours of this call")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of variants; the base is made too")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--plan", action="store_true", help="only say what is missing, and the hours")
    parser.add_argument("--toy", action="store_true", help="every variant for a second, on little data")
    given = parser.parse_args(words)
    if given.toy and given.out == RESULT:
        parser.error("--toy wants --out: its rows are none")
    if not (given.toy or given.plan or given.rearc):
        parser.error("--rearc FILE is wanted, the data of edition 3")
    torch.set_num_threads(1)
    minutes, seeds = ([1 / 60], [0]) if given.toy else (given.minutes, given.seeds)
    table = Table.read(given.out)
    keys = table.missing(minutes, seeds, given.only)

    def load() -> Setting:
        return setting_of(("arc1:training",), TOY) if given.toy else setting_of((*DATA, f"{given.rearc}=3"), SIZES)

    if given.plan:
        for key in keys:
            print(f"{key.variant}, {key.minutes:g} min, seed {key.seed}")
        keys_total = sum(map(seconds_of, keys)) / 3600
        print(f"{len(keys)} rows: about {keys_total:.2f} h of one free core")
        return
    make_missing(table, keys, load, given.hours)
    if table.timed():
        print(markdown(table.timed()))
    print(json.dumps({"rows": len(table.timed()), "missing": len(table.missing(minutes, seeds, given.only))}))


if __name__ == "__main__":
    main()
