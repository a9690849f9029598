"""The command ``sb3-latent``."""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import gymnasium as gym

EXAMPLES = """examples:
  sb3-latent zoo train --algo ppo_vae --env BreakoutNoFrameskip-v4 -P
  sb3-latent zoo train --algo ppo_vae --env sb3_latent/TinyBall-v0 -P --resume
  sb3-latent zoo train --algo ppo_vae --env sb3_latent/TinyBall-v0 -optimize --max-total-trials 20
  sb3-latent zoo enjoy --algo ppo_vae --env sb3_latent/TinyBall-v0 -f logs
  sb3-latent zoo check my_hyperparams.yml --algo ppo_vae
  sb3-latent report runs/demo --env BreakoutNoFrameskip-v4
  sb3-latent saliency model.zip --env BreakoutNoFrameskip-v4 --target value -o saliency.gif
  sb3-latent sanity model.zip --env BreakoutNoFrameskip-v4 --method guided_backprop
  sb3-latent probe model.zip --env BreakoutNoFrameskip-v4 --labels ram

`sb3-latent COMMAND --help` says more.
"""

COMMANDS = {
    "zoo": ("sb3_latent.zoo.commands", "train, tune, watch and share agents with rl_zoo3"),
    "report": ("sb3_latent.commands.report", "one page of what runs logged and agents see"),
    "saliency": ("sb3_latent.commands.saliency", "what an agent looks at, as a picture or a video"),
    "sanity": ("sb3_latent.commands.sanity", "whether a saliency method depends on what was learned"),
    "probe": ("sb3_latent.commands.probe", "what of the true state a representation holds"),
}
"""Module with a function ``run``, imported when it is asked for; and what it is for."""

MISTAKES = (ValueError, TypeError, OSError, ImportError, AssertionError, gym.error.Error)
"""What our code, SB3 and rl_zoo3 raise for bad input."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: arguments; None takes those of the process.
    :return: exit status: 0, 2 after one line that says what was wrong, 130 after an interrupt.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    described = "\n".join(f"  {name:10}{purpose}" for name, (_, purpose) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="sb3-latent",
        description=f"Representation learning for Stable-Baselines3 agents.\n\ncommands:\n{described}",
        usage="sb3-latent COMMAND ... [--debug]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="one of the above")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    first, *arguments = [argument for argument in given if argument != "--debug"] or ["--help"]
    module, _ = COMMANDS[parser.parse_args([first]).command]
    try:
        import_module(module).run(arguments)
    except MISTAKES as error:
        if debug:
            traceback.print_exc()
        print(f"sb3-latent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sb3-latent: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0
