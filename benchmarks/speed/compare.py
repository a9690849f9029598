"""Two results, figure by figure."""

import json
from pathlib import Path
from typing import Any

from benchmarks.speed.limits import figures


def read(path: Path) -> dict[str, Any]:
    """
    :param path: JSON of ``python -m benchmarks speed``.
    :return: all of it.
    :raises ValueError: in one line, if it is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not figures(found["results"]):
            raise KeyError("figures")
        found["machine"]["processor"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no result of 'python -m benchmarks speed --out FILE' ({type(error).__name__}: {error})."
        ) from None
    whole: dict[str, Any] = found
    return whole


def ratios_of(whole: dict[str, Any]) -> dict[str, float]:
    """:return: figures that are times, memory or work over those of the base in the same run."""
    return {name: value for name, value in figures(whole["results"]).items() if ": " in name}


def compare(old: dict[str, Any], new: dict[str, Any], tolerance: float) -> tuple[list[list[str]], list[str]]:
    """
    Ratios to the base of the same run are compared, which a slower machine leaves as they are.

    :param old: of :func:`read`.
    :param new: of :func:`read`.
    :param tolerance: growth that counts as noise; 0.1 is 10 %.
    :return: rows of a table with its heading, and the names of what grew beyond it.
    :raises ValueError: if there is nothing to compare.
    """
    before, after = ratios_of(old), ratios_of(new)
    if not before.keys() & after.keys():
        raise ValueError("the two results have no ratio in common.")
    lines, slower = [["figure", "old", "new", "new / old", ""]], []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in before or name not in after:
            cells = [f"{side[name]:.3f}" if name in side else "not measured" for side in (before, after)]
            lines.append([name, *cells, "", ""])
            continue
        growth = after[name] / before[name]
        is_slower = growth > 1 + tolerance
        slower += [name] if is_slower else []
        lines.append([name, f"{before[name]:.3f}", f"{after[name]:.3f}", f"{growth:.2f}", "slower" if is_slower else ""])
    return lines, slower


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """:return: a line for everything in which the two machines, or what ran on them, differ."""
    names = {**old["machine"], **new["machine"]}
    return [
        f"{name}: {old['machine'].get(name)} -> {new['machine'].get(name)}"
        for name in names
        if old["machine"].get(name) != new["machine"].get(name)
    ]
