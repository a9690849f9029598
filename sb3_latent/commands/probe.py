"""``sb3-latent probe``: what of the true state a representation holds, as numbers and as a picture."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from sb3_latent.checks import whole_number
from sb3_latent.commands.arguments import agent_parser, check_output, open_agent
from sb3_latent.commands.facts import facts_of
from sb3_latent.files import write_json

DESCRIPTION = """Does z hold the ball? Predict the true state from what the policy reads, on episodes never seen.

Beside each score stand its floors: the same architecture with fresh weights, as many principal components of the pixels, and a
constant guess. A JSON of the picture's name has the numbers.
"""

EXAMPLES = """  sb3-latent probe ppo_breakout.zip --env BreakoutNoFrameskip-v4 --labels ram
  sb3-latent probe ppo_vae.zip --env sb3_latent/TinyBall-v0 --labels ball_x paddle_x -o ball.png
  sb3-latent probe sac_ae.zip --env sb3_latent/dmc-cheetah-run-pixels-v0 --steps 20000 --probes linear
  sb3-latent probe dqn.zip --env my_package:MyGame-v0 --labels my_package.true_state --actor model
"""


def run(arguments: Sequence[str]) -> None:
    """
    :param arguments: of the command.
    :raises ValueError: if one is wrong, or does not fit the model.
    :raises OSError: if a file is out of reach.
    :raises ImportError: if scikit-learn is missing.
    """
    parsed = _parser().parse_args(arguments)
    from sb3_latent.probes import collect, probe_bars, probe_dataset
    from sb3_latent.probes.splits import MIN_EPISODES

    output = parsed.output or Path("probe.png")
    if output.suffix != ".png":
        raise ValueError(f"--output {output}: the chart is a .png.")
    check_output(output)
    n_steps = whole_number("--steps", parsed.steps)
    # However long episodes are, there are enough of them.
    model, env = open_agent(parsed, MIN_EPISODES)
    actor = model if parsed.actor == "model" else None
    dataset = collect(actor, env, _labels(parsed.labels), n_steps, seed=parsed.seed, progress_bar=True)
    report = probe_dataset(model, dataset, parsed.probes, seed=parsed.seed, progress_bar=True)
    print(report.table())
    print(report.verdict())
    probe_bars(report, output, title=f"What {Path(parsed.model).name} holds of the state")
    settings = {name: getattr(parsed, name) for name in ("labels", "steps", "actor")}
    data = {**facts_of(model, env, parsed), **settings, "verdict": report.verdict(), **report.to_dict()}
    write_json(output.with_suffix(".json"), data)
    print(f"wrote {output} and {output.with_suffix('.json')}")
    env.close()


def _parser() -> ArgumentParser:
    parser = agent_parser("sb3-latent probe", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--labels",
        nargs="+",
        default=["info"],
        metavar="NAME",
        help="info: all numbers in info; ram: variables of Atari's RAM; names of entries of info; or the dotted path of a "
        "function of (env, info) that returns the state by name (default: info)",
    )
    parser.add_argument("--steps", type=int, default=10_000, help="observations in all (default: %(default)s)")
    parser.add_argument(
        "--actor",
        choices=("random", "model"),
        default="random",
        help="who plays; random compares models (default: %(default)s)",
    )
    kinds = ("linear", "mlp")
    parser.add_argument("--probes", nargs="+", choices=kinds, default=kinds, help="(default: both)")
    return parser


def _labels(names: list[str]) -> str | list[str]:
    first, *others = names
    return first if not others and (first in ("info", "ram") or "." in first) else names
