"""The tables of docs/speed.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.documents import table
from benchmarks.speed.limits import LIMITS, figures, in_words, verdicts
from benchmarks.speed.rows import MODEL_RATIOS

DOCUMENT = Path("docs/speed.md")

_WORDS = {True: "holds", False: "**falls short**", None: "not measured"}


def model_table(rows: list[dict[str, Any]]) -> str:
    """:return: Markdown: a row a model."""
    lines = [
        [
            "",
            *("update", "ms a gradient step", "acting", "ms to act", "encodings of a sample, with / without gradients"),
            *("peak memory", "MB", "GFLOP a gradient step", "of what is attainable"),
        ]
    ]
    for row in rows:
        ratios = {name: f"{row['ratios'][name]:.2f}" for name in MODEL_RATIOS}
        encodings = " / ".join(f"{row['encodings_per_sample'][name]:.3g}" for name in ("with_gradients", "without"))
        lines.append(
            [
                f"`{row['name']}`",
                *(
                    ratios["update"],
                    f"{row['ms_per_gradient_step']:.1f}",
                    ratios["acting"],
                    f"{row['ms_to_act']:.2f}",
                    encodings,
                ),
                *(ratios["memory"], f"{row['peak_mb']:.0f}", f"{row['flops_per_gradient_step'] / 1e9:.2f}"),
                f"{row['share_of_attainable']:.0%}",
            ]
        )
    return table(lines)


def other_table(rows: list[dict[str, Any]]) -> str:
    """:return: Markdown: a row a figure of a fast path that is no model."""
    lines = [["", "on", "what", "ratio", "to"]]
    lines += [
        [row["name"], row["world"], what, f"{value:.2f}", row["base"]] for row in rows for what, value in row["ratios"].items()
    ]
    return table(lines)


def world_tables(rows: list[dict[str, Any]]) -> str:
    """:return: Markdown: a table a world of models."""
    worlds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        worlds.setdefault(row["world"], []).append(row)
    return "\n\n".join(f"**{world}**; ratios to `{own[0]['base']}`\n\n{model_table(own)}" for world, own in worlds.items())


def scaling_table(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """:return: Markdown: a row a curve."""
    lines = [["what", "over", "sizes", "cost", "slope"]]
    for curve in curves.values():
        costs = " / ".join(f"{cost:.3g}" for cost in curve["costs"])
        sizes = " / ".join(f"{size:,}" for size in curve["sizes"])
        lines.append([curve["text"], curve["size"], sizes, f"{costs} {curve['unit']}", f"{curve['slope']:.2f}"])
    return table(lines)


def limit_table(results: dict[str, Any]) -> str:
    """:return: Markdown: a row a limit."""
    found, lines = figures(results), [["figure", "measured", "limit", "why", ""]]
    for name, holds in verdicts(results).items():
        value = in_words(name, found[name]) if name in found else ""
        lines.append([name, value, str(LIMITS[name]), LIMITS[name].why, _WORDS[holds]])
    return table(lines)


def facts(whole: dict[str, Any]) -> str:
    """:return: what it was measured on."""
    machine, results = whole["machine"], whole["results"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"`{whole['command']}`: {results['minutes']:.1f} minutes; {machine['processor']}, {machine['n_cores']} cores, "
        f"{machine['n_threads']} threads of torch, {machine['device']}; {versions}; {machine['commit']}."
    )


def part_tables(results: dict[str, Any]) -> dict[str, str]:
    """
    :param results: of a run, whole or in part.
    :return: part -> Markdown, of the parts that were measured.
    """
    found = {}
    if "rows" in results:
        found["rows"] = world_tables(results["rows"])
    if "paths" in results:
        models = [row for row in results["paths"] if "flops_per_gradient_step" in row]
        others = [row for row in results["paths"] if row not in models]
        found["paths"] = f"{other_table(others)}\n\n{world_tables(models)}"
    if "scaling" in results:
        found["scaling"] = scaling_table(results["scaling"])
    return found


def blocks(whole: dict[str, Any]) -> dict[str, str]:
    """
    :param whole: a complete result.
    :return: name -> Markdown of all blocks of the document.
    :raises ValueError: if a part was not measured.
    """
    missing = {"rows", "paths", "scaling"} - set(whole["results"])
    if missing:
        raise ValueError(f"the results lack {sorted(missing)}; 'python -m benchmarks speed' measures all.")
    found = {"facts": facts(whole), "limits": limit_table(whole["results"]), **part_tables(whole["results"])}
    return {f"speed {name}": markdown for name, markdown in found.items()}
