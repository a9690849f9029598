"""Samplers and pruners: reproducible alone, different among workers, and those of Optuna otherwise."""

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from sb3_latent.tuning.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler

SPACE = {"x": optuna.distributions.FloatDistribution(-5, 5), "name": optuna.distributions.CategoricalDistribution(["a", "b"])}


def run(study, n_trials):
    study.optimize(
        lambda trial: -(trial.suggest_float("x", -5, 5) ** 2) + (trial.suggest_categorical("name", "ab") == "a"), n_trials
    )
    return [(trial.params["x"], trial.params["name"]) for trial in study.trials]


def make_study(name, seed=0, **kwargs):
    return optuna.create_study(sampler=make_sampler(name, seed), direction="maximize", **kwargs)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_repeats_itself_and_another_seed_gives_another(name):
    first = run(make_study(name), 15)
    assert run(make_study(name), 15) == first
    assert run(make_study(name, seed=1), 15) != first


@pytest.mark.parametrize("name", SAMPLERS)
def test_workers_with_the_same_seed_draw_other_trials(name):
    storage = optuna.storages.InMemoryStorage()
    workers = [make_study(name, storage=storage, study_name="s", load_if_exists=True) for _ in range(4)]
    trials = [worker.ask(SPACE) for worker in workers]
    assert len({trial.params["x"] for trial in trials}) == 4


def test_a_study_that_is_taken_up_again_goes_on_as_if_it_had_not_stopped():
    storage = optuna.storages.InMemoryStorage()
    run(make_study("tpe", storage=storage, study_name="s"), 12)
    resumed = make_study("tpe", storage=storage, study_name="s", load_if_exists=True)
    assert run(resumed, 8) == run(make_study("tpe"), 20)


def test_tpe_finds_what_random_search_does_not():
    """Mean of x^2 over the last fifteen of sixty trials; uniform x gives 25 / 3."""
    last = [x**2 for seed in range(5) for x, _ in run(make_study("tpe", seed), 60)[-15:]]
    assert sum(last) / len(last) < 4


def test_after_its_trial_a_sampler_is_forgotten():
    study = make_study("tpe")
    run(study, 3)
    assert study.sampler._samplers == {}
    assert isinstance(study.sampler._make(0), TPESampler)


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_stop_what_is_bad_and_none_stops_nothing(name):
    study = optuna.create_study(direction="maximize", pruner=make_pruner(name, 8, 2), sampler=optuna.samplers.RandomSampler(0))

    def objective(trial):
        quality = 100 - trial.number
        for step in range(1, 9):
            trial.report(quality, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return quality

    study.optimize(objective, 30)
    pruned = [trial.number for trial in study.trials if trial.state is TrialState.PRUNED]
    assert bool(pruned) == (name != "none")
    assert 0 not in pruned and study.best_trial.number == 0


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="unknown sampler 'tep'; did you mean 'tpe'"):
        make_sampler("tep", 0)
    with pytest.raises(ValueError, match="unknown pruner 'medan'; did you mean 'median'"):
        make_pruner("medan", 4)
