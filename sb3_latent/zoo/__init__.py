"""
rl_zoo3 with our agents: importing this module registers their names, environments and search spaces with it.

``python -m sb3_latent.zoo --help`` is the command; ``python -m rl_zoo3.train ... --gym-packages sb3_latent.zoo`` works too.
"""

from importlib.util import find_spec

NEEDED = ("rl_zoo3", "jsonschema", "optuna", "requests", "sklearn", "yaml")
"""Modules of the extra ``zoo``."""

# Without rl_zoo3 there is nothing to register with; the command says what to install.
if all(map(find_spec, NEEDED)):
    from sb3_latent.zoo.registration import register

    register()
