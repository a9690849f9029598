"""As many updates as random steps: against one long call of the stock ``train``, and SB3's own count."""

from functools import partial

import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from sb3_contrib import TQC
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

from sb3_latent.callbacks import CatchUpCallback
from sb3_latent.policies import LatentSACPolicy


class Counts(BaseCallback):
    """SB3's count of updates by environment steps, before each rollout and at the end."""

    def _on_step(self):
        return True

    def _on_training_start(self):
        self.counts = {}

    def _on_rollout_start(self):
        self.counts[self.num_timesteps] = self.model._n_updates

    _on_training_end = _on_rollout_start


def counts(model, n_timesteps, reset_num_timesteps=True, **settings):
    watch = Counts()
    callbacks = [CatchUpCallback(**{"progress_bar": False, **settings}), watch]
    model.learn(n_timesteps, callback=callbacks, reset_num_timesteps=reset_num_timesteps)
    return watch.counts


def sac(**kwargs):
    return make_model("SAC", tiny("ae"), **kwargs)


def sac_ae(**kwargs):
    policy_kwargs = {**tiny("sac_ae"), "net_arch": [8]}
    return make_model("SAC", policy_kwargs, LatentSACPolicy, **kwargs)


def weights_and_moments(model):
    """Every tensor that training changes, by name."""
    leaves = th.utils._pytree.tree_flatten_with_path(model.get_parameters())[0]
    return {th.utils._pytree.keystr(path): leaf for path, leaf in leaves if th.is_tensor(leaf)}


def assert_slices_make_the_bits_of_one_call(make):
    sliced = make()
    counts(sliced, 10, n_updates=45)
    whole = make()
    whole.learn(10)
    whole.train(gradient_steps=45, batch_size=whole.batch_size)
    assert sliced._n_updates == whole._n_updates == 45
    ours, theirs = weights_and_moments(sliced), weights_and_moments(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not th.equal(ours[name], theirs[name])] == []


def test_updates_equal_steps_as_in_the_authors_loop():
    model = sac_ae(learning_starts=10, train_freq=2, gradient_steps=2)
    assert counts(model, 16) == {0: 0, 2: 0, 4: 0, 6: 0, 8: 0, 10: 10, 12: 12, 14: 14, 16: 16}


def test_stock_sb3_starts_with_the_first_update():
    """What the callback makes up for; if SB3 changes this, the callback has to."""
    model, watch = sac(learning_starts=10, train_freq=2, gradient_steps=2), Counts()
    model.learn(16, callback=watch)
    assert watch.counts == {0: 0, 2: 0, 4: 0, 6: 0, 8: 0, 10: 0, 12: 2, 14: 4, 16: 6}


def test_n_updates_may_be_said():
    assert counts(sac(), 12, n_updates=23) == {**dict.fromkeys(range(10), 0), 10: 23, 11: 24, 12: 25}


def test_rollouts_that_jump_over_learning_starts():
    episodes = sac(train_freq=(1, "episode"), gradient_steps=1, learning_starts=12)
    assert counts(episodes, 20) == {0: 0, 5: 0, 10: 0, 15: 13, 20: 14}
    env = make_vec_env(NoiseImageEnv, n_envs=4, env_kwargs={"discrete": False})
    assert counts(sac(env=env, learning_starts=10), 16) == {0: 0, 4: 0, 8: 0, 12: 11, 16: 12}


@pytest.mark.parametrize("interval", [1, 2, 3, 25])
@pytest.mark.parametrize("make", [sac, sac_ae])
def test_slices_keep_the_cadences_of_one_call(make, interval):
    assert_slices_make_the_bits_of_one_call(partial(make, target_update_interval=interval))


@pytest.mark.parametrize("name, kwargs", [("TD3", {"policy_delay": 2}), ("TQC", {"target_update_interval": 4}), ("DQN", {})])
def test_other_algorithms(name, kwargs):
    assert_slices_make_the_bits_of_one_call(partial(make_model, name, tiny("ae"), **kwargs))


def test_only_once_for_a_model():
    model = sac()
    assert counts(model, 12)[12] == 12
    assert counts(model, 4, reset_num_timesteps=False) == {12: 12, 13: 13, 14: 14, 15: 15, 16: 16}
    assert max(counts(model, 12).values()) == 16 + 2


@pytest.mark.parametrize("cls, policy", [(SAC, None), (SAC, LatentSACPolicy), (TD3, None), (TQC, None), (DQN, None)])
def test_a_loaded_model_does_not_repeat_it(cls, policy, tmp_path):
    model = make_model(cls.__name__, tiny("ae"), policy)
    counts(model, 11)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = cls.load(tmp_path / "model.zip", env=model.get_env())
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    assert counts(loaded, 2, reset_num_timesteps=False) == {11: 11, 12: 12, 13: 13}


def test_a_model_loaded_before_learning_starts_does_it(tmp_path):
    model = sac()
    counts(model, 8)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = SAC.load(tmp_path / "model.zip", env=model.get_env())
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    assert counts(loaded, 3, reset_num_timesteps=False) == {8: 0, 9: 0, 10: 10, 11: 11}


def test_the_bar_moves_and_may_be_left_out(monkeypatch, capsys):
    monkeypatch.setattr("sb3_latent.callbacks.catch_up.tqdm", partial(tqdm, mininterval=0))
    counts(sac(), 10, n_updates=25, progress_bar=True)
    shown = capsys.readouterr().err
    assert [f"{n}/25" in shown for n in (0, 10, 20, 25)] == [True] * 4
    counts(sac(), 10, n_updates=25, progress_bar=False)
    assert capsys.readouterr().err == ""


def test_bad_use_is_refused_before_training():
    with pytest.raises(ValueError, match="n_updates=0 must be an integer of at least 1"):
        CatchUpCallback(0)
    with pytest.raises(TypeError, match=r"for algorithms with a replay buffer .* not for PPO"):
        make_model("PPO", tiny("ae")).learn(16, callback=CatchUpCallback())
    with pytest.raises(ValueError, match="learning_starts=0 leaves nothing to catch up with; give SAC learning_starts"):
        sac(learning_starts=0).learn(16, callback=CatchUpCallback())
    assert counts(sac(learning_starts=0, batch_size=2), 3, n_updates=7) == {0: 0, 1: 8, 2: 9, 3: 10}
