"""Which loss moves which part of an agent with one encoder: measured inside stock SAC.train, written into docs/routing.md."""

import argparse
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.machine import write_json
from sb3_latent import LatentSACPolicy, latent_kwargs
from sb3_latent.files import atomic_path
from sb3_latent.sharing import LOSSES

PARTS = {
    "trunk": "features_extractor.encoders.by_key.observation.trunk.",
    "encoder's head": "features_extractor.encoders.by_key.observation.head.",
    "actor's own head": "actor.features_extractor.",
    "actor": "actor.",
    "critic": "critic.",
    "decoder": "features_extractor.tasks.",
    "target encoder": "features_extractor_target.",
    "target critic": "critic_target.",
}
"""Names of weights begin so; the first that fits counts."""

SUBSETS = [tuple(subset) for n in range(len(LOSSES), -1, -1) for subset in itertools.combinations(LOSSES, n)]
SETTINGS = list(itertools.product(("latent", "trunk"), ("joint", "own_optimizer"), SUBSETS))
BEGIN, END = "<!-- table: python -m benchmarks.routing -->", "<!-- end of table -->"
BATCH_SIZE = 8


@contextmanager
def scaled(scales: Mapping[str, float]) -> Iterator[None]:
    """For one gradient step: ``SAC.train`` goes back through the critic's loss first, then through the actor's."""
    backward = th.Tensor.backward
    order = iter(("critic", "actor"))

    def scaled_backward(loss: th.Tensor) -> None:
        backward(loss * scales[next(order)])  # type: ignore[no-untyped-call]  # as torch has it

    with patch.object(th.Tensor, "backward", scaled_backward):
        yield


def make_model(scales: Mapping[str, float], actor_reads: str, gradient_mode: str, encoder_gradients: tuple[str, ...]) -> SAC:
    """:return: a tiny SAC with a filled buffer, whose weights stand still, so that its gradient steps can be repeated."""
    still = {"auxiliary_optimizer_kwargs": {"lr": 0.0}} if gradient_mode == "own_optimizer" else {}
    settings: dict[str, Any] = {
        "actor_reads": actor_reads,
        "gradient_mode": gradient_mode,
        "encoder_gradients": encoder_gradients,
        "coefs": {"recon": lambda _: scales["task"]},
        "trunk": "mlp",
        "trunk_kwargs": {"net_arch": (16,)},
        "latent_dim": 4,
        **still,
    }
    policy_kwargs = {**latent_kwargs("ae", **settings), "net_arch": [8]}
    env = FakeImageEnv(screen_height=12, screen_width=12, n_channels=3, discrete=False, channel_first=True)
    env.observation_space.seed(0)
    rates: dict[str, Any] = {"learning_rate": 0.0, "tau": 1.0, "ent_coef": 0.1}
    model = SAC(
        LatentSACPolicy, env, buffer_size=16, learning_starts=16, seed=0, device="cpu", policy_kwargs=policy_kwargs, **rates
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model.learn(16)


def part_of(name: str) -> str:
    """:return: the part that a weight of the policy belongs to."""
    return next(part for part, prefix in PARTS.items() if name.startswith(prefix))


def gradients(model: SAC, scales: Mapping[str, float]) -> dict[str, list[th.Tensor]]:
    """:return: for each part, all gradients that an optimizer which holds it steps with, in one gradient step of ``train``."""
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    found: dict[str, list[th.Tensor]] = {part_of(name): [] for name in names.values()}

    def keep(optimizer: th.optim.Optimizer, *_: object) -> None:
        for parameter in itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups):
            if parameter.grad is not None:
                found[part_of(names[id(parameter)])].append(parameter.grad.clone())

    model.policy.zero_grad()
    set_random_seed(0)
    handle = register_optimizer_step_post_hook(keep)
    try:
        with scaled(scales):
            model.train(1, BATCH_SIZE)
    finally:
        handle.remove()
    return found


def measure(actor_reads: str, gradient_mode: str, encoder_gradients: tuple[str, ...]) -> dict[str, list[str]]:
    """:return: for each part the losses on which its gradients depend: they change when a loss is doubled."""
    scales = dict.fromkeys(LOSSES, 1.0)
    model = make_model(scales, actor_reads, gradient_mode, encoder_gradients)
    usual = gradients(model, scales)
    moves: dict[str, list[str]] = {part: [] for part in PARTS if part in usual}
    for loss in LOSSES:
        scales[loss] = 2.0
        doubled = gradients(model, scales)
        scales[loss] = 1.0
        for part in moves:
            if not all(th.equal(a, b) for a, b in zip(usual[part], doubled[part], strict=True)):
                moves[part].append(loss)
    return moves


def measure_all() -> list[dict[str, Any]]:
    """:return: a row for each setting."""
    return [
        {
            "actor_reads": reads,
            "gradient_mode": mode,
            "encoder_gradients": list(subset),
            "moved_by": measure(reads, mode, subset),
        }
        for reads, mode, subset in SETTINGS
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """:return: Markdown; a dash for a part that is not there."""
    head = ["`actor_reads`", "`gradient_mode`", "`encoder_gradients`", *PARTS]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [", ".join(row["moved_by"][part]) or "none" if part in row["moved_by"] else "-" for part in PARTS]
        subset = ", ".join(row["encoder_gradients"]) or "none"
        lines.append([f"`{row['actor_reads']}`", f"`{row['gradient_mode']}`", subset, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_table(text: str, markdown: str) -> str:
    """:return: the text with another table between the marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{markdown}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Measure, print, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.routing")
    parser.add_argument("--docs", type=Path, default="docs/routing.md", help="page with the table (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/routing.json", help="JSON to write (default: %(default)s)")
    args = parser.parse_args()
    rows = measure_all()
    print(table(rows))
    text = with_table(args.docs.read_text(), table(rows))
    with atomic_path(args.docs) as temporary:
        temporary.write_text(text)
    write_json(args.out, "python -m benchmarks.routing", rows)


if __name__ == "__main__":
    main()
