"""``sb3-latent report``."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from sb3_latent.checks import whole_number
from sb3_latent.commands.arguments import check_output

EXAMPLES = """examples:
  sb3-latent report runs/demo
  sb3-latent report runs/ppo_vae_1 runs/ppo_vae_2 runs/ppo_cnn_1 runs/ppo_cnn_2 -o comparison.html
  sb3-latent report joint=runs/a joint=runs/b frozen=runs/c --env BreakoutNoFrameskip-v4
  sb3-latent report logs/ppo_vae/BreakoutNoFrameskip-v4_1 --no-play

Runs of one label are seeds of a method. The label is what stands before `=`, else the algorithm that rl_zoo3 wrote, else the
folder's name without a number at its end.
"""


def run(arguments: Sequence[str]) -> None:
    """
    :param arguments: folders of runs and options; ``--help`` lists them.
    :raises FileNotFoundError: if a folder or the model does not exist.
    :raises ValueError: if an argument is wrong, or nothing at all is in the folders.
    :raises ImportError: if the extra ``report`` is not installed.
    """
    parser = ArgumentParser(
        "sb3-latent report",
        description="Write one page that opens from disk: curves, pictures, an episode with saliency, latents, probes.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, PATH or LABEL=PATH")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="page to write (default: %(default)s)"
    )
    parser.add_argument(
        "--env", metavar="ID", help="environment to play in, ID or MODULE:ID (default: the one that the run's files name)"
    )
    parser.add_argument("--model", type=Path, metavar="ZIP", help="model that plays (default: the newest of the run)")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="of the episode at most (default: %(default)s)")
    parser.add_argument("--no-play", action="store_true", help="play no episode: curves and logged pictures alone")
    parsed = parser.parse_args(arguments or ["--help"])

    from sb3_latent.report import Play, find_runs, write_report

    check_output(parsed.output)
    runs = find_runs(parsed.runs)
    if parsed.model is not None:
        if not parsed.model.is_file():
            raise FileNotFoundError(f"--model {parsed.model} is no file; give the zip that SB3's save() wrote.")
        if len({one.label for one in runs}) > 1:
            raise ValueError("--model plays for one method, but there are several; put each model into the folder of its run.")
    play = None if parsed.no_play else Play(parsed.env, parsed.model, whole_number("--steps", parsed.steps))
    for path in write_report(runs, parsed.output, play, progress_bar=True):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
