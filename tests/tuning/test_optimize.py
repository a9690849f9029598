"""Tuning from a script: what a trial is, how it ends, what is left behind."""

import gymnasium as gym
import numpy as np
import optuna
import pytest
import yaml
from algorithms import NoiseImageEnv
from gymnasium import spaces
from optuna.trial import TrialState
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_latent import LatentExtractor, get_extractor, latent_kwargs
from sb3_latent.envs.making import make_env
from sb3_latent.search import Choice, Float
from sb3_latent.tuning import objectives, optimize
from sb3_latent.tuning.agents import algorithm_kwargs, make_callbacks
from sb3_latent.tuning.trials import outcome_of

NOISE, STATE = "tests/TuningNoise-v0", "tests/TuningState-v0"
TINY = {"preset": "vae", "latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": [8]}, "net_arch": [4]}
HYPERPARAMS = {
    "policy": "sb3_latent.LatentActorCriticPolicy",
    "policy_kwargs": TINY,
    "n_envs": 2,
    "n_timesteps": 32,
    "n_steps": 8,
    "batch_size": 8,
    "n_epochs": 1,
}
SPACE = {"policy_kwargs.kappa": Float(0.1, 10, log=True), "learning_rate": Float(1e-4, 1e-2, log=True)}


class StateEnv(gym.Env):
    """Episodes of 10 random vectors, whose first two entries stand in ``info`` as well."""

    observation_space = spaces.Box(-1, 1, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._drawn()

    def step(self, action):
        self.n_steps += 1
        observation, info = self._drawn()
        return observation, 0.0, self.n_steps == 10, False, info

    def _drawn(self):
        observation = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        noise = self.np_random.uniform(-1, 1, 2)
        return observation, {"seen": observation[:2], "unseen": noise} if self.spec.kwargs.get("noise") else {
            "seen": observation[:2]
        }


@pytest.fixture(autouse=True)
def environments():
    gym.register(NOISE, NoiseImageEnv)
    gym.register(STATE, StateEnv)
    yield
    gym.registry.pop(NOISE), gym.registry.pop(STATE)


def tune(folder, n_trials=2, make_model=PPO, hyperparams=HYPERPARAMS, env_id=NOISE, **kwargs):
    kwargs = {"space": SPACE, "n_evaluations": 2, "n_eval_episodes": 2, "pruner": "none", **kwargs}
    return optimize(make_model, env_id, hyperparams, n_trials, folder=folder, **kwargs)


def test_a_trial_is_the_agent_given_with_the_values_drawn(tmp_path):
    made = []

    def make_model(**kwargs):
        made.append(PPO(**kwargs))
        return made[-1]

    study = tune(tmp_path, make_model=make_model)
    assert len(made) == 3, "one before the trials, that shows what is wrong"
    for trial, model in zip(study.trials, made[1:], strict=True):
        extractor = get_extractor(model)
        assert type(extractor) is LatentExtractor
        assert extractor.kappa == trial.params["policy_kwargs.kappa"]
        assert model.learning_rate == trial.params["learning_rate"]
        assert (model.n_steps, model.batch_size, model.n_epochs, model.n_envs) == (8, 8, 1, 2)
        assert extractor.features_dim == 4 and extractor.tasks.labels == ["recon", "kl"]
        assert model.num_timesteps == 32
    assert len({model.seed for model in made}) == 3


def test_the_value_is_the_mean_return_after_the_last_update(tmp_path):
    made = []

    def make_model(**kwargs):
        made.append(PPO(**kwargs))
        return made[-1]

    study = tune(tmp_path, 1, make_model, n_eval_episodes=3)
    model = made[-1]
    env = make_env(NOISE, HYPERPARAMS, 1, model.seed + 2)
    for _ in range(2):
        evaluate_policy(model, env, n_eval_episodes=3)
    assert study.trials[0].value == evaluate_policy(model, env, n_eval_episodes=3)[0]
    assert set(study.trials[0].intermediate_values) == {1, 2}


def test_the_same_seed_gives_the_same_study_and_stopping_changes_nothing(tmp_path):
    whole = tune(tmp_path / "a", 4)
    storage = str(tmp_path / "study.log")
    tune(tmp_path / "b", 2, storage=storage)
    resumed = tune(tmp_path / "b", 4, storage=storage)
    assert [(t.params, t.value) for t in resumed.trials] == [(t.params, t.value) for t in whole.trials]
    assert [t.params for t in tune(tmp_path / "c", 4, seed=1).trials] != [t.params for t in whole.trials]


def test_the_best_trial_is_written_as_a_file_of_the_zoo(tmp_path):
    study = tune(tmp_path, 3, space=["kappa", "policy_kwargs.net_arch", "gamma"])
    (env_id, best), *others = yaml.safe_load((tmp_path / "best.yml").read_text()).items()
    assert env_id == NOISE and not others
    drawn = study.best_trial.user_attrs["drawn"]
    assert best == {**HYPERPARAMS, "gamma": drawn["gamma"], "policy_kwargs": best["policy_kwargs"]}
    chosen = {"kappa": drawn["policy_kwargs.kappa"], "net_arch": drawn["policy_kwargs.net_arch"]}
    assert best["policy_kwargs"] == {**TINY, **chosen}
    model = PPO(env=make_env(env_id, best, 1, 0), **algorithm_kwargs(best))
    assert get_extractor(model).kappa == chosen["kappa"]


def test_all_that_there_is_to_vary_is_varied_by_default(tmp_path):
    small = {name: value for name, value in HYPERPARAMS.items() if name not in ("n_steps", "batch_size", "n_epochs")}
    study = tune(tmp_path, 1, A2C, small, space=None)
    expected = {"n_steps", "learning_rate", "gamma", "policy_kwargs.kappa", "policy_kwargs.latent_dim", "policy_kwargs.beta"}
    assert expected <= set(study.trials[0].params)


def test_a_trial_that_diverges_is_pruned_and_the_study_goes_on(tmp_path):
    study = tune(
        tmp_path, space={"learning_rate": Float(1e30, 1e32, log=True)}, hyperparams={**HYPERPARAMS, "n_timesteps": 64}
    )
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2


@pytest.mark.parametrize(
    "error",
    [
        FloatingPointError("recon is nan"),
        ValueError("found invalid values: nan"),
        RuntimeError("probability tensor contains either `inf`"),
    ],
)
def test_all_ways_to_diverge_are_outcomes(error):
    assert isinstance(outcome_of(error), optuna.TrialPruned)


@pytest.mark.parametrize("error", [ValueError("latent_dim=-3"), RuntimeError("CUDA out of memory")])
def test_other_errors_are_none(error):
    assert outcome_of(error) is error


def test_a_wrong_configuration_ends_the_study_and_says_why(tmp_path):
    storage = str(tmp_path / "study.log")
    with pytest.raises(ValueError, match="latent_dim"):
        tune(tmp_path, space={"policy_kwargs.latent_dim": Choice((-3,))}, storage=storage)
    (study,) = optuna.get_all_study_summaries(
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    )
    assert study.n_trials == 1


def test_an_error_while_learning_is_none_of_the_outcomes(tmp_path):
    def fail(model, env):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        tune(tmp_path, objectives=[fail])
    with pytest.raises(ValueError, match="needs tasks 'recon' and 'kl'"):
        tune(tmp_path, objectives=["elbo"], hyperparams={**HYPERPARAMS, "policy_kwargs": {**TINY, "preset": "ae"}})


def test_a_pruner_stops_a_trial_in_its_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number > 0)
    lengths = []

    def make_model(**kwargs):
        model = PPO(**kwargs)
        lengths.append(model)
        return model

    study = tune(tmp_path, 2, make_model)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert [model.num_timesteps for model in lengths[1:]] == [32, 16]


