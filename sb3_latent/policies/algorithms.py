"""Which policy is for which algorithm."""

from typing import ClassVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_latent.link import calling_algorithms


class AlgorithmPolicy(BasePolicy):
    """A policy that is for some algorithms, and tells all others what to take."""

    algorithm_class: ClassVar[type[BaseAlgorithm]]
    others: ClassVar[str] = (
        "LatentSACPolicy, LatentTQCPolicy, LatentTD3Policy (and DDPG), LatentDQNPolicy, LatentQRDQNPolicy, "
        "LatentCrossQPolicy, LatentActorCriticPolicy (PPO, A2C, TRPO), LatentRecurrentActorCriticPolicy "
        "and LatentMaskableActorCriticPolicy"
    )

    def _check_algorithm(self) -> None:
        """
        :raises ValueError: if the algorithm that builds this policy is none it is for.
        """
        algorithm = next(calling_algorithms(), None)
        if algorithm is not None and not isinstance(algorithm, self.algorithm_class):
            raise ValueError(
                f"{type(self).__name__} is for {self.algorithm_class.__name__}, not {type(algorithm).__name__}; there are "
                f"{self.others}."
            )
