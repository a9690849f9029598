"""What the stock ``train()`` really does, one gradient step at a time, and what it ought to do, worked out by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch as th
from algorithms import ALGORITHMS, BATCH_SIZE
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr

from sb3_latent import LatentExtractor, get_extractors


@dataclass(frozen=True)
class GradientStep:
    """
    :param extractor: the one that this step trains.
    :param progress_remaining: SB3's, when the step was taken.
    :param observations: the batch that the extractor encoded with gradients for this step.
    :param rng_state: torch's, right before the batch was encoded.
    :param rl_gradient: of the RL loss with respect to the extractor's output for that batch.
    :param gradients: what the optimizer was given, by name of the parameter in the policy.
    """

    extractor: LatentExtractor
    progress_remaining: float
    observations: th.Tensor
    rng_state: th.Tensor
    rl_gradient: th.Tensor | None
    gradients: dict[str, th.Tensor]


def optimizer_of(model: BaseAlgorithm, name: str) -> th.optim.Optimizer:
    return recursive_getattr(model, name)


def stepped_extractor(model: BaseAlgorithm, optimizer: th.optim.Optimizer) -> LatentExtractor:
    """The extractor whose encoder an optimizer holds."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    (found,) = [one for one in get_extractors(model) if any(id(p) in held for p in one.encoders.parameters())]
    return found


def record_steps(model: BaseAlgorithm, optimizer_name: str) -> list[GradientStep]:
    """A list that every step of an optimizer will append to."""
    optimizer = optimizer_of(model, optimizer_name)
    extractor = stepped_extractor(model, optimizer)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    names = {name: parameter for name, parameter in model.policy.named_parameters() if id(parameter) in held}
    batches: list[tuple[th.Tensor, th.Tensor]] = []
    rl_gradients: list[th.Tensor] = []
    steps: list[GradientStep] = []

    def keep_batch(module, args):
        if module.training and th.is_grad_enabled():
            batches.append((args[0].clone(), th.get_rng_state()))

    def keep_rl_gradient(module, args, features):
        if features.requires_grad:
            features.register_hook(lambda gradient: rl_gradients.append(gradient.clone()))

    def keep_step(*_):
        gradients = {name: parameter.grad.clone() for name, parameter in names.items() if parameter.grad is not None}
        rl_gradient = rl_gradients[-1] if rl_gradients else None
        steps.append(GradientStep(extractor, model._current_progress_remaining, *batches[-1], rl_gradient, gradients))

    extractor.register_forward_pre_hook(keep_batch)
    extractor.register_forward_hook(keep_rl_gradient)
    optimizer.register_step_post_hook(keep_step)
    return steps


def learn_and_record(model: BaseAlgorithm, name: str) -> dict[str, list[GradientStep]]:
    """A short run of an algorithm of the table; the steps of each of its optimizers."""
    steps = {optimizer: record_steps(model, optimizer) for optimizer in ALGORITHMS[name].optimizers}
    model.learn(ALGORITHMS[name].n_timesteps)
    return steps


def own_rows(name: str, observations: th.Tensor) -> th.Tensor:
    """Without CrossQ's next observations and without the black frames that RecurrentPPO pads with."""
    observations = observations[:BATCH_SIZE] if name == "CrossQ" else observations
    return observations[observations.flatten(1).sum(1) > 0]


def task_loss(
    extractor: LatentExtractor, observations: th.Tensor, coefs: Mapping[str, float], rng_state: th.Tensor | None = None
) -> th.Tensor:
    """
    The weighted loss of the tasks, written out from the papers' formulas.

    :param rng_state: draws the noise of a Gaussian head; the mean is decoded without.
    """
    encoder, tasks = extractor.encoders["observation"], extractor.tasks.by_key["observation"]
    mean, log_var = encoder.head(encoder.trunk(observations))
    z = mean
    if rng_state is not None:
        generator = th.Generator()
        generator.set_state(rng_state)
        z = mean + log_var.exp().sqrt() * th.randn(mean.shape, generator=generator)
    difference = observations - tasks["recon"].decoder(z)
    losses = {"recon": (difference**2).sum(dim=(1, 2, 3)).mean(), "latent_l2": (mean**2).sum(1).mean() / 2}
    if log_var is not None:
        losses["kl"] = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
    return sum(coef * losses[label] for label, coef in coefs.items())


def task_gradients(step: GradientStep, loss: th.Tensor) -> dict[str, th.Tensor]:
    """Gradient of a loss by name of the parameter within the extractor; zeros where there is none."""
    named = dict(step.extractor.named_parameters())
    gradients = th.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return dict(zip(named, gradients, strict=True))


def name_within(parameter: str) -> str:
    """``"critic.features_extractor.encoders.x"`` -> ``"encoders.x"``; ``""`` for a parameter of a head."""
    return parameter.rpartition("features_extractor.")[2] if "features_extractor." in parameter else ""


def assert_equal_gradients(actual: Mapping[str, th.Tensor], expected: Mapping[str, th.Tensor], rtol: float = 1e-5) -> None:
    """
    Layer by layer, within ``rtol`` of the norm of the layer's gradient: sums in float32 depend on their order, and the
    gradient of a single bias may be nothing but rounding (in front of CrossQ's batch norm it is 0 in theory).
    """
    assert actual.keys() == expected.keys()
    layers: dict[str, list[str]] = {}
    for parameter in expected:
        layers.setdefault(parameter.rpartition(".")[0], []).append(parameter)
    for layer, parameters in layers.items():
        ours, theirs = (th.cat([gradients[name].flatten() for name in parameters]) for gradients in (actual, expected))
        distance, length = (ours - theirs).norm().item(), theirs.norm().item()
        assert distance <= rtol * length, f"{layer}: off by {distance:.1e}, norm {length:.1e}"


def parameters_of(modules: Iterable[th.nn.Module]) -> list[th.Tensor]:
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]
