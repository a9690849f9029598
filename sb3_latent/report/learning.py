"""Curves: what was logged while the runs learned."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sb3_latent.report.blocks import Charts, Missing, Note, Part, Section
from sb3_latent.report.charts import MAX_POINTS, Chart, Line, curves, heatmap
from sb3_latent.report.logs import Series
from sb3_latent.report.material import Material
from sb3_latent.report.pictures import evenly

_KL = re.compile(r"latent/kl_(\d+)")
_METRICS = "switch on callback=LatentMetricsCallback() with an encoder of sb3_latent"


@dataclass(frozen=True)
class _Group:
    """
    :param title: of the subsection.
    :param text: how to read it.
    :param tags: of the curves, as regular expressions; the first group that knows a tag has it.
    :param missing: what to switch on where nothing was logged.
    """

    title: str
    text: str
    tags: str
    missing: str

    def takes(self, tag: str) -> bool:
        return re.fullmatch(self.tags, tag) is not None


GROUPS = (
    _Group(
        "Return",
        "What the runs are paid for.",
        r"rollout/ep_(rew|len)_mean|rollout/success_rate|monitor/return|evaluations/return|eval/.*",
        "No return was logged: wrap the environment in stable_baselines3's Monitor and pass tensorboard_log= to the model.",
    ),
    _Group(
        "Gradient balance",
        "Norms of the gradients of RL and of the representation's own losses, at the latent. A cosine below zero: they pull "
        "in opposite directions. Kappa weighs the gradient of RL.",
        r"auxiliary/(rl_gradient_norm|auxiliary_gradient_norm|gradient_cosine|kappa|coef_.*)",
        f"No gradients were measured: {_METRICS}.",
    ),
    _Group(
        "Losses",
        "What the optimisers make small; those of the representation are not weighted.",
        r"train/.*loss.*|auxiliary/.*|model/.*|reconstruction/.*|dream/.*",
        "No loss was logged: pass tensorboard_log= to the model, and callback=LatentMetricsCallback() for an encoder's.",
    ),
    _Group(
        "Health of the representation",
        "Active units: dimensions that depend on the observation. Effective rank: how many directions the latents fill. Dead "
        "units: ReLUs that are zero on every observation.",
        r"latent/.*",
        f"No health was measured: {_METRICS}.",
    ),
    _Group(
        "Probes over time",
        "How well the true state can be read off the latent, while it is learned.",
        r"probe/.*",
        "No probes were logged: switch on callback=ProbeCallback(...).",
    ),
    _Group(
        "Optimisation",
        "What else the algorithm and the callbacks wrote.",
        r"train/(?!n_updates).*|saliency/.*|rollout/.*",
        "Nothing more was logged: pass tensorboard_log= to the model.",
    ),
)

TITLES = {
    "rollout/ep_rew_mean": "Return of training episodes",
    "rollout/ep_len_mean": "Length of training episodes",
    "rollout/success_rate": "Success rate",
    "monitor/return": "Return in the monitor files",
    "evaluations/return": "Return of evaluations",
    "eval/mean_reward": "Return of evaluations",
    "eval/mean_ep_length": "Length of evaluation episodes",
    "auxiliary/rl_gradient_norm": "Norm of the RL gradient",
    "auxiliary/auxiliary_gradient_norm": "Norm of the auxiliary gradient",
    "auxiliary/gradient_cosine": "Cosine between the two",
    "auxiliary/kappa": "Kappa",
    "auxiliary/recon": "Reconstruction loss",
    "auxiliary/kl": "KL loss",
    "reconstruction/mse": "Mean squared error of pixels",
    "latent/active_units": "Active units",
    "latent/effective_rank": "Effective rank",
    "latent/kl_sum": "KL from the prior, sum",
    "latent/dead_units": "Dead units",
    "saliency/mean": "Mean saliency",
    "saliency/max": "Largest saliency",
}
"""Tags that deserve a name; the others are their own."""

_XLABELS = {"monitor/return": "steps of the monitored environment"}
_INTRODUCTION = "All curves are over environment steps."
_SEEDS = " Thin lines are runs, thick ones the mean of the runs of a method."


def learning_section(material: Material) -> Section:
    """
    :param material: of all runs.
    :return: a subsection for each kind of curve, with a sentence where there is none.
    """
    has_seeds = any(len(material.of(label)) > 1 for label in material.labels)
    parts = [Part("", _INTRODUCTION + (_SEEDS if has_seeds else ""), [])]
    tags = _tags(material)
    for group in GROUPS:
        own = [tag for tag in tags if next((one for one in GROUPS if one.takes(tag)), None) is group]
        constant = {tag: value for tag in own if (value := _constant(material, tag)) is not None}
        charts = [_curves(material, tag) for tag in own if not _KL.fullmatch(tag) and tag not in constant]
        charts += _kl_charts(material, own)
        if not own:
            parts.append(Part(group.title, "", [Missing(group.missing)]))
            continue
        blocks: list[object] = [Charts(charts)] if charts else []
        if constant:
            written = ", ".join(f"{tag} {value:.6g}" for tag, value in constant.items())
            blocks.append(Note(f"The same all the time: {written}."))
        parts.append(Part(group.title, group.text, blocks))
    return Section("learning", "Learning", parts, {one.run.name: _data(one.logs.scalars) for one in material.runs})


def _tags(material: Material) -> list[str]:
    """In the order of the groups' own names for them, then of the alphabet. A curve that says the same twice is left out."""
    found = {tag for one in material.runs for tag in one.logs.scalars}
    for better, same in (("rollout/ep_rew_mean", "monitor/return"), ("evaluations/return", "eval/mean_reward")):
        if all(better in one.logs.scalars for one in material.runs if same in one.logs.scalars):
            found.discard(same)
    known = {tag: index for index, tag in enumerate(TITLES)}
    return sorted(found, key=lambda tag: (known.get(tag, len(known)), tag))


