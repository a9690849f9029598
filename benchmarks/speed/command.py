"""``python -m benchmarks speed``: what every preset and every fast path costs beside plain SB3, and how cost grows."""

import argparse
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.documents import table, with_blocks
from benchmarks.learn.pictures import save
from benchmarks.machine import write_json
from benchmarks.speed.compare import compare, differences, read
from benchmarks.speed.limits import shortcomings
from benchmarks.speed.paths import PATHS, WORLDS
from benchmarks.speed.pictures import picture
from benchmarks.speed.rows import measure
from benchmarks.speed.scaling import CURVES, measure_memory, measure_time
from benchmarks.speed.tables import DOCUMENT, blocks, part_tables
from benchmarks.speed.worlds import preset_worlds
from sb3_latent import list_presets
from sb3_latent.files import atomic_path

OUT = Path("benchmarks/results/speed.json")
EXAMPLES = """examples:
  python -m benchmarks speed --check                                at most 10 minutes on two quiet cores
  python -m benchmarks speed --only rows --presets vae ppo_vae      a part, printed; --out FILE writes it as well
  python -m benchmarks speed --rounds 15 --out new.json
  python -m benchmarks speed --compare benchmarks/results/speed.json new.json
  python -m benchmarks speed --tables                               writes docs/speed.md and its picture from the JSON
"""


def measure_rows(presets: list[str], n_rounds: int) -> list[dict[str, Any]]:
    """:return: a row a preset, and the plain models that they are compared with."""
    return [row for world in preset_worlds(presets) for row in measure(world, n_rounds)]


def measure_paths(n_rounds: int) -> list[dict[str, Any]]:
    """:return: a row a fast path, and the models without it."""
    others = [row for path in PATHS for row in path(n_rounds)]
    return [*(row for world in WORLDS for row in measure(world, n_rounds)), *others]


def measure_scaling(n_rounds: int) -> dict[str, dict[str, Any]]:
    """:return: all curves."""
    return {**{name: measure_time(curve, n_rounds) for name, curve in CURVES.items()}, "memory": measure_memory()}


PARTS: dict[str, Callable[[list[str], int], Any]] = {
    "rows": measure_rows,
    "paths": lambda presets, n_rounds: measure_paths(n_rounds),
    "scaling": lambda presets, n_rounds: measure_scaling(n_rounds),
}
"""What is measured: presets, fast paths, curves."""


def measure_all(parts: Iterable[str], presets: list[str], n_rounds: int) -> dict[str, Any]:
    """:return: results of these parts."""
    start = time.perf_counter()
    results = {part: PARTS[part](presets, n_rounds) for part in parts}
    return {"rounds": n_rounds, **results, "minutes": (time.perf_counter() - start) / 60}


def fingerprint(results: dict[str, Any]) -> str:
    """:return: of what a picture is drawn from."""
    return hashlib.sha256(json.dumps(results).encode()).hexdigest()


def write_tables(path: Path, document: Path) -> None:
    """Make the blocks of a document, and the picture beside a JSON, anew."""
    whole = read(path)
    text = with_blocks(document.read_text(encoding="utf-8"), blocks(whole), document)
    save(picture(whole["results"]), path.with_suffix(".png"), fingerprint(whole["results"]))
    with atomic_path(document) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {path.with_suffix('.png')} and {document}")


def run_comparison(paths: list[Path], tolerance: float) -> int:
    """:return: 1 if something got slower, as the table that is printed says."""
    old, new = map(read, paths)
    lines, slower = compare(old, new, tolerance)
    print("\n".join(["other machine or versions:", *differences(old, new), ""] if old["machine"] != new["machine"] else []))
    print(table(lines))
    print("\n".join(f"slower: {name}" for name in slower) or f"nothing is slower by more than {tolerance:.0%}")
    return 1 if slower else 0


def run(args: argparse.Namespace) -> int:
    """:return: 1 if limits were to be checked and one does not hold."""
    is_whole = not args.only and not args.presets
    results = measure_all(args.only or PARTS, args.presets or list_presets(), args.rounds)
    print("\n" + "\n\n".join(part_tables(results).values()))
    out = args.out or (OUT if is_whole else None)
    if out is not None:
        write_json(out, shlex.join([*sys.argv[0].split(), *sys.argv[1:]]), results)
        save(picture(results), out.with_suffix(".png"), fingerprint(results))
    missed = shortcomings(results, is_whole)
    print("\n".join(missed) or f"all limits hold after {results['minutes']:.1f} minutes")
    return 1 if args.check and missed else 0


def parse() -> argparse.Namespace:
    """:return: arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks speed",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="presets, fast paths, curves (default: all)")
    parser.add_argument("--presets", nargs="+", metavar="NAME", help="rows of these alone (default: all there are)")
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement (default: %(default)s)")
    parser.add_argument("--out", type=Path, help=f"JSON, with a picture beside it (default: {OUT} if whole, else none)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure falls short, and name it")
    parser.add_argument("--tables", action="store_true", help=f"write {DOCUMENT} and the picture from the JSON of --out")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two JSON files; exit with 1 if slower")
    parser.add_argument("--tolerance", type=float, default=0.1, help="growth that --compare lets pass (default: %(default)s)")
    args = parser.parse_args()
    unknown = sorted(set(args.presets or ()) - set(list_presets()))
    if unknown:
        parser.error(f"unknown presets {unknown}; allowed: {list_presets()}")
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds} must be at least 1")
    return args


def main() -> None:
    """Measure, compare, or write the tables."""
    args = parse()
    try:
        if args.compare:
            sys.exit(run_comparison(args.compare, args.tolerance))
        if args.tables:
            write_tables(args.out or OUT, DOCUMENT)
            sys.exit(0)
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.exit(run(args))
