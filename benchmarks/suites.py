"""What ``python -m benchmarks learn`` trains, and what others have published of it, as plain data."""

from dataclasses import dataclass, field, replace
from typing import Any

from sb3_latent.envs import LARGE_BALL_ID, TINY_BALL_ID


@dataclass(frozen=True)
class Preset:
    """
    :param config: file of ``zoo_configs``, whose entry for the task or the environment has the hyperparameters.
    :param overrides: dotted name -> value, over that entry.
    :param env: of the suite's task; ``{task}`` stands for the task.
    """

    config: str
    overrides: dict[str, Any] = field(default_factory=dict)
    env: str = "{task}"


@dataclass(frozen=True)
class Suite:
    """
    :param title: of figures.
    :param presets: name -> what is trained.
    :param tasks: each trained with each preset.
    :param n_steps: environment steps of a run unless told otherwise; in the Control Suite those of the simulator.
    :param slice_steps: environment steps between two evaluations. Training starts anew from its checkpoint at each, so that a
        run that was killed is the same run; whole episodes in the Control Suite.
    :param budgets: environment steps at which tables show the return.
    :param figures: name -> presets in one picture.
    :param bounds: returns that count as 0 and 1 in performance profiles.
    :param n_eval_episodes: of an evaluation.
    :param deterministic: whether evaluated agents act so.
    :param has_schedules: whether learning rates depend on ``n_steps``: then a longer run does not begin as a shorter one.
    :param probed: what of the true state is read off the latents of the last checkpoint.
    :param published: (preset, task, budget) -> what is printed there.
    :param sources: preset -> where that stands.
    """

    title: str
    presets: dict[str, Preset]
    tasks: tuple[str, ...]
    n_steps: int
    slice_steps: int
    budgets: tuple[int, ...]
    figures: dict[str, tuple[str, ...]]
    bounds: tuple[float, float]
    n_eval_episodes: int
    deterministic: bool = True
    has_schedules: bool = False
    probed: tuple[str, ...] = ()
    published: dict[tuple[str, str, int], str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


SEEDS = [0, 1, 2, 3, 4]
"""Unless told otherwise."""

KAPPAS = (1, 10, 20)
"""Of appendix A.3 in seed document 000."""

_PIXELS = 36 * 36
_REDUCTIONS = {"sum": 1.0, "mean": 1.0 / _PIXELS}
"""Coefficient of reconstruction and KL, which are summed over the pixels of TinyBall."""

_JOINT_PRESETS = {
    f"ppo_vae-{reduction}-{mode}-kappa{kappa}": Preset(
        "ppo_vae",
        {
            "policy_kwargs.coefs": {"recon": coef, "kl": coef},
            "policy_kwargs.gradient_mode": mode,
            "policy_kwargs.kappa": float(kappa),
        },
    )
    for reduction, coef in _REDUCTIONS.items()
    for mode in ("joint", "own_optimizer")
    for kappa in KAPPAS
}
_BASELINES = ("cnn", "ppo_fixed", "ppo_adapt")
_VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    # What is left of the need for kappa when nothing is clipped.
    "unclipped": (("ppo_vae-sum-joint-kappa1", "ppo_vae-sum-joint-kappa20"), {"max_grad_norm": 1e9}),
    "chunks": (
        ("ppo_adapt", "ppo_vae-sum-joint-kappa20", "ppo_vae-mean-joint-kappa1"),
        {"rollout_buffer_class": "sb3_latent.FrameRolloutBuffer", "rollout_buffer_kwargs": {"chunk_length": 16}},
    ),
}
"""Figure -> presets with and without these overrides."""
_LARGE = (*_BASELINES, "ppo_vae-mean-joint-kappa1")

# The same bottleneck, learned by RL alone from the start.
_METRICS = {"callback": [{"sb3_latent.callbacks.LatentMetricsCallback": {"every": 10_000}}]}
_TINY_PRESETS = {
    "cnn": Preset("ppo_adapt", _METRICS),
    "ppo_fixed": Preset("ppo_fixed"),
    "ppo_adapt": Preset("ppo_adapt"),
    **_JOINT_PRESETS,
}

TINY = Suite(
    title="TinyBall",
    presets={
        **_TINY_PRESETS,
        **{
            f"{name}-{variant}": replace(_TINY_PRESETS[name], overrides=_TINY_PRESETS[name].overrides | overrides)
            for variant, (names, overrides) in _VARIANTS.items()
            for name in names
        },
        **{f"large_ball-{name}": replace(_TINY_PRESETS[name], env=LARGE_BALL_ID) for name in _LARGE},
    },
    tasks=(TINY_BALL_ID,),
    n_steps=61_440,
    slice_steps=10_240,
    budgets=(61_440,),
    figures={
        **{name: (*_BASELINES, *(one for one in _JOINT_PRESETS if f"-{name}-" in one)) for name in _REDUCTIONS},
        **{
            variant: tuple(name + end for name in names for end in ("", f"-{variant}"))
            for variant, (names, _) in _VARIANTS.items()
        },
        "large_ball": tuple(f"large_ball-{name}" for name in _LARGE),
    },
    bounds=(-5.0, 5.0),
    n_eval_episodes=64,
    probed=("ball_x", "paddle_x"),
)