def _curves(material: Material, tag: str) -> Chart:
    lines = [Line(one.label, one.run.name, *one.logs.scalars[tag]) for one in material.runs if tag in one.logs.scalars]
    note = tag if tag in TITLES else ""
    return curves(TITLES.get(tag, tag), lines, material.looks, note, _XLABELS.get(tag, ""))


def _constant(material: Material, tag: str) -> float | None:
    """The value that all runs have all the time; None where there is something to draw."""
    values = np.concatenate([one.logs.scalars[tag].values for one in material.runs if tag in one.logs.scalars])
    return float(values[0]) if len(values) > 1 and (values == values[0]).all() else None


def _kl_charts(material: Material, tags: Sequence[str]) -> list[Chart]:
    """One for the first run of each method that has them: a row for each dimension."""
    dimensions = sorted(int(match[1]) for match in map(_KL.fullmatch, tags) if match)
    charts = []
    for label in material.labels:
        for one in material.of(label):
            own = [(d, one.logs.scalars[f"latent/kl_{d}"]) for d in dimensions if f"latent/kl_{d}" in one.logs.scalars]
            if own:
                lines = [Line(label, f"z{d}", *series) for d, series in own]
                title = "KL of each dimension" + (f", {one.run.name}" if len(material.runs) > 1 else "")
                charts.append(heatmap(title, lines, "nats", "latent/kl_<dimension>"))
                break
    return charts


def _data(scalars: dict[str, Series]) -> dict[str, dict[str, list[float]]]:
    """As many points as the charts have."""
    thinned = {tag: evenly(list(zip(*map(list, series), strict=True)), MAX_POINTS) for tag, series in scalars.items()}
    return {
        tag: {"steps": [int(step) for step, _ in points], "values": [float(value) for _, value in points]}
        for tag, points in thinned.items()
    }
