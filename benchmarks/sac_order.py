"""How far SB3's order of a gradient step leads away from that of SAC+AE's authors, against the noise of one step."""

import argparse
import copy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import SAC
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.machine import write_json
from benchmarks.sac import make_model
from benchmarks.sac_ae_reference import ReferenceSACAE
from sb3_latent import LatentSACPolicy, PixelPendulumEnv, latent_kwargs

BATCH_SIZE = 32
PRESETS = ("sac_ae_two_optimizers", "sac_ae")


def parts_of(model: SAC) -> dict[str, list[th.Tensor]]:
    """:return: weights of a LatentSACPolicy, in the order of :func:`parts_of_reference`."""
    policy: Any = model.policy
    encoder, reader = policy.features_extractor.encoders["observation"], policy.actor.features_extractor
    squashed = policy.actor.log_std[0]
    last = [th.cat([policy.actor.mu.weight, squashed.weight]), th.cat([policy.actor.mu.bias, squashed.bias])]
    return {
        "encoder": list(encoder.parameters()),
        "decoder": list(policy.features_extractor.tasks.parameters()),
        "critic": list(policy.critic.parameters()),
        "actor": [*reader.heads.parameters(), *policy.actor.latent_pi.parameters(), *last],
    }


def parts_of_reference(reference: ReferenceSACAE) -> dict[str, list[th.Tensor]]:
    """:return: weights by part."""
    return {
        "encoder": list(reference.encoder),
        "decoder": list(reference.decoder.parameters()),
        "critic": list(reference.critic.q_functions.parameters()),
        "actor": list(reference.actor.own_parameters()),
    }


def reference_of(model: SAC) -> ReferenceSACAE:
    """:return: the authors' agent with the weights of a model that has not learned yet."""
    reference = ReferenceSACAE(9, 1, model.device)
    with th.no_grad():
        for part, weights in parts_of_reference(reference).items():
            for theirs, ours in zip(weights, parts_of(model)[part], strict=True):
                theirs.copy_(ours)
    reference.critic_target = copy.deepcopy(reference.critic)
    return reference


def copied(parts: dict[str, list[th.Tensor]]) -> dict[str, list[th.Tensor]]:
    """:return: the weights as they are now."""
    return {part: [weight.detach().clone() for weight in weights] for part, weights in parts.items()}


def moved(before: dict[str, list[th.Tensor]], after: dict[str, list[th.Tensor]]) -> dict[str, th.Tensor]:
    """:return: how far all weights of a part have moved, as one vector."""
    vector = nn.utils.parameters_to_vector
    return {part: (vector(after[part]) - vector(before[part])).detach() for part in before}


def learn_in_authors_order(model: SAC, n_updates: int, seed: int, critic_lr: float) -> dict[str, th.Tensor]:
    """:return: displacement of each part from the model's weights; the seed draws actions and dequantisation noise."""
    reference = reference_of(model)
    reference.critic_optimizer.param_groups[0]["lr"] = critic_lr
    before = copied(parts_of_reference(reference))
    np.random.seed(0)
    th.manual_seed(seed)
    for _ in tqdm(range(n_updates), desc="the authors' order"):
        batch = model.replay_buffer.sample(BATCH_SIZE)  # type: ignore[union-attr]
        reference.update(batch.observations, batch.actions, batch.rewards, batch.next_observations, 1 - batch.dones)
    return moved(before, parts_of_reference(reference))


def learn_in_sb3s_order(model: SAC, n_updates: int, seed: int) -> dict[str, th.Tensor]:
    """:return: the same of the model itself, on the same batches."""
    before = copied(parts_of(model))
    np.random.seed(0)
    th.manual_seed(seed)
    model.train(n_updates, BATCH_SIZE)
    return moved(before, parts_of(model))


def compare(ours: dict[str, th.Tensor], theirs: dict[str, th.Tensor]) -> dict[str, dict[str, float]]:
    """:return: for each part the distance over the length of theirs, and the cosine."""
    return {
        part: {
            "relative_distance": float((ours[part] - theirs[part]).norm() / theirs[part].norm()),
            "cosine": float(F.cosine_similarity(ours[part], theirs[part], dim=0)),
        }
        for part in theirs
        if theirs[part].any()
    }


def compare_orders(critic_lr: float, n_updates: int) -> dict[str, dict[str, dict[str, float]]]:
    """:return: rows of the table, by what was compared with the authors' order."""
    optimizers = {"critic": {"lr": critic_lr}, "encoder": {"lr": critic_lr}, "ent_coef": {"lr": 1e-4, "betas": (0.5, 0.999)}}
    models = {
        preset: make_model(LatentSACPolicy, latent_kwargs(preset, optimizers=optimizers), pendulum()) for preset in PRESETS
    }
    first = models[PRESETS[0]]
    theirs = learn_in_authors_order(first, n_updates, 1, critic_lr)
    rows = {"the authors' order, other noise": compare(learn_in_authors_order(first, n_updates, 2, critic_lr), theirs)}
    for preset, model in models.items():
        model.replay_buffer = first.replay_buffer
        rows[preset] = compare(learn_in_sb3s_order(model, n_updates, 1), theirs)
    return rows


def pendulum() -> PixelPendulumEnv:
    """:return: nine frames of 84 x 84 pixels."""
    return PixelPendulumEnv(size=84, n_frames=9)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.sac_order --updates 100")
    parser.add_argument("--updates", type=int, default=50, help="gradient steps (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/sac_order.json", help="JSON to write (default: %(default)s)")
    args = parser.parse_args()
    results = {f"critic's learning rate {lr:g}": compare_orders(lr, args.updates) for lr in (0.0, 1e-3)}
    for setting, rows in results.items():
        for row, parts in rows.items():
            for part, values in parts.items():
                cosine, distance = values["cosine"], values["relative_distance"]
                print(f"{setting:30s} {row:35s} {part:8s} cosine {cosine:.3f}, distance {distance:.3f}")
    write_json(args.out, f"python -m benchmarks.sac_order --updates {args.updates}", results)


if __name__ == "__main__":
    main()
