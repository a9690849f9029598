"""``python -m benchmarks tables``: the tables of docs/evidence.md and its pictures, from benchmarks/results/learn_*.json."""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from benchmarks.documents import table, with_blocks
from benchmarks.learn.aggregate import Interval, chosen, intervals, over_tasks, returns_at, score_matrix
from benchmarks.learn.pictures import curves, fingerprint_of, performance_profiles, save
from benchmarks.learn.results import RESULTS, Row, path_of, read
from benchmarks.learn.runs import command_for
from benchmarks.suites import SEEDS, SUITES, Suite
from sb3_latent.files import atomic_path

DOCUMENT = Path("docs/evidence.md")
NORMS = "gradient at the latent, tasks / RL before kappa"
Cell = str | list[float]
"""Text, or what each seed has."""


def return_table(suite_name: str, rows: Sequence[Row]) -> str:
    """:return: Markdown: a row a task and preset; ours and the published return at each budget."""
    suite = SUITES[suite_name]
    heads = [f"{title}, {budget:,} steps" for budget in suite.budgets for title in ("ours", "published")]
    measured = [f"{name}, linear R²" for name in suite.probed] + [NORMS]
    lines: list[list[Cell]] = [["task", "preset", *heads, *measured]]
    for task in suite.tasks:
        for preset in suite.presets:
            cells: list[Cell] = []
            for budget in suite.budgets:
                found = list(returns_at(rows, suite, preset, task, budget).values())
                missing = command_for(suite_name, preset, task, SEEDS, budget)
                cells += [found or f"not run: `{missing}`", suite.published.get((preset, task, budget), "")]
            own = chosen(rows, suite, preset, task, suite.n_steps).values()
            cells += [[row["r2"][name] for row in own] or "not run" for name in suite.probed]
            cells += [[ratio for row in own if (ratio := gradient_ratio(row)) is not None] or ""]
            lines.append([task.rpartition("/")[2], preset, *cells])
    return _markdown(lines)


def gradient_ratio(row: Row) -> float | None:
    """:return: norm of the tasks' gradient over that of RL, as in ``NORMS``, median of a curve; None if not measured."""
    points = [point for point in row["curve"] if point.get("rl_gradient_norm")]
    ratios = [point["auxiliary_gradient_norm"] / point["rl_gradient_norm"] for point in points]
    return median(ratios) if ratios else None


def over_tasks_table(suite_name: str, rows: Sequence[Row]) -> str:
    """:return: Markdown: normalised returns over all tasks; nothing for a suite of one task."""
    suite = SUITES[suite_name]
    if len(suite.tasks) == 1:
        return ""
    lines: list[list[Cell]] = [["preset", *(f"{budget:,} steps" for budget in suite.budgets)]]
    for preset in suite.presets:
        scores = [score_matrix(rows, suite, preset, budget) for budget in suite.budgets]
        lines.append([preset, *("not run" if one is None else _cell(over_tasks(one), len(one)) for one in scores)])
    low, high = suite.bounds
    title = f"All tasks: interquartile mean over tasks and seeds, {low:g} counted as 0 and {high:g} as 1, two seeds at least."
    return f"{title}\n\n{_markdown(lines)}"


def facts(rows: Sequence[Row]) -> str:
    """:return: what the runs were made on."""
    if not rows:
        return "No run of this suite has been made."
    machines = sorted({f"{row['machine']['processor']}, {row['machine']['device']}" for row in rows})
    commits = sorted({row["machine"]["commit"] for row in rows})
    versions = sorted({", ".join(f"{name} {v}" for name, v in row["machine"]["versions"].items()) for row in rows})
    hours = sum(point["seconds"] for row in rows for point in row["curve"]) / 3600
    return (
        f"{len(rows)} runs, {hours:.1f} hours of training; {'; '.join(machines)}; {'; '.join(versions)}; {', '.join(commits)}."
    )


def sources(suite: Suite) -> str:
    """:return: where the published figures stand."""
    lines = [f"* published, {preset}: {source}" for preset, source in suite.sources.items()]
    return "\n".join(lines)


def block(suite_name: str, folder: Path) -> str:
    """:return: Markdown of a suite."""
    rows = read(path_of(suite_name, folder))
    pictures = [f"![{path.stem}](../benchmarks/results/{path.name})" for path in pictures_of(suite_name, folder)]
    tables = [return_table(suite_name, rows), over_tasks_table(suite_name, rows), sources(SUITES[suite_name])]
    return "\n\n".join(part for part in [facts(rows), *tables, *pictures] if part)


def pictures_of(suite_name: str, folder: Path) -> dict[Path, Callable[[], Figure]]:
    """:return: path -> what draws it; of all pictures that there are results for."""
    suite, rows = SUITES[suite_name], read(path_of(suite_name, folder))
    found: dict[Path, Callable[[], Figure]] = {}
    for budget in suite.budgets:
        for name, presets in suite.figures.items():
            stem = f"learn_{suite_name}_{name}_{budget}"
            if any(chosen(rows, suite, preset, task, budget) for preset in presets for task in suite.tasks):
                found[folder / f"{stem}_curves.png"] = partial(curves, suite, presets, rows, budget)
            if any(score_matrix(rows, suite, preset, budget) is not None for preset in presets):
                found[folder / f"{stem}_profiles.png"] = partial(performance_profiles, suite, presets, rows, budget)
    return found


def draw(suite_name: str, folder: Path) -> None:
    """Draw the pictures whose results have changed; each holds the hash of what it was drawn from."""
    newest = fingerprint(suite_name, folder)
    for path, function in pictures_of(suite_name, folder).items():
        if fingerprint_of(path) != newest:
            save(function(), path, newest)


def fingerprint(suite_name: str, folder: Path) -> str:
    """:return: of all that pictures are drawn from."""
    rows = read(path_of(suite_name, folder))
    drawn = [[row["preset"], row["task"], row["seed"], row["n_steps"], row["curve"]] for row in rows]
    return hashlib.sha256(json.dumps(drawn).encode()).hexdigest()


def written(text: str, folder: Path) -> str:
    """
    :param text: of the document.
    :param folder: of the results.
    :return: the document with its blocks made anew.
    """
    return with_blocks(text, {f"learn {name}": block(name, folder) for name in SUITES}, DOCUMENT)


def main() -> None:
    """Write document and pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tables", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of learn_<suite>.json (default: %(default)s)")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="(default: %(default)s)")
    args = parser.parse_args()
    for name in SUITES:
        draw(name, args.out)
    text = written(args.document.read_text(encoding="utf-8"), args.out)
    with atomic_path(args.document) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {args.document}")


def _cell(interval: Interval, n_seeds: int) -> str:
    mean, low, high = interval
    return f"**{mean:.3g}** ({low:.3g} to {high:.3g}, {n_seeds} seeds)" if n_seeds > 1 else f"**{mean:.3g}** (1 seed)"


def _markdown(lines: Sequence[Sequence[Cell]]) -> str:
    """Without columns that are empty."""
    samples = [cell for line in lines for cell in line if not isinstance(cell, str)]
    found = iter(zip(intervals(samples), map(len, samples), strict=True))
    texts = [[cell if isinstance(cell, str) else _cell(*next(found)) for cell in line] for line in lines]
    kept = [i for i in range(len(texts[0])) if any(line[i] for line in texts[1:])]
    return table([[line[i] for i in kept] for line in texts])


if __name__ == "__main__":
    main()
