"""The verbs of ``sb3-latent zoo``: those of rl_zoo3 with our names registered, and ``check``."""

import argparse
import difflib
import functools
import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import gymnasium as gym

from sb3_latent.registry import unknown
from sb3_latent.zoo import NEEDED

DESCRIPTION = """rl_zoo3 with the algorithms, hyperparameters and environments of sb3_latent.

Each verb but `check` takes the arguments of rl_zoo3; `VERB --help` lists them.
"""

EXAMPLES = """examples:
  sb3-latent zoo train --algo ppo_vae --env BreakoutNoFrameskip-v4 -P
  sb3-latent zoo train --algo sac_ae --env sb3_latent/dmc-cheetah-run-pixels-v0 --save-freq 50000 --resume
  sb3-latent zoo train --algo ppo_vae --env sb3_latent/TinyBall-v0 -optimize --search latent_dim kappa learning_rate
  sb3-latent zoo enjoy --algo ppo_vae --env sb3_latent/TinyBall-v0 -f logs
  sb3-latent zoo record-video --algo ppo_vae --env BreakoutNoFrameskip-v4 -f logs -n 1000
  sb3-latent zoo check my_hyperparams.yml --algo ppo_vae
"""


def run(arguments: Sequence[str]) -> None:
    """
    :param arguments: verb and its arguments.
    :raises ImportError: if rl_zoo3 or what a verb needs beside it is not installed.
    :raises ValueError: if an argument or a file is wrong.
    :raises OSError: if a file or the storage of a study is out of reach.
    """
    parser = argparse.ArgumentParser(
        "sb3-latent zoo", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments or ["--help"])
    for module in NEEDED:
        _require(module)
    _check_algorithm(parsed.arguments)
    from optuna.exceptions import OptunaError

    # rl_zoo3 parses the arguments of the process.
    before, sys.argv = sys.argv, [f"sb3-latent zoo {parsed.verb}", *parsed.arguments]
    try:
        VERBS[parsed.verb](parsed.arguments)
    except OptunaError as error:
        raise OSError(f"the study's storage failed: {error}") from error
    finally:
        sys.argv = before