def test_several_objectives_give_a_front(tmp_path):
    hyperparams = {**HYPERPARAMS, "policy_kwargs": {"preset": "vae", "latent_dim": 4, "net_arch": [4]}}
    study = tune(
        tmp_path, objectives=["return", "elbo", "probe", lambda model, env: 7.0], env_id=STATE, hyperparams=hyperparams
    )
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE] * 4
    for trial in study.trials:
        returned, elbo, probe, own = trial.values
        assert returned == 0 and own == 7 and elbo < 0 and 0 <= probe <= 1
    assert study.best_trials and (tmp_path / "best.yml").exists()


def test_elbo_is_minus_the_losses_of_random_play():
    hyperparams = {"policy_kwargs": {"preset": "vae", "latent_dim": 3}}
    model = PPO("MlpPolicy", make_env(STATE, {}, 1, 0), policy_kwargs=latent_kwargs(**hyperparams["policy_kwargs"]))
    extractor = get_extractor(model)
    for task in extractor.tasks.modules():
        if hasattr(task, "decoder"):
            task.decoder.apply(lambda module: [parameter.data.zero_() for parameter in module.parameters()])
    extractor.encoders.apply(lambda module: [parameter.data.zero_() for parameter in module.parameters()])
    # The posterior is the prior and the reconstruction 0, so that the loss is the squared norm of a uniform vector.
    assert objectives.elbo(model, make_env(STATE, {}, 1, 0)) == pytest.approx(-4 / 3, rel=0.05)


