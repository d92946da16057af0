"""What a process that loads a model imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from train_data import random_task

from arc_kaggle.models.loading import load_model, save_model
from arc_kaggle.models.new_model import new_grid_model
from arc_kaggle.system.files import write_json
from arc_kaggle.tasks.task import task_to_json


def test_models_are_imported_without_scipy_and_transformers_still_knows_that_it_is_there() -> None:
    code = (
        "import sys; import arc_kaggle.models.grid_lm; from transformers.utils import *\n"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules, is_sklearn_available(), is_scipy_available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "False", "True", "True"]), done.stderr


def test_a_worker_whose_model_is_a_gridlm_tunes_it_and_answers_without_transformers(tmp_path: Path) -> None:
    save_model(new_grid_model(64, 1, 0), tmp_path, "box", {})
    code = (
        "import sys; import numpy as np; from pathlib import Path; from arc_kaggle.config.solve import SolveConfig\n"
        "from arc_kaggle.run.worker.main import load_method, probe\n"
        "from arc_kaggle.system.deadline import Deadline; from arc_kaggle.text.tokens import Example\n"
        "method = load_method(SolveConfig('arc1:training', Path('out'), model=Path(sys.argv[1])))\n"
        "examples = iter([Example(np.arange(8), np.arange(8))] * method.tuner.config.steps)\n"
        "print(probe(method) > 0, method.tuner.tune(examples, 0, Deadline.never()).steps > 0)\n"
        "from arc_kaggle.tuning.muon import Muon\n"
        "optimizer = Muon([method.tuner.model.network.lm_head.weight], lr=0.1)\n"
        "optimizer.step(); optimizer.zero_grad(); optimizer.load_state_dict(optimizer.state_dict())\n"
        "print(*{'transformers', 'torch._dynamo'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr


def test_a_trainer_that_starts_from_a_gridlm_trains_and_saves_it_without_transformers(tmp_path: Path) -> None:
    save_model(new_grid_model(32, 1, 0), tmp_path / "start", "box", {})
    write_json(tmp_path / "tasks.json", {"a": task_to_json(random_task("a"))})
    code = (
        "import sys; from pathlib import Path; from arc_kaggle.config.train import TrainConfig\n"
        "from arc_kaggle.training.session import train; folder = Path(sys.argv[1])\n"
        "sizes = dict(steps=2, tokens_per_batch=256, max_tokens=256, hold_out=0, validation_puzzles=0, against=())\n"
        "train(TrainConfig(folder / 'out', (str(folder / 'tasks.json'),), start=folder / 'start', **sizes))\n"
        "print(*{'transformers', 'torch._dynamo', 'torch.distributed.tensor'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
    ours, before = (load_model(tmp_path / name).network for name in ("out", "start"))
    assert not torch.equal(ours.lm_head.weight, before.lm_head.weight)
