"""Final returns of several runs beside each other, with bootstrap intervals over seeds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rliable import library, metrics  # type: ignore[import-untyped]  # rliable has no types

from sb3_latent.evaluation import evaluating
from sb3_latent.report.blocks import Charts, Missing, Part, Section, Table
from sb3_latent.report.material import Material, RunData
from sb3_latent.report.plots import intervals

N_RESAMPLES = 2000
"""Of the bootstrap. Own choice: the ends of an interval vary by about a twentieth of its width, and it takes a second."""
_SOURCES = {
    "evaluations": "the mean return of the last evaluation",
    "monitor": "the mean return of its last 100 episodes",
    "log": "its last rollout/ep_rew_mean",
}


def comparison_section(material: Material) -> Section:
    """
    The interquartile mean over runs and its stratified bootstrap interval, as Agarwal et al. 2021, arXiv:2108.13264,
    recommend; by their library rliable. Runs of different environments are not compared.

    :param material: of all runs.
    :return: a chart and a table for each environment.
    """
    parts, data = [], {}
    for env_id in dict.fromkeys(one.env_id for one in material.runs):
        own = [one for one in material.runs if one.env_id == env_id]
        source = next((name for name in _SOURCES if all(name in one.logs.scores for one in own if one.logs.scores)), None)
        scored = [one for one in own if source in one.logs.scores]
        title = env_id or "Environment unknown"
        if not scored or source is None:
            missing = Missing("No return was logged: wrap the environment in stable_baselines3's Monitor.")
            parts.append(Part(title, "", [missing]))
            continue
        part, data[title] = _part(title, source, scored, material)
        parts.append(part)
    if len(parts) == 1:
        parts = [replace(parts[0], title="")]
    return Section("comparison", "Final return", parts, data)


def interquartile_means(scores: dict[str, list[float]], seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """
    :param scores: label -> one of each run.
    :param seed: of the resampling.
    :return: label -> interquartile mean, lower and upper end of its 95 % interval; nan for both where there is a single run.
    """
    found = {}
    for label, own in scores.items():
        if len(own) == 1:
            found[label] = (own[0], float("nan"), float("nan"))
            continue
        # rliable draws from numpy's global state, whatever generator it is given.
        with evaluating(None, seed):
            matrix = {label: np.array(own, np.float64)[:, None]}
            means, ends = library.get_interval_estimates(matrix, _interquartile_mean, reps=N_RESAMPLES)
        low, high = ends[label][:, 0]
        found[label] = (float(means[label][0]), float(low), float(high))
    return found


def _interquartile_mean(scores: Any) -> Any:
    return np.array([metrics.aggregate_iqm(scores)])


def _part(title: str, source: str, runs: Sequence[RunData], material: Material) -> tuple[Part, dict[str, Any]]:
    labels = [label for label in material.labels if any(one.label == label for one in runs)]
    scores = {label: [one.logs.scores[source].value for one in runs if one.label == label] for label in labels}
    means = interquartile_means(scores)
    rows = [(label, *means[label]) for label in labels]
    head = ["Method", "Runs", "Interquartile mean", "95 % interval", "Each run"]
    cells = [
        [label, str(len(scores[label])), f"{mean:.4g}", _interval(low, high), ", ".join(f"{s:.4g}" for s in scores[label])]
        for label, mean, low, high in rows
    ]
    text = f"The score of a run is {_SOURCES[source]}."
    single = [label for label in labels if len(scores[label]) == 1]
    if single:
        text += (
            f" An interval needs several seeds: {', '.join(single)} {'have' if len(single) > 1 else 'has'} one run. "
            "Train more, into folders that differ by a number at their end."
        )
    blocks: list[Any] = [Table(f"Final return in {title}", head, cells)]
    if len(runs) > 1:
        blocks.insert(0, Charts([intervals(f"Final return in {title}", rows, scores, material.looks)]))
    names = ("interquartile_mean", "low", "high")
    data = {label: dict(zip(names, means[label], strict=True)) | {"runs": scores[label], "score": source} for label in labels}
    return Part(title, text, blocks), data


def _interval(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}" if np.isfinite(low) else "none"