def test_probe_finds_what_is_there_and_nothing_else(monkeypatch):
    env = make_env(STATE, {}, 4, 0)
    identity = latent_kwargs("sac_state")["features_extractor_kwargs"]
    kwargs = {"features_extractor_class": LatentExtractor, "features_extractor_kwargs": identity}
    model = PPO("MlpPolicy", env, policy_kwargs=kwargs)
    assert objectives.probe(model, env) > 0.999
    noisy = lambda info: {"unseen": np.random.default_rng(info["seen"].view(np.uint32)[0]).uniform(size=1)}  # noqa: E731
    monkeypatch.setattr(objectives, "_state_of", noisy)
    assert objectives.probe(model, env) < 0.05


def test_measuring_changes_nothing(tmp_path):
    env = make_env(STATE, {}, 2, 0)
    model = PPO("MlpPolicy", env, policy_kwargs=latent_kwargs("vae"), seed=0)
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    state, training = np.random.get_state()[1].copy(), model.policy.training
    first = objectives.probe(model, env), objectives.elbo(model, env)
    assert (objectives.probe(model, env), objectives.elbo(model, env)) == first
    assert all((value == before[name]).all() for name, value in model.policy.named_parameters())
    assert (np.random.get_state()[1] == state).all() and model.policy.training == training


def test_an_environment_is_made_as_the_zoo_makes_it():
    hyperparams = {
        "env_wrapper": ["gymnasium.wrappers.FlattenObservation", {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 2}}],
        "frame_stack": 3,
        "normalize": {"norm_obs": False},
        "gamma": 0.5,
    }
    env = make_env(STATE, hyperparams, 2, 0)
    assert env.observation_space.shape == (12,) and env.num_envs == 2 and env.venv.gamma == 0.5 and env.venv.norm_reward
    assert not make_env(STATE, hyperparams, 1, 0, training=False).venv.norm_reward
    env.reset()
    dones = [env.step(np.zeros(2, int))[2].all() for _ in range(4)]
    assert dones == [False, True, False, True]


