"""command `bundle`: its subcommands, each a config dataclass and a function of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from arc_kaggle.errors import BundleError
from arc_kaggle.kaggle.bundle import installer
from arc_kaggle.kaggle.bundle.build import BuildConfig, build
from arc_kaggle.kaggle.bundle.lock import LockConfig, lock
from arc_kaggle.kaggle.bundle.verify import VerifyConfig, verify
from arc_kaggle.kaggle.bundle.weights import WeightsConfig, describe_weights


@dataclass(frozen=True, slots=True)
class InstallConfig:
    """Install a bundle into this environment without a network; the same as `python install.py` in the bundle."""

    root: Path = field(default_factory=installer.default_root)
    """Where to look for the bundle."""
    bundle: Path | None = None
    """Its folder, instead of looking for it."""
    without_gpu: bool = False
    """Neither ask for a driver nor import what needs a GPU."""
    no_uv: bool = False
    """Install by pip even where there is uv."""


BundleCommand = (
    Annotated[BuildConfig, tyro.conf.subcommand("build")]
    | Annotated[VerifyConfig, tyro.conf.subcommand("verify")]
    | Annotated[InstallConfig, tyro.conf.subcommand("install")]
    | Annotated[WeightsConfig, tyro.conf.subcommand("model")]
    | Annotated[LockConfig, tyro.conf.subcommand("lock")]
)


def run(config: BundleCommand) -> int:
    """Run one subcommand and say what comes of it. Raises ArcKaggleError."""
    match config:
        case BuildConfig():
            print(build(config))
        case VerifyConfig():
            print(verify(config.bundle))
        case WeightsConfig():
            print(describe_weights(config))
        case LockConfig():
            print(lock(config, date.today()))
        case InstallConfig():
            _install(config, partial(print, flush=True))
    return 0


def _install(config: InstallConfig, say: Callable[[str], None]) -> None:
    try:
        folder = config.bundle or installer.choose_bundle(config.root)
        installer.install(folder, config.without_gpu, not config.no_uv, say)
    except installer.InstallError as error:
        raise BundleError(str(error)) from error
