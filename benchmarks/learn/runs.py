"""Which runs a suite has, what they train with, and how far each is."""

import copy
import hashlib
import json
import shlex
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm

from benchmarks.suites import SEEDS, SUITES, Suite
from sb3_latent.envs import DMC_IDS, DmcSettings
from sb3_latent.registry import unknown
from sb3_latent.tuning.spaces import merged
from sb3_latent.zoo.algorithms import ALGORITHMS

_PRETRAINING = "sb3_latent.callbacks.EncoderPretrainCallback"
KEY = ("preset", "task", "seed", "n_steps")
"""Names a run in the results of its suite."""


@dataclass(frozen=True)
class Run:
    """
    :param suite_name: in ``SUITES``.
    :param preset: of the suite.
    :param task: of the suite.
    :param seed: of everything random in it.
    :param n_steps: environment steps.
    """

    suite_name: str
    preset: str
    task: str
    seed: int
    n_steps: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        """:return: values of ``KEY``."""
        return self.preset, self.task, self.seed, self.n_steps

    @property
    def suite(self) -> Suite:
        """:return: what it belongs to."""
        return SUITES[self.suite_name]

    @property
    def env_id(self) -> str:
        """:return: registered with gymnasium."""
        return self.suite.presets[self.preset].env.format(task=self.task)

    @property
    def action_repeat(self) -> int:
        """:return: environment steps in a step of the agent; the frames that Atari skips are not counted, as usual."""
        return DmcSettings(**gym.spec(self.env_id).kwargs).n_repeats if self.env_id in DMC_IDS else 1

    @property
    def algorithm(self) -> type[BaseAlgorithm]:
        """:return: a class of SB3."""
        return ALGORITHMS[self.suite.presets[self.preset].config]

    @property
    def hyperparams(self) -> dict[str, Any]:
        """:return: of the entry of ``zoo_configs``, with the preset's overrides."""
        preset = self.suite.presets[self.preset]
        entries = yaml.safe_load((files("sb3_latent.zoo_configs") / f"{preset.config}.yml").read_text())
        fitting = (name for name in (self.env_id, self.task, "atari") if name in entries)
        return merged(entries[next(fitting)], preset.overrides)

    @property
    def name(self) -> str:
        """:return: also of its folder; another one if the hyperparameters are others."""
        own = _digest([self.env_id, self.suite.slice_steps, self.hyperparams])
        return f"{self.preset}_{_slug(self.task)}_{self.n_steps}_seed{self.seed}_{own}"

    def folder(self, work: Path) -> Path:
        """
        :param work: of all suites.
        :return: of this run alone.
        """
        return work / self.suite_name / self.name

    def training_hyperparams(self, work: Path) -> dict[str, Any]:
        """
        :param work: of all suites.
        :return: the hyperparameters, with a pretrained encoder that the runs of a seed share and another seed has not.
        """
        hyperparams = copy.deepcopy(self.hyperparams)
        policy_kwargs = {name: value for name, value in (hyperparams.get("policy_kwargs") or {}).items() if name != "preset"}
        for entry in hyperparams.get("callback") or []:
            if _PRETRAINING in entry:
                own = _digest([self.env_id, policy_kwargs, entry[_PRETRAINING]])
                path = work / self.suite_name / "encoders" / f"{_slug(self.task)}_seed{self.seed}_{own}.safetensors"
                # Bars of several processes overwrite each other.
                entry[_PRETRAINING] |= {"seed": self.seed, "path": str(path), "progress_bar": False}
        return hyperparams


def runs_of(
    suite_name: str, presets: list[str] | None, tasks: list[str] | None, seeds: list[int], n_steps: int | None
) -> list[Run]:
    """
    :param suite_name: in ``SUITES``.
    :param presets: names or patterns such as ``ppo_vae-*``; None is all.
    :param tasks: names; None is all.
    :param seeds: of each.
    :param n_steps: environment steps; None is the suite's.
    :return: the runs; the first seed of all of them comes first.
    :raises ValueError: if the suite has no such preset or task.
    """
    suite = SUITES[suite_name]
    for name, given, known in (("preset", presets, suite.presets), ("task", tasks, suite.tasks)):
        for one in given or []:
            if not any(fnmatch(other, one) for other in known):
                raise ValueError(unknown(f"{name} of suite {suite_name!r}:", one, known))
    chosen = [name for name in suite.presets if presets is None or any(fnmatch(name, one) for one in presets)]
    of_task = [task for task in suite.tasks if tasks is None or any(fnmatch(task, one) for one in tasks)]
    steps = n_steps or suite.n_steps
    return [Run(suite_name, name, task, seed, steps) for seed in seeds for task in of_task for name in chosen]


def command_for(suite_name: str, preset: str, task: str, seeds: list[int], n_steps: int) -> str:
    """:return: what would run these seeds."""
    suite = SUITES[suite_name]
    of_task = ["--task", task] if len(suite.tasks) > 1 else []
    steps = ["--steps", str(n_steps)] if n_steps != suite.n_steps else []
    of_seeds = ["--seeds", *map(str, seeds)] if seeds != SEEDS else []
    arguments = ["--suite", suite_name, "--preset", preset, *of_task, *of_seeds, *steps]
    return shlex.join(["python", "-m", "benchmarks", "learn", *arguments])


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def _slug(name: str) -> str:
    return name.rpartition("/")[2]
