"""A policy can be exported by torch for batches of any size, whether it has just learned or was loaded."""

from functools import partial

import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_latent import latent_kwargs


class Logits(nn.Module):
    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, observations):
        features = self.policy.extract_features(observations)
        return self.policy.action_net(self.policy.mlp_extractor.forward_actor(features))


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("settings", [{}, {"per_frame": True}, {"per_frame": True, "frozen": True}], ids=str)
def test_a_policy_is_exported(settings, is_loaded, tmp_path):
    env = DummyVecEnv([partial(FakeImageEnv, screen_height=36, screen_width=36, n_channels=4, channel_first=True)] * 2)
    kwargs = latent_kwargs("vae", trunk="nature", latent_dim=4, **settings)
    model = PPO("CnnPolicy", env, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs=kwargs, seed=0, device="cpu").learn(8)
    observations = th.randint(0, 256, (5, 4, 36, 36), dtype=th.uint8)
    with th.no_grad():
        wanted = Logits(model.policy)(observations)
        if is_loaded:
            model.save(tmp_path / "model")
            model = PPO.load(tmp_path / "model", device="cpu")
        model.policy.set_training_mode(False)
        batch = {0: th.export.Dim("batch", min=2, max=64)}
        exported = th.export.export(Logits(model.policy), (observations[:3],), dynamic_shapes=(batch,)).module()
        th.testing.assert_close(exported(observations), wanted)
