"""A latent model before the agent that learns in it."""

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from tqdm.auto import tqdm

from sb3_latent.checks import whole_number
from sb3_latent.policies import LatentModelPolicy
from sb3_latent.policies.window_reader import batch_of

_SLICE = 100
"""Updates between two readings of the losses, which wait for the device."""


class ModelPretrainCallback(BaseCallback):
    """
    Trains the latent model of :class:`~sb3_latent.SLACPolicy` on the random steps at the start, before actor and critic take
    their first (SLAC, Lee et al. 2020, arXiv:1907.00953, figure 6c; authors' ``slac.gin``: 100,000 updates on 10,000 steps).

    It comes at the end of the rollout that reaches ``learning_starts``; once for a model, whose optimizer says whether it has
    learned, after ``load`` as well. Logs ``model/elbo``: minus the sum of the losses that are learned, mean
    over the last 100 updates or less; with all of them and a likelihood of frames, the evidence lower bound in nats of windows
    of T + 1 frames with their rewards.

    :param n_updates: steps of the model.
    :param progress_bar: show one, with the bound.
    :param verbose: 1 prints the bound at the end.
    :raises ValueError: if ``n_updates`` is no positive integer.
    """

    def __init__(self, n_updates: int = 100_000, progress_bar: bool = True, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.n_updates = whole_number("n_updates", n_updates)
        self.progress_bar = progress_bar

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the policy has no model of its own to train.
        :raises ValueError: if the model is frozen.
        """
        if not isinstance(self.model.policy, LatentModelPolicy):
            raise TypeError(
                f"ModelPretrainCallback is for SLACPolicy and SLACTQCPolicy, not for {type(self.model.policy).__name__}; "
                "leave it out."
            )
        if self.model.policy.features_extractor.frozen:
            raise ValueError("ModelPretrainCallback has nothing to train: the model is frozen; leave one of the two out.")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model = self.model
        assert isinstance(model, OffPolicyAlgorithm)
        if self.num_timesteps < model.learning_starts or self._has_learned(model):
            return
        elbo = self._train(model)
        self.logger.record("model/elbo", elbo)
        if self.verbose >= 1:
            print(f"Model pretrained with {self.n_updates} updates: ELBO {elbo:.1f} nats a window")

    def _has_learned(self, model: OffPolicyAlgorithm) -> bool:
        """Adam's moments are saved with the model, and there is no other count of its steps."""
        assert isinstance(model.policy, LatentModelPolicy)
        optimizer = model.policy.features_extractor.optimizer
        assert optimizer is not None
        return bool(optimizer.state_dict()["state"])

    def _train(self, model: OffPolicyAlgorithm) -> float:
        policy = model.policy
        assert isinstance(policy, LatentModelPolicy) and model.replay_buffer is not None
        elbo = 0.0
        policy.set_training_mode(True)
        with tqdm(total=self.n_updates, desc="pretraining the model", unit="update", disable=not self.progress_bar) as bar:
            for start in range(0, self.n_updates, _SLICE):
                n_updates = min(_SLICE, self.n_updates - start)
                for _ in range(n_updates):
                    samples = model.replay_buffer.sample(policy.model_batch_size, env=model._vec_normalize_env)
                    policy.update_model(batch_of(samples.observations)[0])
                elbo = -sum(policy.features_extractor.tasks.pop_losses().values())
                bar.update(n_updates)
                bar.set_postfix_str(f"ELBO {elbo:.1f}")
        policy.set_training_mode(False)
        return elbo
