"""Numbers that tell whether an encoder learns, and a warning when it collapses."""

import warnings

import torch as th

from sb3_latent.callbacks.base import TEXT_FORMATS, ObservingCallback
from sb3_latent.checks import whole_number
from sb3_latent.representation import active_units, collapse, dead_units, effective_rank, kl_per_dimension, relu_outputs
from sb3_latent.types import Latent, Observations

MAX_KL_SCALARS = 32
"""Latents with more dimensions get the sum of their KL alone."""


class LatentMetricsCallback(ObservingCallback):
    """
    Logs, through SB3's logger, every ``every`` environment steps:

    - ``auxiliary/<loss>``: each unweighted loss, mean over the gradient steps since the last log; ``auxiliary/coef_<loss>``
      and ``auxiliary/kappa``: the present coefficients
    - ``auxiliary/rl_gradient_norm``, ``auxiliary/auxiliary_gradient_norm``, ``auxiliary/gradient_cosine``: both gradients at
      the latent, from which kappa is chosen (seed document 000, appendix A.3)
    - ``latent/active_units``, ``latent/effective_rank``: see :mod:`sb3_latent.representation`
    - ``latent/kl_sum`` and, to TensorBoard, ``latent/kl_<dimension>``: mean KL from the prior, in nats
    - ``latent/dead_units``: share of the encoder's ReLU units that are zero on every observation; to TensorBoard also
      ``latent/dead_units/<layer>``

    A Dict observation adds ``/<key>`` to the names of what it has once per key. With ``per_frame`` the frames of a stack are
    rows of one latent. Where actor and critic have an encoder each, it is the critic's. Costs one forward pass of
    ``n_observations`` through the encoder.

    :param every: environment steps between two logs. Own choice: the default rollout of PPO is 2048 steps.
    :param n_observations: observations that the latent is measured on.
    :param patience: logs in a row that find a latent collapsed before the warning. Own choice: with PyTorch's initialisation a
        fresh latent of an off-policy algorithm may look collapsed for its first thousands of steps.
    :param verbose: SB3's verbosity; nothing is printed.
    :raises ValueError: if a number is too small or no integer.
    """

    def __init__(self, every: int = 2_000, n_observations: int = 256, patience: int = 5, verbose: int = 0) -> None:
        super().__init__(every, n_observations, verbose)
        whole_number("n_observations", n_observations, 2)
        self.patience = whole_number("patience", patience)
        self._n_collapsed: dict[str, int] = {}

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._n_collapsed = {}

    def _look(self, observations: Observations) -> None:
        self._record_training()
        inputs = self.extractor.inputs(observations)
        for name, (encoder, frames) in inputs.items():
            suffix = f"/{name}" if len(inputs) > 1 else ""
            with relu_outputs(encoder) as activations:
                code = encoder(frames)
            latent = Latent(code.mean, code.log_var)
            self._record_latent(latent, suffix)
            self._record_dead_units(activations, suffix)
            self._warn_if_collapsed(name, latent)

    def _record_training(self) -> None:
        tasks, balance = self.extractor.tasks, self.extractor.balance
        for label, loss in tasks.pop_losses().items():
            self._record(f"auxiliary/{label}", loss)
        for label, coef in tasks.coefs.items():
            self._record(f"auxiliary/coef_{label}", coef)
        for name, value in balance.pop_measurements().items():
            self._record(f"auxiliary/{name}", value)
        self._record("auxiliary/kappa", float(balance.kappa))

    def _record_latent(self, latent: Latent, suffix: str) -> None:
        self._record(f"latent/active_units{suffix}", active_units(latent.mean))
        self._record(f"latent/effective_rank{suffix}", effective_rank(latent.mean))
        if latent.log_var is None:
            return
        kl = kl_per_dimension(latent)
        self._record(f"latent/kl_sum{suffix}", float(kl.sum()))
        for dimension, value in enumerate(kl.tolist() if len(kl) <= MAX_KL_SCALARS else []):
            self.logger.record(f"latent/kl_{dimension}{suffix}", value, exclude=TEXT_FORMATS)

    def _record_dead_units(self, activations: dict[str, th.Tensor], suffix: str) -> None:
        dead = {layer: dead_units(output).float() for layer, output in activations.items()}
        if not dead:
            return
        self._record(f"latent/dead_units{suffix}", float(th.cat(list(dead.values())).mean()))
        for layer, flags in dead.items():
            self.logger.record(f"latent/dead_units{suffix}/{layer}", float(flags.mean()), exclude=TEXT_FORMATS)

    def _warn_if_collapsed(self, name: str, latent: Latent) -> None:
        reason = collapse(latent)
        self._n_collapsed[name] = 0 if reason is None else self._n_collapsed.get(name, 0) + 1
        if self._n_collapsed[name] == self.patience:
            warnings.warn(
                f"latent {name!r} has collapsed at step {self.num_timesteps}: {reason}. It tells the policy nothing; lower "
                "the coefficient 'kl' (or beta) against 'recon', use free_bits, or lower the learning rate.",
                UserWarning,
                stacklevel=2,
            )