_BREAKOUT = "BreakoutNoFrameskip-v4"
# The same frames and the same samples, sooner and in a quarter of the memory.
_FAST_ATARI: dict[str, Any] = {"env_wrapper": None, "vec_env_wrapper": "sb3_latent.envs.fast_atari"}
_FAST_SEED_000 = {**_FAST_ATARI, "rollout_buffer_class": "sb3_latent.FrameRolloutBuffer"}
_SEED_000 = "seed document 000, figures 3 and 5: median of 3 seeds, read off the plots"

ATARI = Suite(
    title="Breakout",
    presets={
        "cnn": Preset("ppo_cnn", _FAST_ATARI),
        "ppo_fixed": Preset("ppo_fixed", _FAST_SEED_000),
        "ppo_adapt": Preset("ppo_adapt", _FAST_SEED_000),
        **{
            f"ppo_vae-kappa{kappa}": Preset("ppo_vae", {**_FAST_SEED_000, "policy_kwargs.kappa": float(kappa)})
            for kappa in KAPPAS
        },
    },
    tasks=(_BREAKOUT,),
    n_steps=10_000_000,
    slice_steps=200_000,
    budgets=(2_000_000, 10_000_000),
    figures={"breakout": ("cnn", "ppo_fixed", "ppo_adapt", *(f"ppo_vae-kappa{kappa}" for kappa in KAPPAS))},
    bounds=(0.0, 400.0),
    n_eval_episodes=10,
    deterministic=False,
    has_schedules=True,
    published={
        ("cnn", _BREAKOUT, 10_000_000): "398±33",
        ("ppo_fixed", _BREAKOUT, 10_000_000): "< 10",
        ("ppo_adapt", _BREAKOUT, 10_000_000): "> 50",
        ("ppo_vae-kappa20", _BREAKOUT, 10_000_000): "below PPOadapt",
    },
    sources={
        "cnn": "rl_zoo3, benchmark.md: one run, its policy sampled, ± over episodes",
        "ppo_fixed": _SEED_000,
        "ppo_adapt": _SEED_000,
        "ppo_vae-kappa20": _SEED_000,
    },
)

# Mean±standard deviation over 10 seeds. Rows: finger, cartpole, reacher, cheetah, walker, ball in cup.
_PLANET_TASKS = ("finger-spin", "cartpole-swingup", "reacher-easy", "cheetah-run", "walker-walk", "ball_in_cup-catch")
_DMC_PUBLISHED = {
    "sac_cnn": {
        100_000: ("179±66", "419±40", "145±30", "197±15", "42±12", "312±63"),
        500_000: ("179±166", "419±40", "145±30", "197±15", "42±12", "312±63"),
    },
    "sac_ae": {
        100_000: ("740±64", "311±11", "274±14", "267±24", "394±22", "391±82"),
        500_000: ("884±128", "735±63", "627±58", "550±34", "847±48", "794±58"),
    },
    "drq": {
        100_000: ("901±105", "759±93", "600±202", "361±70", "634±169", "914±54"),
        500_000: ("939±103", "869±11", "945±68", "680±95", "924±43", "964±9"),
    },
    "curl": {
        100_000: ("767±56", "582±146", "538±233", "299±48", "403±24", "769±43"),
        500_000: ("926±45", "841±45", "929±44", "518±28", "902±43", "959±27"),
    },
    "slac": {
        100_000: ("951±34", "328±47", "343±102", "414±71", "529±44", "918±23"),
        500_000: ("983±2", "793±46", "795±138", "707±48", "952±10", "967±4"),
    },
}
_CURL_TABLE = "CURL (Laskin et al. 2020, arXiv:2004.04136), Table 1"

DMC = Suite(
    title="DeepMind Control Suite, pixels",
    presets={
        **{name: Preset(name, env="sb3_latent/dmc-{task}-pixels-v0") for name in ("sac_cnn", "sac_ae", "drq", "curl")},
        "slac": Preset("slac", env="sb3_latent/dmc-{task}-slac-v0"),
    },
    tasks=_PLANET_TASKS,
    n_steps=500_000,
    slice_steps=20_000,
    budgets=(100_000, 500_000),
    figures={"dmc": ("sac_cnn", "sac_ae", "drq", "curl", "slac")},
    bounds=(0.0, 1000.0),
    n_eval_episodes=10,
    published={
        (preset, task, budget): value
        for preset, budgets in _DMC_PUBLISHED.items()
        for budget, values in budgets.items()
        for task, value in zip(_PLANET_TASKS, values, strict=True)
    },
    sources={
        "sac_cnn": f"{_CURL_TABLE}, Pixel SAC, which has the same figures in both halves",
        "sac_ae": f"{_CURL_TABLE}, SAC+AE",
        "curl": _CURL_TABLE,
        "drq": "the authors' curves (denisyarats/drq), the nearest logged step",
        "slac": "the authors' curves (alexlee-gk/slac, data/slac), the best variance of a pixel per task",
    },
)

SUITES: dict[str, Suite] = {"tiny": TINY, "atari": ATARI, "dmc": DMC}
