"""What probes found, as data and as a table."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from sb3_latent.probes.scores import Metric
from sb3_latent.registry import unknown

Source: TypeAlias = Literal["model", "random", "pca", "constant"]
"""The representation that was asked for, and its floors: fresh weights, principal components of pixels, mean or majority."""

FLOORS: tuple[Source, ...] = ("random", "pca", "constant")

_NAMES = {"linear": "linear", "mlp": "small MLP"}


@dataclass(frozen=True)
class Score:
    """
    :param variable: name of the label.
    :param source: what it was predicted from.
    :param probe: ``"linear"``, ``"mlp"``; ``"none"`` of the constant.
    :param metric: ``"r2"``, ``"accuracy"`` or ``"f1"``; 1 is perfect.
    :param value: on the test episodes.
    :param low: lower end of the 95 % interval over episodes; nan where there is none.
    :param high: its upper end.
    """

    variable: str
    source: Source
    probe: str
    metric: Metric
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """
    :param scores: one of each variable, source, probe and metric.
    :param skipped: variable -> why it was not probed.
    :param notes: what else a reader must know.
    :param n_rows: observations in each part: ``"train"``, ``"validation"``, ``"test"``, and test ``"duplicates"`` left out.
    :param n_episodes: episodes in each part.
    :param latent_dim: of the representation.
    """

    scores: list[Score]
    skipped: dict[str, str]
    notes: list[str]
    n_rows: dict[str, int]
    n_episodes: dict[str, int]
    latent_dim: int

    @property
    def variables(self) -> list[str]:
        """:return: those that were probed."""
        return list(dict.fromkeys(score.variable for score in self.scores))

    def score(self, variable: str, probe: str = "linear", source: Source = "model", metric: Metric | None = None) -> Score:
        """
        :param variable: name of the label.
        :param probe: ``"linear"`` or ``"mlp"``; of no account for source ``"constant"``.
        :param source: what it was predicted from.
        :param metric: None for R^2 of numbers and F1 of categories.
        :return: the score.
        :raises KeyError: if there is none; says which variables there are, or why this one is missing.
        """
        for score in self.scores:
            fits = score.variable == variable and score.source == source and source_probe(source, probe) == score.probe
            if fits and (score.metric == metric if metric else score.metric != "accuracy"):
                return score
        if variable in self.skipped:
            raise KeyError(f"variable {variable!r} was not probed: {self.skipped[variable]}.")
        if variable in self.variables:
            raise KeyError(f"variable {variable!r} has no {metric or 'score'} of probe {probe!r} on {source!r}.")
        raise KeyError(unknown("variable", variable, self.variables))

    def at_floor(self, floor: Source = "constant", probe: str = "linear") -> list[str]:
        """
        :param floor: which floor; ``"constant"`` asks whether anything at all is known of a variable.
        :param probe: ``"linear"`` or ``"mlp"``.
        :return: variables whose interval does not lie above the floor's value: the representation has lost them.
        """
        return [name for name in self.variables if not self.score(name, probe).low > self.score(name, probe, floor).value]

    def verdict(self) -> str:
        """:return: which variables the representation holds and which it has lost, in a sentence or two."""
        probe = next(score.probe for score in self.scores if score.source == "model")
        lost = self.at_floor(probe=probe)
        held = [name for name in self.variables if name not in lost]
        sentences = [f"A {_NAMES[probe]} probe reads {', '.join(held)} off the representation." if held else ""]
        if lost:
            sentences.append(f"At the floor, no better than a constant guess: {', '.join(lost)}.")
        if any(score.source == "random" for score in self.scores):
            idle = [name for name in self.at_floor("random", probe) if name in held]
            sentences.append(f"No better than with fresh weights: {', '.join(idle)}." if idle else "")
        return " ".join(filter(None, sentences))

    def to_dict(self) -> dict[str, Any]:
        """:return: plain data, with None for nan."""
        data = asdict(self)
        for score in data["scores"]:
            score.update({end: None for end in ("low", "high") if math.isnan(score[end])})
        return data

    def to_json(self) -> str:
        """:return: :meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def table(self) -> str:
        """:return: a line of each variable, metric and probe, with its floors and what was left out, for a terminal."""
        lines = [("variable", "metric", "probe", "model", *FLOORS)]
        for score in self.scores:
            if score.source == "model":
                lines.append((score.variable, score.metric, score.probe, _interval(score), *self._floors(score)))
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
        parts = ", ".join(
            f"{part} {rows} of {self.n_episodes[part]}" for part, rows in self.n_rows.items() if part != "duplicates"
        )
        text.append(
            f"rows of episodes: {parts}; {self.n_rows['duplicates']} duplicates left out; {self.latent_dim} dimensions"
        )
        text += [f"not probed: {name}, {why}" for name, why in self.skipped.items()]
        return "\n".join(text + self.notes)

    def _floors(self, score: Score) -> list[str]:
        found = {
            other.source: f"{other.value:.2f}"
            for other in self.scores
            if (other.variable, other.metric) == (score.variable, score.metric)
            and other.probe == source_probe(other.source, score.probe)
        }
        return [found.get(floor, "-") for floor in FLOORS]


def source_probe(source: Source, probe: str) -> str:
    """
    :param source: of a score.
    :param probe: that was asked for.
    :return: the probe under which the score is filed: a constant needs none.
    """
    return "none" if source == "constant" else probe


def _interval(score: Score) -> str:
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