def test_names_become_objects_and_arguments_stay():
    kwargs = algorithm_kwargs(
        {
            "policy": "sb3_latent.LatentSACPolicy",
            "replay_buffer_class": "sb3_latent.FrameReplayBuffer",
            "n_envs": 3,
            "learning_rate": "lin_1e-3",
            "train_freq": [1, "episode"],
            "gamma": 0.9,
            "callback": [],
        }
    )
    assert kwargs["policy"].__name__ == "LatentSACPolicy" and kwargs["replay_buffer_class"].__name__ == "FrameReplayBuffer"
    assert [kwargs["learning_rate"](progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx([1e-3, 5e-4, 0])
    assert kwargs["train_freq"] == (1, "episode") and kwargs.keys() == {
        "policy", "replay_buffer_class", "learning_rate", "train_freq", "gamma",
    }  # fmt: skip
    (callback,) = make_callbacks({"callback": {"sb3_latent.callbacks.LatentMetricsCallback": {"every": 7}}})
    assert callback.every == 7


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"space": "kappa"}, TypeError, "must be a list of names"),
        ({"space": {"gamma": (0.9, 0.99)}}, TypeError, "must be a Float, Int, Choice or Layers"),
        ({"space": {"n_envs": Choice((1, 3))}}, ValueError, "no hyperparameter of the agent"),
        ({"objectives": "return"}, TypeError, "must be a list"),
        ({"objectives": []}, TypeError, "must be a list"),
        (
            {"env_id": "tests/TuningNois-v0"},
            ValueError,
            "unknown environment 'tests/TuningNois-v0'; did you mean 'tests/TuningNoise-v0'",
        ),
        ({"hyperparams": {**HYPERPARAMS, "policy": PPO}}, TypeError, "must be a name"),
        (
            {"hyperparams": {**HYPERPARAMS, "policy": "sb3_latent.LatentPolicy"}},
            ValueError,
            "'sb3_latent.LatentPolicy' cannot be imported",
        ),
        ({"hyperparams": {**HYPERPARAMS, "n_timesteps": None}}, ValueError, "n_timesteps"),
        ({"hyperparams": {**HYPERPARAMS, "learning_rate": "linear"}}, ValueError, "learning_rate='linear' must be a number"),
        ({"objectives": ["retrun"]}, ValueError, "unknown objective 'retrun'; did you mean 'return'"),
        ({"sampler": "cma"}, ValueError, "unknown sampler"),
        ({"pruner": "hyper"}, ValueError, "unknown pruner"),
        ({"space": ["kapa"]}, ValueError, "unknown hyperparameter to search 'kapa'; did you mean"),
        ({"n_trials": 0}, ValueError, "n_trials"),
        ({"n_evaluations": 0}, ValueError, "n_evaluations"),
    ],
)
def test_bad_input_is_refused_before_the_first_trial(tmp_path, change, error, match):
    with pytest.raises(error, match=match):
        tune(tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_an_algorithm_of_the_users_own_is_tuned_as_its_parent(tmp_path):
    class Mine(A2C):
        pass

    small = {name: value for name, value in HYPERPARAMS.items() if name not in ("n_steps", "batch_size", "n_epochs")}
    assert set(tune(tmp_path, 1, Mine, small, space=["gae_lambda"]).trials[0].params) == {"gae_lambda"}


def test_off_policy_agents_as_well(tmp_path):
    gym.register("tests/TuningBox-v0", lambda: NoiseImageEnv(discrete=False))
    hyperparams = {
        "policy": "sb3_latent.LatentSACPolicy",
        "policy_kwargs": {**TINY, "preset": "sac_ae", "net_arch": [4], "init": None},
        "replay_buffer_class": "sb3_latent.FrameReplayBuffer",
        "buffer_size": 100,
        "learning_starts": 8,
        "batch_size": 4,
        "n_timesteps": 24,
    }
    try:
        study = tune(tmp_path, 1, SAC, hyperparams, "tests/TuningBox-v0", space=["tau", "latent_dim", "coefs.recon"])
    finally:
        gym.registry.pop("tests/TuningBox-v0")
    assert set(study.trials[0].params) == {"tau", "policy_kwargs.latent_dim", "policy_kwargs.coefs.recon"}
