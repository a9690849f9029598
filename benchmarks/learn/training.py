"""
One run in slices. Each starts from the checkpoint that the last one wrote, with a new environment and random streams that
follow from seed and steps, whether the process is still the same or not: so a run that was killed in any second goes on as if
it had not been. What is measured follows from a checkpoint alone, or lies on the disk before it.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.learn.runs import Run
from sb3_latent.envs.making import make_env
from sb3_latent.evaluation import evaluating
from sb3_latent.files import write_json
from sb3_latent.probes import collect, probe_dataset
from sb3_latent.resume import has_checkpoint, list_checkpoints, load_checkpoint, remove_leftovers, save_checkpoint, steps_of
from sb3_latent.saved_agents import load_agent
from sb3_latent.tuning.agents import algorithm_kwargs, make_callbacks

SEEDS_APART = 1000
"""Copies of an environment have seeds one after the other, and those of two runs should not meet."""

_EVALUATION, _PROBE = 10**6, 7
_NORMS = ("auxiliary/rl_gradient_norm", "auxiliary/auxiliary_gradient_norm")


class Slice(BaseCallback):
    """
    Saves the model between two updates, at the first rollout from a step on, and ends training there.

    SB3 can be stopped only in the middle of a rollout, one step later: the model is of no use then, and the checkpoint is.

    :param folder: of the run.
    :param end: agent steps.
    """

    def __init__(self, folder: Path, end: int) -> None:
        super().__init__()
        self.folder = folder
        self.end = end
        self._is_saved = False
        self._norms: dict[str, list[float]] = {name: [] for name in _NORMS}

    def _on_training_start(self) -> None:
        self._start = time.perf_counter()

    def _on_step(self) -> bool:
        return not self._is_saved

    def _on_rollout_start(self) -> None:
        # LatentMetricsCallback, before this one in the list, has just recorded; SB3 clears the logger after the rollout.
        for name, values in self._norms.items():
            if name in self.logger.name_to_value:
                values.append(float(self.logger.name_to_value[name]))
        if self.num_timesteps >= self.end:
            self._save()

    def _on_training_end(self) -> None:
        if not self._is_saved:
            self._save()

    def _save(self) -> None:
        self._is_saved = True
        norms = {name.partition("/")[2]: float(np.mean(values)) for name, values in self._norms.items() if values}
        write_json(self.folder / "slice.json", {"seconds": round(time.perf_counter() - self._start, 1), **norms})
        save_checkpoint(self.model, self.folder, keep=1)


def train(run: Run, work: Path, deadline: float = float("inf"), device: str = "auto") -> dict[str, Any] | None:
    """
    Go on with a run, to its end or the first evaluation after the deadline. Its folder must be of this process alone.

    :param run: to be gone on with.
    :param work: checkpoints, curves and encoders of all runs.
    :param deadline: in seconds of ``time.time()``.
    :param device: torch's.
    :return: curve and final measurements; None if it is not finished.
    """
    folder = run.folder(work)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    while True:
        n_steps = _evaluated_steps(run, folder, device)
        if n_steps >= run.n_steps:
            return {"curve": _curve(folder), **_probe(run, folder, device)}
        if time.time() >= deadline:
            return None
        _train_slice(run, folder, work, device)


def _train_slice(run: Run, folder: Path, work: Path, device: str) -> None:
    hyperparams, seed = run.training_hyperparams(work), run.seed * SEEDS_APART
    env = make_env(run.env_id, hyperparams, hyperparams.get("n_envs", 1), seed)
    model: BaseAlgorithm
    if has_checkpoint(folder):
        model = load_checkpoint(run.algorithm, folder, env, device=device)
    else:
        model = run.algorithm(env=env, seed=seed, device=device, **algorithm_kwargs(hyperparams))
    n_slices = model.num_timesteps * run.action_repeat // run.suite.slice_steps
    end = (n_slices + 1) * run.suite.slice_steps // run.action_repeat
    callbacks = [*make_callbacks(hyperparams), Slice(folder, end)]
    # The whole of what is left: schedules go by it.
    n_left = run.n_steps // run.action_repeat - model.num_timesteps
    model.learn(n_left, callbacks, reset_num_timesteps=False)
    env.close()


def _evaluated_steps(run: Run, folder: Path, device: str) -> int:
    """Environment steps so far, after the newest checkpoint has its point on the curve."""
    if not has_checkpoint(folder):
        return 0
    checkpoint, curve = list_checkpoints(folder)[-1], _curve(folder)
    n_steps = steps_of(checkpoint) * run.action_repeat
    if not curve or curve[-1]["steps"] < n_steps:
        point = {"steps": n_steps, **_returns(run, checkpoint, device), **json.loads((folder / "slice.json").read_text())}
        write_json(folder / "curve.json", [*curve, point])
        print(f"{run.name}: step {n_steps:,} of {run.n_steps:,}, return {point['return']:.4g}", flush=True)
    return n_steps


def _curve(folder: Path) -> list[dict[str, Any]]:
    path = folder / "curve.json"
    curve: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return curve


def _returns(run: Run, checkpoint: Path, device: str) -> dict[str, float | None]:
    """Mean returns: of an evaluation, and of the last 100 episodes of training."""
    model, seed = _agent(run, checkpoint, device), _EVALUATION + run.seed * SEEDS_APART
    env = _evaluation_env(run, seed, run.suite.n_eval_episodes)
    with evaluating(model.policy, seed):
        returns, _ = evaluate_policy(
            model, env, run.suite.n_eval_episodes, deterministic=run.suite.deterministic, return_episode_rewards=True
        )
    env.close()
    trained = [episode["r"] for episode in model.ep_info_buffer or []]
    return {"return": float(np.mean(returns)), "training_return": float(np.mean(trained)) if trained else None}


def _probe(run: Run, folder: Path, device: str) -> dict[str, Any]:
    """R^2 of a linear probe for what the suite asks for, under random play."""
    if not run.suite.probed:
        return {}
    env = _evaluation_env(run, _PROBE, 16)
    dataset = collect(None, env, run.suite.probed, 3_000, seed=_PROBE)
    report = probe_dataset(_agent(run, list_checkpoints(folder)[-1], device), dataset, ("linear",))
    env.close()
    return {"r2": {name: float(report.score(name, "linear").value) for name in run.suite.probed}}


def _agent(run: Run, checkpoint: Path, device: str) -> BaseAlgorithm:
    name = run.algorithm.__name__
    return load_agent(checkpoint / f"{name}.zip", name, device)


def _evaluation_env(run: Run, seed: int, n_envs: int) -> VecEnv:
    return make_env(run.env_id, run.hyperparams, min(16, n_envs), seed, training=False)
