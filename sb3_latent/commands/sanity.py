"""``sb3-latent sanity``: whether a saliency method depends on what the model learned."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.checks import whole_number
from sb3_latent.commands.arguments import agent_parser, check_output, open_agent, try_method
from sb3_latent.commands.facts import facts_of
from sb3_latent.episodes import Episode, play_episode
from sb3_latent.files import write_json
from sb3_latent.saliency import METHODS, LayerSimilarity, Randomization, episode_saliency, sanity_check, similarity_chart
from sb3_latent.saliency.episodes import situation_of
from sb3_latent.saliency.targets import find_target

DESCRIPTION = """Draw the layers of a model anew and compare its saliency maps with those before (Adebayo et al. 2018).

A method whose maps stay alike shows the picture, not what the model learned. Writes a chart and a JSON of the same name.
"""

EXAMPLES = """  sb3-latent sanity ppo_breakout.zip --env BreakoutNoFrameskip-v4 --method guided_backprop -o guided.png
  sb3-latent sanity ppo_vae.zip --env sb3_latent/TinyBall-v0 --randomization independent
"""

CHANGED, ALIKE = 0.3, 0.7
"""Similarity below which maps count as changed, and above which as alike. Own choice: Adebayo et al. draw no line."""


def run(arguments: Sequence[str]) -> None:
    """
    :param arguments: of the command.
    :raises ValueError: if one is wrong, or does not fit the model.
    :raises OSError: if a file is out of reach.
    :raises ImportError: if SciPy, torchmetrics or what the method needs is not installed.
    """
    parsed = _parser().parse_args(arguments)
    output = parsed.output or Path("sanity.png")
    if output.suffix != ".png":
        raise ValueError(f"the chart is a .png, not {output.name}; write -o {output.stem}.png.")
    check_output(output)
    METHODS.get(parsed.method)
    n_moments, n_steps = whole_number("--moments", parsed.moments), whole_number("--steps", parsed.steps)
    model, env = open_agent(parsed)
    try_method(model, parsed.target, parsed.method)
    deterministic = not find_target(model, parsed.target).is_flat_when_greedy
    episode = play_episode(model, env, n_steps, deterministic=deterministic, seed=parsed.seed, render=False, progress_bar=True)
    moments = _moments(model, episode, parsed.target, parsed.method, n_moments)
    rows = sanity_check(
        model,
        moments.observations,
        parsed.target,
        parsed.method,
        parsed.randomization,
        parsed.seed,
        progress_bar=True,
        **situation_of(model, moments, parsed.target),
    )
    sentence = verdict(rows, parsed.randomization)
    similarity_chart(rows, output, title=f"{parsed.method} of {parsed.target}, {parsed.randomization} randomization")
    numbers = {
        **{name: getattr(parsed, name) for name in ("target", "method", "randomization")},
        "n_moments": len(moments),
        "layers": [_plain(row) for row in rows],
        "verdict": sentence,
    }
    write_json(output.with_suffix(".json"), facts_of(model, env, parsed) | numbers)
    env.close()
    print(f"{_table(rows)}\n{sentence}\nwrote {output} and {output.with_suffix('.json')}")


def verdict(rows: Sequence[LayerSimilarity], randomization: Randomization) -> str:
    """
    What the numbers say. Similarity is the larger of the rank correlation of magnitudes and SSIM: of the model with all layers
    drawn anew (cascading), or the mean over the layers (independent).

    :param rows: from :func:`~sb3_latent.saliency.sanity_check`.
    :param randomization: that changed the model.
    :return: a sentence.
    """
    similarities = [float(np.nanmax([row.spearman, row.ssim])) for row in rows]
    is_cascading = randomization == "cascading"
    left = similarities[-1] if is_cascading else float(np.mean(similarities))
    where = "with all layers drawn anew" if is_cascading else "with one layer drawn anew, on average"
    if left >= ALIKE:
        return f"failed: similarity {left:.2f} {where}; the maps show the input, not what the model learned."
    if left >= CHANGED:
        return f"in part: similarity {left:.2f} {where}; the maps show the input as well as what the model learned."
    changed = next(position for position, similarity in enumerate(similarities) if similarity < CHANGED)
    passed = f"passed: similarity {left:.2f} {where}; the maps show what the model learned"
    if not is_cascading or changed == 0:
        return f"{passed}."
    return f"{passed}, though little of the layers above {rows[changed].layer}, where they first change."


def _parser() -> ArgumentParser:
    parser = agent_parser("sb3-latent sanity", DESCRIPTION, EXAMPLES)
    parser.add_argument("--target", default="value", metavar="NAME", help="as of `sb3-latent saliency` (default: %(default)s)")
    parser.add_argument(
        "--method", default="jacobian", metavar="NAME", help=f"{', '.join(METHODS.names())} (default: %(default)s)"
    )
    parser.add_argument(
        "--randomization",
        choices=get_args(Randomization),
        default="cascading",
        help="each layer and all above it, or each alone (default: %(default)s)",
    )
    parser.add_argument("--moments", type=int, default=16, help="of the episode, evenly spaced (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="of one episode, at most (default: %(default)s)")
    return parser


def _moments(model: BaseAlgorithm, episode: Episode, target: str, method: str, n_moments: int) -> Episode:
    """Evenly spaced, without those whose map is constant, with which nothing can be compared."""
    steps = np.unique(np.linspace(0, len(episode) - 1, n_moments).round().astype(int))
    moments = episode.part(steps)
    maps = episode_saliency(model, moments, target, method, absolute=False)
    arrays = maps.values() if isinstance(maps, dict) else [maps]
    flat = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    varied = np.ptp(flat, axis=1) > 0
    if not varied.any():
        raise ValueError(f"the {method} map of {target!r} is constant at every moment, so nothing can be compared with it.")
    return moments.part(varied)


def _plain(row: LayerSimilarity) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if value != value else value for name, value in row._asdict().items()}


def _table(rows: Sequence[LayerSimilarity]) -> str:
    width = max(len(row.layer) for row in rows)
    lines = [f"{'layer drawn anew':{width}}  spearman  signed    ssim"]
    lines += [f"{row.layer:{width}}  {row.spearman:8.2f}  {row.spearman_signed:6.2f}  {row.ssim:6.2f}" for row in rows]
    return "\n".join(lines)
