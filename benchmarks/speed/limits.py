"""What must hold, as data, and what of it does not."""

from dataclasses import dataclass
from typing import Any

from benchmarks import acting, fast_atari, sac, slac
from benchmarks.speed.paths import ATARI, CACHED, CHUNKED, REMEMBERED

_ASKED = "asked for with this benchmark"


@dataclass(frozen=True)
class Limit:
    """
    :param why: this much.
    :param at_most: the figure, if that is limited.
    :param at_least: the figure, if that is limited.
    """

    why: str
    at_most: float = float("inf")
    at_least: float = float("-inf")

    def __str__(self) -> str:
        """:return: in words."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {value:.3g}" for word, value in bounds if abs(value) != float("inf"))


LIMITS = {
    "sac_ae: update": Limit("issue 3 of this project", at_most=sac.LIMITS[f"update of sac_ae / {sac.STOCK}"]),
    f"{CHUNKED}: update": Limit(_ASKED, at_most=0.45),
    f"{CACHED}: update": Limit(_ASKED, at_most=1 / 8),
    f"{REMEMBERED}: acting": Limit("issue 7 of this project", at_most=acting.LIMIT),
    f"{slac.OURS}: update": Limit("issue 4 of this project", at_most=slac.LIMITS[f"update of {slac.OURS} / {slac.PLAIN}"]),
    f"{ATARI}: environment step": Limit("issue 7 of this project", at_most=1 / fast_atari.LIMIT),
    "slope over batch": Limit("proportional at most, but for noise", at_most=1.1),
    "slope over latent": Limit("two layers of many have it", at_most=0.3),
    "slope over image": Limit("proportional to pixels at most, but for noise", at_most=1.15),
    "slope over stack": Limit("proportional to frames at most, but for noise", at_most=1.1),
    "slope over environments": Limit("proportional at most, but for noise", at_most=1.05),
    "slope over replay": Limit("sampling does not search", at_most=0.1, at_least=-0.1),
    "slope over memory": Limit("proportional to transitions", at_most=1.05, at_least=0.95),
    "bytes of a transition / stated": Limit("one frame, one more for each episode", at_most=1.1, at_least=0.9),
    "minutes": Limit(f"{_ASKED}, on two cores", at_most=10),
}
"""Figure -> limit."""


def figures(results: dict[str, Any]) -> dict[str, float]:
    """
    :param results: of a run, or of a part of it.
    :return: name -> figure. Names with a colon are ratios to a base, the better the smaller.
    """
    rows = [row for part in ("rows", "paths") for row in results.get(part, ()) if row["name"] != row["base"]]
    found = {f"{row['name']}: {what}": value for row in rows for what, value in row["ratios"].items()}
    curves = results.get("scaling", {})
    found |= {f"slope over {name}": curve["slope"] for name, curve in curves.items()}
    if "memory" in curves:
        found["bytes of a transition / stated"] = curves["memory"]["per_transition_over_stated"]
    return found | ({"minutes": results["minutes"]} if "minutes" in results else {})


def in_words(name: str, value: float) -> str:
    """:return: a figure, and of a ratio how much faster that is."""
    return f"{value:.3g} ({1 / value:.2f} times as fast)" if ": " in name else f"{value:.3g}"


def verdicts(results: dict[str, Any]) -> dict[str, bool | None]:
    """:return: figure -> whether its limit holds; None if it was not measured."""
    found = figures(results)
    return {name: limit.at_least <= found[name] <= limit.at_most if name in found else None for name, limit in LIMITS.items()}


def shortcomings(results: dict[str, Any], is_whole: bool) -> list[str]:
    """
    :param results: of a run.
    :param is_whole: whether a figure that was not measured falls short, too.
    :return: a line for each limit that does not hold.
    """
    found, lines = figures(results), []
    for name, holds in verdicts(results).items():
        if holds is False or (holds is None and is_whole):
            value = "not measured" if holds is None else in_words(name, found[name])
            lines.append(f"falls short: {name} is {value}; {LIMITS[name]} ({LIMITS[name].why})")
    return lines
