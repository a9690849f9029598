"""The contract of every registered dynamics: what a state may depend on, and that windows start where their mask says."""

import copy
import pickle

import pytest
import torch as th
from torch import nn

from sb3_latent.dynamics import DYNAMICS, DiagonalGaussian, Dynamics, Family, Step, Timeless, make_latent_model
from sb3_latent.windows import WindowBatch, WindowSpec

ALL = [pytest.param(name, {}, id=name) for name in DYNAMICS.names()]
ALL.append(pytest.param("rssm_discrete", {"relaxation": "gumbel", "unimix": 0.01}, id="gumbel"))
TEMPORAL = [param for param in ALL if not issubclass(DYNAMICS.get(param.values[0]), Timeless)]
TIMELESS = [param for param in ALL if param not in TEMPORAL]
B, T, FEATURES, ACTIONS = 4, 5, 7, 3
STARTS = th.tensor([0, 2, 4, 1])


class Accumulator(Dynamics):
    """A class of a user's own: the latent adds up what it sees and does."""

    def __init__(self, features_dim, action_dim, gain=0.5):
        super().__init__(features_dim, action_dim, 2, DiagonalGaussian(2, 0.1))
        self.gain = gain
        self.correct, self.drift = nn.Linear(features_dim, 4), nn.Linear(action_dim, 4)

    def begin(self, features, n_rows, noisy):
        return self._step(self.standard_prior(n_rows), features, noisy)

    def move(self, state, action, features, noisy):
        return self._step(th.cat([self.gain * state, 0 * state], 1) + self.drift(action), features, noisy)

    def _step(self, prior, features, noisy):
        posterior = prior if features is None else prior + self.correct(features)
        return Step(self.family.draw(posterior, noisy), prior, posterior)


ALL.append(pytest.param(f"{__name__}.Accumulator", {"gain": 0.9}, id="own"))
TEMPORAL.append(ALL[-1])


def make(name, kwargs):
    return DYNAMICS.make(name, FEATURES, ACTIONS, kwargs=kwargs)


def masked(starts):
    return th.arange(T) >= starts.unsqueeze(1)


def window(n_rows=B, length=T, dtype=th.float32):
    """Features, actions and the mask of windows that are all real."""
    features, actions = th.randn(n_rows, length, FEATURES, dtype=dtype), th.rand(n_rows, length - 1, ACTIONS, dtype=dtype)
    return features, 2 * actions - 1, th.ones(n_rows, length, dtype=th.bool)


def observe(dynamics, features, actions, mask, noisy, seed=0):
    th.manual_seed(seed)
    return dynamics.observe(features, actions, mask, noisy)


def equal(one, other):
    return all(th.equal(a, b) for a, b in zip(one, other, strict=True))


def junk_before(starts, features, actions):
    """The same windows with other padding: frames before the start, and the actions that they led to."""
    features, actions = features.clone(), actions.clone()
    for row, start in enumerate(starts):
        features[row, :start] = 100 * th.randn(start, features.shape[-1])
        actions[row, :start] = 100 * th.randn(start, actions.shape[-1])
    return features, actions


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("n_rows, horizon", [(B, 3), (1, 1)])
def test_shapes_and_types(name, kwargs, noisy, n_rows, horizon):
    dynamics = make(name, kwargs)
    features, actions, mask = window(n_rows)
    trajectory = dynamics.observe(features, actions, mask, noisy)
    n_outputs = dynamics.family.n_outputs
    first = dynamics.initial(n_rows, noisy)
    future = dynamics.imagine(first, actions[:, :horizon], noisy)
    assert (dynamics.features_dim, dynamics.action_dim) == (FEATURES, ACTIONS)
    assert first.shape == (n_rows, dynamics.state_dim)
    assert future.shape == (n_rows, horizon, dynamics.state_dim)
    assert trajectory.states.shape == (n_rows, T, dynamics.state_dim)
    assert trajectory.priors.shape == trajectory.posteriors.shape == (n_rows, T, n_outputs)
    assert dynamics.kl(trajectory, mask).shape == ()
    for tensor in (first, future, *trajectory):
        assert tensor.dtype == th.float32 and tensor.isfinite().all()


