"""``python -m sb3_latent.zoo``: the same as ``sb3-latent zoo``."""

import sys

from sb3_latent.cli import main

if __name__ == "__main__":
    sys.exit(main(["zoo", *sys.argv[1:]]))
