"""``python -m benchmarks learn``, ``tables`` or ``speed``; the other benchmarks are modules of their own."""

import importlib
import sys

COMMANDS = {
    "learn": ("benchmarks.learn.command", "does it learn? Trains what is missing of a suite"),
    "tables": ("benchmarks.learn.tables", "writes docs/evidence.md and its pictures from benchmarks/results/learn_*.json"),
    "speed": ("benchmarks.speed.command", "how fast is it, against plain SB3, and how does cost grow?"),
}


def main() -> None:
    """Hand over to a command."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        print(f"usage: python -m benchmarks {{{','.join(COMMANDS)}}} [--help]\n")
        for command, (_, text) in COMMANDS.items():
            print(f"  {command:8s}{text}")
        sys.exit(0 if name in ("", "-h", "--help") else 2)
    sys.argv = [f"python -m benchmarks {name}", *sys.argv[2:]]
    importlib.import_module(COMMANDS[name][0]).main()


if __name__ == "__main__":
    main()