@pytest.mark.parametrize("name, kwargs", ALL)
def test_without_noise_no_random_number_is_drawn_and_with_it_the_seed_decides(name, kwargs):
    dynamics, (features, actions, mask) = make(name, kwargs), window()

    def outcomes(noisy, seed):
        states = observe(dynamics, features, actions, mask, noisy, seed).states
        return states, dynamics.imagine(states[:, -1], actions, noisy), dynamics.initial(B, noisy)

    assert equal(outcomes(False, 5), outcomes(False, 6))
    th.manual_seed(5)
    before = th.get_rng_state()
    outcomes(False, 5)
    assert th.equal(th.get_rng_state(), before)
    assert equal(outcomes(True, 5), outcomes(True, 5))
    assert not any(th.equal(a, b) for a, b in zip(outcomes(True, 5), outcomes(True, 6), strict=True))
    assert not any(th.equal(a, b) for a, b in zip(outcomes(True, 5), outcomes(False, 5), strict=True))


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
def test_rows_do_not_see_each_other(name, kwargs, noisy):
    dynamics, (features, actions, _) = make(name, kwargs), window()
    starts, others = STARTS, th.tensor([0, 4, 4, 3])
    rows = th.tensor([0, 2])
    other_features, other_actions = window()[:2]
    other_features[rows], other_actions[rows] = features[rows], actions[rows]
    one = observe(dynamics, features, actions, masked(starts), noisy)
    two = observe(dynamics, other_features, other_actions, masked(others), noisy)
    assert equal([part[rows] for part in one], [part[rows] for part in two])
    assert not any(th.equal(a[1], b[1]) for a, b in zip(one[::2], two[::2], strict=True))
    futures = []
    for trajectory, moves in ((one, actions), (two, other_actions)):
        th.manual_seed(0)
        futures.append(dynamics.imagine(trajectory.states[:, -1], moves, noisy)[rows])
    assert equal(futures[:1], futures[1:])


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("mask_type", [th.bool, th.uint8])
def test_nothing_before_the_start_of_a_window_matters(name, kwargs, noisy, mask_type):
    dynamics, (features, actions, _) = make(name, kwargs), window()
    mask = masked(STARTS)
    one = observe(dynamics, features, actions, mask.to(mask_type), noisy)
    two = observe(dynamics, *junk_before(STARTS, features, actions), mask, noisy)
    assert equal([part[mask] for part in one], [part[mask] for part in two])
    assert all(part.isfinite().all() for part in two)
    th.testing.assert_close(dynamics.kl(one, mask), dynamics.kl(two, mask), rtol=0, atol=0)


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
def test_a_window_of_nothing_disturbs_no_other_and_weighs_nothing(name, kwargs, noisy):
    dynamics, (features, actions, mask) = make(name, kwargs), window()
    features[1], actions[1], mask[1] = 0, 0, False
    with_it = observe(dynamics, features, actions, mask, noisy)
    assert all(part.isfinite().all() for part in with_it)
    mask[1] = True
    without = observe(dynamics, features, actions, mask, noisy)
    assert equal([part[[0, 2, 3]] for part in with_it], [part[[0, 2, 3]] for part in without])
    mask[1] = False
    assert th.equal(dynamics.kl(with_it, mask), dynamics.kl(without, mask))


