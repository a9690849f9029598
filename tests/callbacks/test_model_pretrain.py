"""The callback that trains a latent model before the agent."""

import copy

import pytest
import torch as th
from algorithms import NoiseImageEnv
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, SLACTQCPolicy, latent_kwargs
from sb3_latent.callbacks import ModelPretrainCallback, model_pretrain

RUN = {"buffer_size": 60, "learning_starts": 10, "batch_size": 8, "seed": 0, "device": "cpu"}
COEFS = {"recon": 0.5, "kl": 2.0}


def make(cls=SAC, policy=SLACPolicy, run=None, **settings):
    dynamics = {"z1_dim": 3, "z2_dim": 4, "hidden": (8,)}
    small = {"trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}, "hidden": 8, "dynamics_kwargs": dynamics}
    kwargs = latent_kwargs("slac", **{**small, "model_batch_size": 4, **settings}) | {"net_arch": [8]}
    env = HistoryWrapper(NoiseImageEnv(discrete=False), length=3)
    return cls(policy, env, policy_kwargs=kwargs, replay_buffer_class=SequenceReplayBuffer, **{**RUN, **(run or {})})


def pretrain(n_updates, **kwargs):
    return ModelPretrainCallback(n_updates, progress_bar=False, **kwargs)


class Adams:
    """Steps of the optimizers, in order."""

    def __init__(self, model):
        self.steps = []
        adam = model.policy.features_extractor.optimizer._adam
        for name, optimizer in {"model": adam, "critic": model.critic.optimizer, "actor": model.actor.optimizer}.items():
            optimizer.register_step_post_hook(lambda *_, name=name: self.steps.append(name))


def state_of(model):
    return copy.deepcopy(model.policy.state_dict())


def changed(before, model):
    after = model.policy.state_dict()
    return {name for name in before if isinstance(after[name], th.Tensor) and not th.equal(after[name], before[name])}


@pytest.mark.parametrize(("cls", "policy"), [(SAC, SLACPolicy), (TQC, SLACTQCPolicy)])
def test_the_model_alone_takes_so_many_steps_before_the_agents_first(cls, policy):
    model = make(cls, policy)
    adams, before = Adams(model), state_of(model)
    model.learn(10, callback=pretrain(7))
    assert adams.steps == ["model"] * 7
    parts = {name.split(".")[0] for name in changed(before, model)}
    assert parts == {"features_extractor"} and model._n_updates == 0
    assert not model.policy.features_extractor.training


def test_it_comes_once_for_a_model_right_before_the_agent_learns():
    model = make()
    adams = Adams(model)
    callback = pretrain(7)
    model.learn(14, callback=callback)
    assert adams.steps == ["model"] * 7 + ["model", "critic", "actor"] * model._n_updates
    adams.steps.clear()
    n_updates = model._n_updates
    model.learn(14, callback=callback)
    assert adams.steps == ["model", "critic", "actor"] * (model._n_updates - n_updates)


def test_it_comes_not_again_after_load(tmp_path):
    model = make().learn(14, callback=pretrain(3))
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=model.get_env())
    adams = Adams(loaded)
    loaded.learn(14, callback=pretrain(7))
    assert adams.steps.count("model") == adams.steps.count("critic") > 0


def test_it_comes_not_again_where_learning_ended_with_it():
    model = make().learn(10, callback=pretrain(3))
    adams = Adams(model)
    model.learn(1, callback=pretrain(7), reset_num_timesteps=False)
    assert adams.steps == ["model", "critic", "actor"]


def test_the_moments_of_the_models_adam_stay():
    model = make()
    adam = model.policy.features_extractor.optimizer._adam
    model.learn(10, callback=pretrain(7))
    assert {int(state["step"]) for state in adam.state.values()} == {7}
    model.learn(3, reset_num_timesteps=False)
    assert {int(state["step"]) for state in adam.state.values()} == {7 + model._n_updates}


def test_its_updates_are_those_of_the_policy():
    """On batches of ``model_batch_size`` windows, one after the other."""
    model = make().learn(10, callback=pretrain(5))
    twin = make().learn(10)
    twin.policy.set_training_mode(True)
    for _ in range(5):
        batch = twin.replay_buffer.sample(4).observations.batch
        assert len(batch.rewards) == 4
        twin.policy.update_model(batch)
    assert not changed(state_of(twin), model)


class ReadLog(BaseCallback):
    def _on_rollout_end(self):
        self.elbo = self.logger.name_to_value.get("model/elbo")

    def _on_step(self):
        return True


@pytest.mark.parametrize(("n_updates", "n_read"), [(3, 3), (5, 1), (4, 2)])
def test_it_logs_the_bound_of_the_last_updates(n_updates, n_read, monkeypatch, capsys):
    """The mean of minus the plain sum of the losses, whatever their coefficients."""
    monkeypatch.setattr(model_pretrain, "_SLICE", {3: 100, 5: 2, 4: 2}[n_updates])
    model, log = make(coefs=COEFS), ReadLog()
    learner, bounds = model.policy._learner, []
    update = learner.update

    def keep(batch):
        state = th.get_rng_state()
        losses = model.policy.features_extractor.model.loss(batch)
        assert set(losses) == {"recon", "kl", "reward"}
        bounds.append(-sum(loss.item() for loss in losses.values()))
        th.set_rng_state(state)
        update(batch)

    monkeypatch.setattr(learner, "update", keep)
    model.learn(10, callback=[pretrain(n_updates, verbose=1), log])
    assert len(bounds) == n_updates
    expected = sum(bounds[-n_read:]) / n_read
    assert log.elbo == pytest.approx(expected, rel=1e-5)
    assert f"{n_updates} updates: ELBO {expected:.1f} nats" in capsys.readouterr().out


def test_without_it_nothing_is_logged():
    model, log = make(), ReadLog()
    model.learn(12, callback=log)
    assert log.elbo is None


@pytest.mark.parametrize("shown", [True, False])
def test_a_progress_bar_counts_the_updates(shown, capsys):
    make().learn(10, callback=ModelPretrainCallback(6, progress_bar=shown))
    err = capsys.readouterr().err
    assert ("6/6" in err and "ELBO" in err) == shown


def test_other_policies_are_refused_at_the_start():
    model = PPO("MlpPolicy", "CartPole-v1", device="cpu")
    with pytest.raises(TypeError, match=r"SLACPolicy and SLACTQCPolicy, not for ActorCriticPolicy; leave it out"):
        model.learn(1, callback=pretrain(1))
    assert model.num_timesteps == 0


@pytest.mark.parametrize("n_updates", [0, -1, 1.5, "3"])
def test_the_number_of_updates_is_a_positive_integer(n_updates):
    with pytest.raises(ValueError, match="n_updates"):
        ModelPretrainCallback(n_updates)
