"""``sb3-latent saliency``: what an agent looks at through an episode, as a picture or a video."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from gymnasium import spaces

from sb3_latent.checks import whole_number
from sb3_latent.commands.arguments import agent_parser, check_output, open_agent, try_method
from sb3_latent.commands.facts import facts_of
from sb3_latent.episodes import Episode, play_episode
from sb3_latent.files import write_json
from sb3_latent.registry import unknown
from sb3_latent.saliency import (
    METHODS,
    STYLES,
    episode_saliency,
    episode_target,
    saliency_sheet,
    saliency_video,
    vector_chart,
)
from sb3_latent.saliency.episodes import Maps
from sb3_latent.saliency.inputs import Frames
from sb3_latent.saliency.targets import find_target
from sb3_latent.videos import check_video, write_video

DESCRIPTION = """Let an agent play, and draw what matters for its value, an action or a latent.

A .png has six moments of the episode, a .gif or .mp4 all of them. Observations without an image become a chart, a .png, of
their entries over time. A JSON of the same name has the numbers.
"""

EXAMPLES = """  sb3-latent saliency ppo_breakout.zip --env BreakoutNoFrameskip-v4 -o value.gif
  sb3-latent saliency dqn.zip --env PongNoFrameskip-v4 --target q --style heat -o q.mp4
  sb3-latent saliency ppo_vae.zip --env sb3_latent/TinyBall-v0 --target latent/3 --method smoothgrad -o latent.png
  sb3-latent saliency logs/ppo/CartPole-v1_1/best_model.zip -o cartpole.png
"""

_VECTOR_STYLES = ("heat", "signed")


def run(arguments: Sequence[str]) -> None:
    """
    :param arguments: of the command.
    :raises ValueError: if one is wrong, or does not fit the model.
    :raises OSError: if a file is out of reach, or there is no display to render on.
    :raises ImportError: if the method or the format needs a library that is not installed.
    """
    parsed = _parser().parse_args(arguments)
    output = parsed.output or Path("saliency.png")
    check_output(output)
    if output.suffix != ".png":
        check_video(output)
    METHODS.get(parsed.method)
    n_steps = whole_number("--steps", parsed.steps)
    model, env = open_agent(parsed)
    _check_key(model.observation_space, parsed.key)
    try_method(model, parsed.target, parsed.method)
    has_image = _has_image(model.observation_space)
    style = _style(has_image, parsed.style, output)
    episode = play_episode(
        model,
        env,
        n_steps,
        # At the likeliest of continuous actions its probability is flat, so there it shall explore.
        deterministic=not find_target(model, parsed.target).is_flat_when_greedy,
        seed=parsed.seed,
        render=has_image and not parsed.as_seen,
        progress_bar=True,
    )
    maps = episode_saliency(
        model,
        episode,
        parsed.target,
        parsed.method,
        frames=parsed.frames,
        absolute=not STYLES[style].is_signed,
        progress_bar=True,
    )
    answers = episode_target(model, episode, parsed.target)
    title = f"{parsed.method} of {parsed.target}"
    if has_image:
        _draw(episode, maps, style, title, parsed, output)
    else:
        vector_chart(maps, answers, output, title=title, signed=STYLES[style].is_signed)
    arrays = maps.values() if isinstance(maps, dict) else [maps]
    magnitudes = np.concatenate([np.abs(array).ravel() for array in arrays])
    numbers = {
        **{name: getattr(parsed, name) for name in ("target", "method", "frames")},
        "style": style,
        "steps": len(episode),
        "return": float(episode.rewards.sum()),
        "target_per_step": answers.tolist(),
        "saliency": {"mean": float(magnitudes.mean()), "max": float(magnitudes.max())},
    }
    write_json(output.with_suffix(".json"), facts_of(model, env, parsed) | numbers)
    env.close()
    print(f"wrote {output} and {output.with_suffix('.json')}")


def _parser() -> ArgumentParser:
    parser = agent_parser("sb3-latent saliency", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--target", default="value", metavar="NAME", help="e.g. value, q, logit/2, mean/0, latent/3 (default: %(default)s)"
    )
    parser.add_argument(
        "--method", default="jacobian", metavar="NAME", help=f"{', '.join(METHODS.names())} (default: %(default)s)"
    )
    parser.add_argument("--style", metavar="NAME", help=f"{', '.join(STYLES)} (default: blue for images, heat for vectors)")
    parser.add_argument(
        "--frames",
        choices=get_args(Frames),
        default="newest",
        help="of a stack: the newest, the others held fixed; or all, drawn side by side (default: %(default)s)",
    )
    parser.add_argument("--as-seen", action="store_true", help="draw on what the agent sees, not on what the game shows")
    parser.add_argument("--key", metavar="NAME", help="which image of a Dict observation")
    parser.add_argument("--steps", type=int, default=500, help="of one episode, at most (default: %(default)s)")
    return parser


def _has_image(space: spaces.Space[Any]) -> bool:
    """A Box of three axes is an image, one of four a window of images."""
    subspaces = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return any(len(subspace.shape or ()) in (3, 4) for subspace in subspaces)


def _check_key(space: spaces.Space[Any], key: str | None) -> None:
    arrays = space.spaces if isinstance(space, spaces.Dict) else {}
    images = [name for name, subspace in arrays.items() if _has_image(subspace)]
    if key is not None and not images:
        raise ValueError(f"--key {key} chooses from the images of a Dict observation, and this one is none; leave it out.")
    if key is not None and key not in images:
        raise ValueError(unknown("--key", key, images))
    if key is None and len(images) > 1:
        raise ValueError(f"the observation has the images {', '.join(map(repr, images))}; say which one by --key.")


def _style(has_image: bool, name: str | None, output: Path) -> str:
    if not has_image and output.suffix != ".png":
        raise ValueError(
            f"the observations are vectors, whose chart is a .png, not {output.name}; write -o {output.stem}.png."
        )
    allowed = tuple(STYLES) if has_image else _VECTOR_STYLES
    if name is not None and name not in allowed:
        raise ValueError(unknown("style of images" if has_image else "style of vectors", name, allowed))
    return name or ("blue" if has_image else "heat")


def _draw(episode: Episode, maps: Maps, style: str, title: str, parsed: Namespace, output: Path) -> None:
    view = {"native": not parsed.as_seen, "frames": parsed.frames, "key": parsed.key}
    if output.suffix == ".png":
        saliency_sheet(episode, maps, style, output, title=title, **view)
    else:
        write_video(saliency_video(episode, maps, style, **view), output)