@pytest.mark.parametrize("name, kwargs", TEMPORAL)
@pytest.mark.parametrize("noisy", [True, False])
def test_before_its_start_a_window_repeats_its_first_state(name, kwargs, noisy):
    dynamics, (features, actions, _) = make(name, kwargs), window()
    for part in observe(dynamics, features, actions, masked(STARTS), noisy):
        for row, start in enumerate(STARTS):
            assert th.equal(part[row, :start], part[row, start].expand(start, -1))


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
def test_a_padded_window_is_the_shorter_window(name, kwargs, noisy, monkeypatch):
    """With noise as well: here it is a function of the belief, so that it is the same wherever a step lies in a window."""
    dynamics, (features, actions, _) = make(name, kwargs).double(), window(dtype=th.float64)
    for family in {one for one in vars(dynamics).values() if isinstance(one, Family)}:
        monkeypatch.setattr(
            family, "sample", lambda outputs, family=family: family.mode(outputs) + (3 * outputs[..., : family.dim]).sin()
        )
    whole = dynamics.observe(*junk_before(STARTS, features, actions), masked(STARTS), noisy)
    for row, start in enumerate(STARTS):
        real = th.ones(1, T - start, dtype=th.bool)
        alone = dynamics.observe(features[row : row + 1, start:], actions[row : row + 1, start:], real, noisy)
        for long, short in zip(whole, alone, strict=True):
            th.testing.assert_close(long[row : row + 1, start:], short, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name, kwargs", ALL)
def test_draws_of_a_padded_window_are_distributed_as_those_of_the_shorter_one(name, kwargs):
    n, start = 1000, 3
    dynamics, (features, actions, _) = make(name, kwargs), window(1)
    padded = (part.expand(n, -1, -1) for part in junk_before([start], features, actions))
    short = (part.expand(n, -1, -1) for part in (features[:, start:], actions[:, start:]))
    with th.no_grad():
        one = dynamics.observe(*padded, masked(th.full((n,), start))).states[:, start:]
        two = dynamics.observe(*short, th.ones(n, T - start, dtype=th.bool)).states
    for moment in (lambda states: states, lambda states: states.square(), lambda states: states[:, :1] * states[:, 1:]):
        a, b = moment(one), moment(two)
        error = ((a.var(0) + b.var(0)) / n).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 6 * error + 1e-6).all()


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
def test_no_step_knows_what_follows_and_no_prior_its_own_frame(name, kwargs, noisy):
    dynamics, (features, actions, mask) = make(name, kwargs), window()
    before = observe(dynamics, features, actions, mask, noisy)
    for t in range(T):
        later_features, later_actions = features.clone(), actions.clone()
        later_features[:, t:] += 3
        later_actions[:, t:] += 3
        after = observe(dynamics, later_features, later_actions, mask, noisy)
        assert equal([part[:, :t] for part in before], [part[:, :t] for part in after])
        assert th.equal(before.priors[:, : t + 1], after.priors[:, : t + 1])
        assert not th.isclose(before.posteriors[:, t], after.posteriors[:, t]).all(-1).any()