def train(arguments: Sequence[str]) -> None:
    """
    :param arguments: rl_zoo3's, and ``--resume`` and ``--search``.
    """
    parser = argparse.ArgumentParser("sb3-latent zoo train", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    ours = parser.add_argument_group("beside the arguments of rl_zoo3, which follow")
    ours.add_argument("--resume", action="store_true", help="go on with the newest run of this algorithm and environment")
    ours.add_argument("--search", nargs="+", default=(), metavar="NAME", help="with -optimize: what to tune (default: all)")
    if {"-h", "--help"} & set(arguments):
        parser.print_help()
    parsed, sys.argv[1:] = parser.parse_known_args(arguments)

    from rl_zoo3 import train as module

    from sb3_latent.zoo.manager import LatentExperimentManager

    manager = functools.partial(LatentExperimentManager, resume=parsed.resume, search=parsed.search)
    _check_env(sys.argv[1:])
    vars(module)["ExperimentManager"] = manager
    try:
        module.train()
    except (SyntaxError, NameError) as error:
        raise ValueError(
            f"an argument after -params, --env-kwargs or --eval-env-kwargs is no Python value: {error}"
        ) from error
    finally:
        vars(module)["ExperimentManager"] = LatentExperimentManager


def check(arguments: Sequence[str]) -> None:
    """
    :param arguments: files, and ``--algo``.
    :raises ValueError: with a line for each mistake.
    """
    from sb3_latent.zoo.schema import check_config

    parser = argparse.ArgumentParser("sb3-latent zoo check", description="Say line and key of what is wrong in a file.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML files of hyperparameters")
    parser.add_argument("--algo", help="name of the algorithm (default: that of the file)")
    parsed = parser.parse_args(arguments)
    problems = [problem for file in parsed.files for problem in check_config(file, parsed.algo)]
    if problems:
        raise ValueError("\n".join(map(str, problems)))
    print("no mistake found")


class Watched:
    """
    An off-policy algorithm that is loaded to be watched, and needs no replay buffer: rl_zoo3 knows that of its own names only.

    :param algorithm: the class.
    """

    def __init__(self, algorithm: Any) -> None:
        self.load = functools.partial(algorithm.load, buffer_size=1)


def _watch(script: Callable[[], object]) -> None:
    from rl_zoo3.utils import ALGOS
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from sb3_latent.zoo.algorithms import ALGORITHMS

    given = _known(sys.argv[1:])
    if given.algo in ALGORITHMS and given.folder is None:
        # rl_zoo3 would look for an agent of that name on its hub, which has none of ours.
        sys.argv += ["-f", "logs"]
    off_policy = {name: cls for name, cls in ALGORITHMS.items() if issubclass(cls, OffPolicyAlgorithm)}
    ALGOS.update({name: Watched(cls) for name, cls in off_policy.items()})  # type: ignore[misc]  # its `load` alone is called
    try:
        script()
    finally:
        ALGOS.update(off_policy)


def _script(module: str) -> Callable[[], object]:
    return lambda: runpy.run_module(f"rl_zoo3.{module}", run_name="__main__")


def _plot_train(arguments: Sequence[str]) -> None:
    _require("seaborn")
    # It looks for folders that have the id in their names, where rl_zoo3 writes another.
    sys.argv[1:] = [argument.replace("/", "-") if argument in gym.registry else argument for argument in arguments]
    importlib.import_module("rl_zoo3.plots.plot_train").plot_train()


def _check_algorithm(arguments: Sequence[str]) -> None:
    """rl_zoo3 says the same below a page of usage."""
    from rl_zoo3.utils import ALGOS

    algorithm = _known(arguments).algo
    if algorithm is not None and algorithm not in ALGOS:
        raise ValueError(unknown("algorithm", algorithm, ALGOS))


def _push_to_hub(arguments: Sequence[str]) -> None:
    _require("huggingface_sb3")
    module = importlib.import_module("huggingface_sb3.push_to_hub")
    if not hasattr(module, "generate_metadata"):
        # rl_zoo3 2.9.2 imports a name that sb3-team-hf-integration 3.2, which it requires, has made private, and whose result
        # it writes as a dictionary.
        vars(module)["generate_metadata"] = lambda *values: module._generate_metadata(*values).to_dict()
    _watch(_script("push_to_hub"))


def _known(arguments: Sequence[str]) -> argparse.Namespace:
    """What we need of rl_zoo3's arguments before it parses them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo")
    parser.add_argument("--env")
    parser.add_argument("-f", "--folder")
    parser.add_argument("--gym-packages", nargs="+", default=[])
    return parser.parse_known_args(arguments)[0]


def _check_env(arguments: Sequence[str]) -> None:
    """rl_zoo3 asks as well, and knows no remedy."""
    parsed = _known(arguments)
    for package in parsed.gym_packages:
        importlib.import_module(package)
    if parsed.env is None or parsed.env in gym.registry:
        return
    if parsed.env.startswith("ALE/") or "NoFrameskip" in parsed.env:
        _require("ale_py", "atari")
    nearest = difflib.get_close_matches(parsed.env, gym.registry, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "name the package that registers it by --gym-packages."
    raise ValueError(f"unknown environment {parsed.env!r}; {hint}")


def _require(module: str, extra: str = "zoo") -> None:
    if find_spec(module) is None:
        raise ImportError(f"{module} is not installed: pip install 'sb3_latent[{extra}]'")


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "enjoy": lambda _: _watch(importlib.import_module("rl_zoo3.enjoy").enjoy),
    "record-video": lambda _: _watch(_script("record_video")),
    "plot-train": _plot_train,
    "push-to-hub": _push_to_hub,
    "check": check,
}
