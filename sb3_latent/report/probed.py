"""What probes found: bars with intervals, beside their floors."""

import json
from dataclasses import fields
from typing import Any

from sb3_latent.probes import Score
from sb3_latent.report.blocks import Charts, Missing, Part, Section, Table
from sb3_latent.report.material import Material, RunData
from sb3_latent.report.plots import bars

_FLOORS = {"random": "random encoder", "pca": "pixels through PCA", "constant": "mean or majority"}
_METRICS = {"r2": "R², the share of the variance that is explained", "f1": "F1", "accuracy": "accuracy"}
_LARGEST = 10_000_000
_OF_SCORE = {one.name for one in fields(Score)}


def probes_section(material: Material) -> Section:
    """
    :param material: of all runs.
    :return: bars of each metric, from the newest JSON that ``sb3-latent probe`` wrote into a run.
    """
    found = [(one, report) for one in material.runs if (report := _newest(one))]
    if not found:
        missing = Missing(
            "No probe was found: run sb3-latent probe MODEL.zip -o FOLDER/probe.png, which writes its JSON there."
        )
        return Section("probes", "Does the latent hold the state?", [Part("", "", [missing])])
    parts = [Part("", _said(one, report), []) for one, report in found if _said(one, report)]
    # F1 says more than accuracy, which stands in the table.
    for metric in ("r2", "f1"):
        charts = [chart for probe in ("linear", "mlp") if (chart := _bars(material, found, metric, probe))]
        if charts:
            parts.append(Part("Numbers" if metric == "r2" else "Categories", _how_to_read(metric), [Charts(charts)]))
    parts.append(Part("", "", [_table(found)]))
    return Section("probes", "Does the latent hold the state?", parts, {one.run.name: report for one, report in found})


def _newest(one: RunData) -> dict[str, Any] | None:
    for path in sorted(one.run.files("*.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        if path.stat().st_size > _LARGEST:
            continue
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            continue
        if _is_report(data):
            return data
    return None


def _is_report(data: Any) -> bool:
    scores = data.get("scores") if isinstance(data, dict) and "latent_dim" in data else None
    return isinstance(scores, list) and all(isinstance(score, dict) and _OF_SCORE <= set(score) for score in scores)


def _bars(material: Material, found: list[tuple[RunData, dict[str, Any]]], metric: str, probe: str) -> Any:
    """The first run of each method that was probed: seeds have intervals of their own."""
    rows: list[tuple[str, str, float, float, float]] = []
    floors: dict[str, dict[str, float]] = {title: {} for title in _FLOORS.values()}
    for label in material.labels:
        scores: list[dict[str, Any]] = next((report["scores"] for one, report in found if one.label == label), [])
        for score in scores:
            if score["metric"] != metric or score["probe"] not in (probe, "none"):
                continue
            if score["source"] in _FLOORS:
                floors[_FLOORS[score["source"]]][score["variable"]] = score["value"]
            else:
                low, high = (float("nan") if score[end] is None else score[end] for end in ("low", "high"))
                rows.append((score["variable"], label, score["value"], low, high))
    if not rows:
        return None
    title = "Linear probe" if probe == "linear" else "Small MLP"
    return bars(title, rows, floors, material.looks, _METRICS[metric].partition(",")[0])


def _said(one: RunData, report: dict[str, Any]) -> str:
    """What the command concluded, and what it could not probe."""
    skipped = [f"Not probed: {name}, {why}." for name, why in (report.get("skipped") or {}).items()]
    said = [report.get("verdict") or "", *skipped, *(report.get("notes") or [])]
    text = " ".join(str(sentence) for sentence in said if sentence)
    return f"{one.run.name}: {text}" if text else ""


def _how_to_read(metric: str) -> str:
    return (
        f"{_METRICS[metric]}; 1 is perfect. A bar that does not stand out above its floors tells nothing of the encoder. "
        "Lines are 95 % intervals over test episodes. Linear: what the policy's next layer can use. MLP: what is there at all."
    )


def _table(found: list[tuple[RunData, dict[str, Any]]]) -> Table:
    head = ["Variable", "Run", "Metric", "Probe", "Source", "Value", "95 % interval"]
    rows = [
        [
            str(score["variable"]),
            one.run.name,
            score["metric"],
            score["probe"],
            _FLOORS.get(score["source"], "model"),
            f"{score['value']:.3f}",
            "none" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}",
        ]
        for one, report in found
        for score in report["scores"]
    ]
    return Table("All scores of the probes", head, rows, folded=True)