def reach(of, inputs):
    """(K, N) for K steps and N inputs: whether a gradient passes, in every row alike."""
    weights = th.randn(of.shape)
    rows = []
    for t in range(of.shape[1]):
        (gradient,) = th.autograd.grad(
            (weights[:, t] * of[:, t]).sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        assert gradient.isfinite().all()
        passes = (gradient != 0).any(-1)
        assert (passes == passes[0]).all()
        rows.append(passes[0])
    return th.stack(rows)


@pytest.mark.parametrize("name, kwargs", TEMPORAL)
@pytest.mark.parametrize("noisy", [True, False])
def test_a_frame_reaches_its_step_and_all_later_ones_and_an_action_the_later_ones(name, kwargs, noisy):
    dynamics, (features, actions, mask) = make(name, kwargs), window()
    features.requires_grad_()
    actions.requires_grad_()
    trajectory = observe(dynamics, features, actions, mask, noisy)
    step, frame, action = th.arange(T).unsqueeze(1), th.arange(T), th.arange(T - 1)
    assert th.equal(reach(trajectory.states, features), frame <= step)
    assert th.equal(reach(trajectory.states, actions), action < step)
    assert th.equal(reach(trajectory.posteriors, features), frame <= step)
    assert th.equal(reach(trajectory.priors, actions), action < step)
    assert th.equal(reach(trajectory.priors, features), frame < step)


@pytest.mark.parametrize("name, kwargs", TIMELESS)
@pytest.mark.parametrize("noisy", [True, False])
def test_without_time_a_state_is_that_of_its_frame_alone(name, kwargs, noisy):
    dynamics, (features, actions, mask) = make(name, kwargs), window()
    features.requires_grad_()
    actions.requires_grad_()
    trajectory = observe(dynamics, features, actions, mask, noisy)
    assert th.equal(reach(trajectory.states, features), th.eye(T, dtype=th.bool))
    assert not reach(trajectory.states, actions).any()
    assert not trajectory.priors.requires_grad
    moved = dynamics.move(trajectory.states[:, 0], actions[:, 0], features[:, 1], noisy=False)
    assert equal(moved, dynamics.begin(features[:, 1], B, noisy=False))


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("noisy", [True, False])
def test_to_imagine_is_to_move_without_frames(name, kwargs, noisy):
    dynamics, actions = make(name, kwargs), 2 * th.rand(B, T, ACTIONS) - 1
    first = dynamics.initial(B)
    th.manual_seed(0)
    imagined = dynamics.imagine(first, actions, noisy)
    th.manual_seed(0)
    state, steps = first, []
    for t in range(T):
        steps.append(dynamics.move(state, actions[:, t], None, noisy))
        state = steps[-1].state
        assert th.equal(steps[-1].posterior, steps[-1].prior)
    assert equal(imagined.unbind(1), [step.state for step in steps])


@pytest.mark.parametrize("name, kwargs", TEMPORAL)
@pytest.mark.parametrize("noisy", [True, False])
def test_gradients_pass_through_what_is_imagined(name, kwargs, noisy):
    dynamics, actions = make(name, kwargs), (2 * th.rand(B, T, ACTIONS) - 1).requires_grad_()
    first = dynamics.initial(B).detach().requires_grad_()
    imagined = dynamics.imagine(first, actions, noisy)
    step, action = th.arange(T).unsqueeze(1), th.arange(T)
    assert th.equal(reach(imagined, actions), action <= step)
    assert th.autograd.grad(imagined[:, -1].square().sum(), first)[0].any(-1).all()


@pytest.mark.parametrize("name, kwargs", TEMPORAL)
def test_an_imagined_step_has_the_prior_of_the_observed_one(name, kwargs):
    dynamics, (features, actions, mask) = make(name, kwargs), window()
    trajectory = dynamics.observe(features, actions, mask)
    for t in range(1, T):
        step = dynamics.move(trajectory.states[:, t - 1], actions[:, t - 1], None, noisy=False)
        assert th.equal(step.prior, trajectory.priors[:, t])


@pytest.mark.parametrize("name", ["slac", "slac_filtering", "slac_vae", "slac_nontemporal", "rssm_mixed"])
def test_the_first_prior_of_slac_is_the_standard_gaussian(name):
    dynamics, (features, actions, mask) = make(name, {}), window()
    first = dynamics.family.distribution(dynamics.observe(features, actions, mask).priors[:, 0])
    th.testing.assert_close(first.mean, th.zeros_like(first.mean))
    th.testing.assert_close(first.stddev, th.ones_like(first.mean), rtol=1e-6, atol=0)
    th.manual_seed(0)
    drawn = dynamics.initial(B)[:, : dynamics.family.dim]
    th.manual_seed(0)
    th.testing.assert_close(drawn, th.randn(B, dynamics.family.dim), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name, kwargs", ALL)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), "state_dict"])
def test_copies_do_the_same(name, kwargs, copied):
    dynamics, inputs = make(name, kwargs), window()
    if copied == "state_dict":
        twin = make(name, kwargs)
        twin.load_state_dict(dynamics.state_dict())
    else:
        twin = copied(dynamics)
    assert equal(observe(dynamics, *inputs, noisy=True), observe(twin, *inputs, noisy=True))
    assert equal([dynamics.initial(2, noisy=False)], [twin.initial(2, noisy=False)])


def test_a_class_of_ones_own_makes_a_model():
    spec = WindowSpec(T, (6,), ACTIONS, 1.0)
    model = make_latent_model(spec, f"{__name__}.Accumulator", {"gain": 0.25}, coefs={"continuation": 1.0})
    assert model.encoders.dynamics.gain == 0.25
    mask = th.arange(T + 1) >= STARTS.unsqueeze(1)
    batch = WindowBatch(th.randn(B, T + 1, 6), th.rand(B, T, ACTIONS), th.randn(B, T), th.zeros(B), mask)
    losses = model.loss(batch)
    sum(losses.values()).backward()
    assert set(losses) == {"recon", "kl", "reward", "continuation"}
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(
    "name, kwargs, error, message",
    [
        ("salc", {}, ValueError, "unknown dynamics 'salc'; did you mean 'slac'"),
        (f"{__name__}.T", {}, TypeError, "does not extend sb3_latent.dynamics.dynamics.Dynamics"),
        ("nowhere.at.all", {}, ValueError, "dynamics 'nowhere.at.all' cannot be imported"),
        ("slac", {"z3_dim": 4}, TypeError, "unknown argument of dynamics 'slac': 'z3_dim'; did you mean 'z"),
        ("slac", {"features_dim": 4}, TypeError, "unknown argument of dynamics 'slac': 'features_dim'"),
        ("slac", {"z1_dim": 0}, ValueError, "z1_dim=0 must be an integer of at least 1"),
        ("slac", {"z2_dim": 2.5}, ValueError, "z2_dim=2.5 must be an integer of at least 1"),
        ("slac", {"hidden": (0,)}, ValueError, "hidden=0 must be an integer of at least 1"),
        ("rssm_mixed", {"z2_dim": -1}, ValueError, "z2_dim=-1 must be an integer of at least 1"),
        ("slac_filtering", {"z_dim": "8"}, ValueError, "z_dim='8' must be an integer of at least 1"),
        ("slac_filtering", {"min_std": -1.0}, ValueError, r"min_std=-1.0 must lie in \[0, 1\)"),
        ("slac_vae", {"z_dim": 0}, ValueError, "z_dim=0 must be an integer of at least 1"),
        ("slac_nontemporal", {"z1_dim": 0}, ValueError, "z1_dim=0 must be an integer of at least 1"),
        ("slac_nontemporal", {"z2_dim": 0}, ValueError, "z2_dim=0 must be an integer of at least 1"),
        ("rssm", {"h_dim": 0}, ValueError, "h_dim=0 must be an integer of at least 1"),
        ("rssm", {"z_dim": 0}, ValueError, "z_dim=0 must be an integer of at least 1"),
        ("rssm", {"hidden": 0}, ValueError, "hidden=0 must be an integer of at least 1"),
        ("rssm", {"free_nats": -1.0}, ValueError, "free_nats=-1.0 must be 0 or more"),
        ("rssm", {"free_nats": float("nan")}, ValueError, "free_nats=nan must be 0 or more"),
        ("rssm", {"balance": 1.5}, ValueError, r"balance=1.5 must lie in \[0, 1\]"),
        ("rssm", {"min_std": 2.0}, ValueError, r"min_std=2.0 must lie in \[0, 1\)"),
        ("rssm_discrete", {"n_groups": 0}, ValueError, "n_groups=0 must be an integer of at least 1"),
        ("rssm_discrete", {"n_classes": 1}, ValueError, "n_classes=1 must be an integer of at least 2"),
        ("rssm_discrete", {"unimix": 1.0}, ValueError, r"unimix=1.0 must lie in \[0, 1\)"),
        ("rssm_discrete", {"relaxation": "gumble"}, ValueError, "unknown relaxation 'gumble'; did you mean 'gumbel'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(name, kwargs, error, message):
    with pytest.raises(error, match=message) as caught:
        make(name, kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DYNAMICS.names())
def test_actions_and_frames_must_fit_together(name):
    dynamics = DYNAMICS.get(name)(5, 2)
    with pytest.raises(ValueError, match="4 frames have 3 actions between them, not 4"):
        dynamics.observe(th.zeros(1, 4, 5), th.zeros(1, 4, 2), th.ones(1, 4, dtype=th.bool))
