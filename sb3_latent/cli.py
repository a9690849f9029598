"""The command ``sb3-latent``."""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence

import gymnasium as gym

EXAMPLES = """examples:
  sb3-latent zoo train --algo ppo_vae --env BreakoutNoFrameskip-v4 -P
  sb3-latent zoo train --algo ppo_vae --env sb3_latent/TinyBall-v0 -P --resume
  sb3-latent zoo train --algo ppo_vae --env sb3_latent/TinyBall-v0 -optimize --max-total-trials 20
  sb3-latent zoo enjoy --algo ppo_vae --env sb3_latent/TinyBall-v0 -f logs
  sb3-latent zoo check my_hyperparams.yml --algo ppo_vae
"""

MISTAKES = (ValueError, TypeError, OSError, ImportError, AssertionError, gym.error.Error)
"""What our code, SB3 and rl_zoo3 raise for bad input."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: arguments; None takes those of the process.
    :return: exit status: 0, 2 after one line that says what was wrong, 130 after an interrupt.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    parser = argparse.ArgumentParser(
        prog="sb3-latent",
        description="Representation learning for Stable-Baselines3 agents.",
        usage="sb3-latent COMMAND ... [--debug]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["zoo"], help="zoo: train, tune, watch and share agents with rl_zoo3")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    first, *arguments = [argument for argument in given if argument != "--debug"] or ["--help"]
    parser.parse_args([first])
    try:
        from sb3_latent.zoo.commands import run

        run(arguments)
    except MISTAKES as error:
        if debug:
            traceback.print_exc()
        print(f"sb3-latent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sb3-latent: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0
