"""The fast paths, each against the same without it."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.buffers import RolloutBuffer

from benchmarks import acting, fast_atari, memory, sac, slac
from benchmarks.speed.rows import Row
from benchmarks.speed.worlds import N_ENVS, World, make_ppo, stacks
from sb3_latent import FrameReplayBuffer, FrameRolloutBuffer, LatentSACPolicy, latent_kwargs, ppo_kwargs
from sb3_latent.execution import SWITCHES

N_STEPS = 32
"""Of a rollout, in place of the 2048 of seed document 000; a gradient step is the same."""

REPLAY_SIZE = 2048
"""Transitions, more than a batch has, so that the memory of a process shows the buffer's."""


def make_seed_ppo(preset: str, n_epochs: int, switches: Mapping[str, bool] = MappingProxyType({}), **settings: Any) -> PPO:
    """:return: an agent of seed document 000, by default with SB3's rollout buffer."""
    given = ppo_kwargs(preset) | {"n_steps": N_STEPS, "n_epochs": n_epochs, "rollout_buffer_class": RolloutBuffer} | settings
    return make_ppo(latent_kwargs(preset, **switches), stacks(1, 4), N_STEPS * N_ENVS, **given)


def make_sac(preset: str, **settings: Any) -> SAC:
    """:return: with settings of SAC."""
    return sac.make_model(LatentSACPolicy, latent_kwargs(preset), stacks(3, 3), **settings)


def make_unfused_sac(preset: str) -> SAC:
    """:return: with SB3's Adam."""
    return sac.make_model(LatentSACPolicy, latent_kwargs(preset) | {"optimizer_kwargs": None}, stacks(3, 3))


def _rollouts(preset: str, n_epochs: int, **settings: Any) -> partial[PPO]:
    return partial(make_seed_ppo, preset, n_epochs, rollout_buffer_class=FrameRolloutBuffer, rollout_buffer_kwargs=settings)


_BATCH_SIZE: int = ppo_kwargs("ppo_vae")["batch_size"]
_N_BATCHES = N_STEPS * N_ENVS // _BATCH_SIZE
_N_EPOCHS: int = ppo_kwargs("ppo_fixed")["n_epochs"]

CHUNKED, CACHED = "ppo_vae, chunked rollouts", "ppo_fixed, cached latents"

WORLDS = (
    World(
        f"PPO_VAE of seed document 000, batch {_BATCH_SIZE}",
        {
            "ppo_vae": partial(make_seed_ppo, "ppo_vae", 1),
            CHUNKED: _rollouts("ppo_vae", 1, chunk_length=16),
            **{f"ppo_vae, {switch}": partial(make_seed_ppo, "ppo_vae", 1, switches={switch: True}) for switch in SWITCHES},
        },
        _BATCH_SIZE,
        _N_BATCHES,
    ),
    World(
        f"PPOfixed of seed document 000, batch {_BATCH_SIZE}, {_N_EPOCHS} epochs",
        {"ppo_fixed": partial(make_seed_ppo, "ppo_fixed", _N_EPOCHS), CACHED: _rollouts("ppo_fixed", _N_EPOCHS)},
        _BATCH_SIZE,
        _N_BATCHES * _N_EPOCHS,
    ),
    World(
        f"SAC+AE, batch {sac.BATCH_SIZE}",
        {"sac_ae, SB3's Adam": partial(make_unfused_sac, "sac_ae"), "sac_ae, fused Adam": partial(make_sac, "sac_ae")},
        sac.BATCH_SIZE,
        sac.N_STEPS,
    ),
    World(
        f"SAC, batch {sac.BATCH_SIZE}, {REPLAY_SIZE:,} transitions",
        {
            "sac_cnn, ReplayBuffer": partial(make_sac, "sac_cnn", buffer_size=REPLAY_SIZE),
            "sac_cnn, FrameReplayBuffer": partial(
                make_sac, "sac_cnn", buffer_size=REPLAY_SIZE, replay_buffer_class=FrameReplayBuffer
            ),
        },
        sac.BATCH_SIZE,
        sac.N_STEPS,
    ),
)
"""Models with a fast path, after the same without it."""

REMEMBERED, ATARI = "frames remembered while acting", "FastAtariVecEnv"


def remembered_frames(n_rounds: int) -> list[Row]:
    """:return: acting when each frame is encoded once, against encoding every stack whole."""
    n_envs = acting.N_ENVS[-1]
    found = acting.measure(n_envs, 2 * n_rounds)
    world = f"PPO_VAE of seed document 000, {n_envs} environments"
    return [{"name": REMEMBERED, "world": world, "base": "every stack whole", "ratios": {"acting": found["ratio"]}}]


def one_pass(n_rounds: int) -> list[Row]:
    """:return: an update of SLACPolicy, against encoding the batches of model and agent apart."""
    found = slac.measure(n_rounds)["ratios"][f"update of {slac.OURS} / {slac.PLAIN}"]
    return [{"name": slac.OURS, "world": "SLAC", "base": slac.PLAIN, "ratios": {"update": found}}]


def replay_buffer(n_rounds: int) -> list[Row]:
    """:return: FrameReplayBuffer, against SB3's."""
    figures, _ = memory.measure(2 * REPLAY_SIZE, REPLAY_SIZE, 20 * n_rounds)
    ratios = {
        "sampling": figures["sample of frames once / SB3"],
        "adding": figures["add of frames once / SB3"],
        "memory": 1 / figures["memory of SB3 / frames once"],
    }
    world = f"84x84, stacks of {memory.N_FRAMES} color frames"
    return [{"name": "FrameReplayBuffer", "world": world, "base": "ReplayBuffer", "ratios": ratios}]


def atari(n_rounds: int) -> list[Row]:
    """:return: a step of FastAtariVecEnv, against SubprocVecEnv: of several games, and in their mean."""
    found = {game: fast_atari.measure(game, 2 * n_rounds) for game in fast_atari.GAMES}
    world = f"{fast_atari.N_ENVS} copies under VecFrameStack"
    ratios = {ATARI: fast_atari.mean_ratio(found)} | {f"{ATARI}, {game}": row["ratio"] for game, row in found.items()}
    return [
        {"name": name, "world": world, "base": "SubprocVecEnv", "ratios": {"environment step": 1 / ratio}}
        for name, ratio in ratios.items()
    ]


PATHS: tuple[Callable[[int], list[Row]], ...] = (remembered_frames, one_pass, replay_buffer, atari)
"""Fast paths that are no model."""
