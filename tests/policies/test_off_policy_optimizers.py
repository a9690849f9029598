"""Each part learns at its own rate and in its own rhythm, whatever SB3 writes into the optimizers; and starts as it should."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from stable_baselines3 import PPO
from torch import nn

from sb3_latent import LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy, get_extractor, latent_kwargs, save_encoder

POLICIES = {"SAC": LatentSACPolicy, "TQC": LatentTQCPolicy, "TD3": LatentTD3Policy}
WITH_ENTROPY = ["SAC", "TQC"]


def make(name, settings=None, preset="rae", **kwargs):
    settings = settings or {}
    return make_model(name, {**tiny(preset, **settings), "net_arch": [8]}, policy=POLICIES[name], **kwargs)


def optimizers_of(model):
    named = {"critic": model.critic.optimizer, "actor": model.actor.optimizer}
    return {**named, "ent_coef": model.ent_coef_optimizer} if hasattr(model, "ent_coef_optimizer") else named


def groups_at_steps(model):
    """What every group holds when its optimizer has just stepped, with SB3's progress, but for parameters and ``.grad``."""
    seen = []

    def see(optimizer, *_):
        for group in optimizer.param_groups:
            seen.append({"progress": model._current_progress_remaining, **{k: v for k, v in group.items() if k != "params"}})

    for optimizer in optimizers_of(model).values():
        optimizer.register_step_post_hook(see)
    return seen


# ---------------------------------------------------------------------- arguments by part


@pytest.mark.parametrize("gradients", [("critic", "task"), ("actor", "critic", "task")], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_groups_hold_each_parameter_of_their_part_and_no_other(name, gradients):
    policy = make(name, {"encoder_gradients": gradients}).policy
    parts = {
        "critic": policy.critic.parameters(),
        "actor": policy.actor.parameters(),
        "encoder": policy.features_extractor.encoders.parameters(),
        "decoder": policy.features_extractor.tasks.parameters(),
    }
    ids = {part: [id(parameter) for parameter in parameters] for part, parameters in parts.items()}
    held = [
        {group["part"]: [id(parameter) for parameter in group["params"]] for group in optimizer.param_groups}
        for optimizer in (policy.critic.optimizer, policy.actor.optimizer)
    ]
    of_actor = ["actor", "encoder"] if "actor" in gradients else ["actor"]
    assert held == [{part: ids[part] for part in ("critic", "encoder", "decoder")}, {part: ids[part] for part in of_actor}]
    assert all(ids.values())


def test_tasks_with_an_optimizer_of_their_own_are_in_no_other():
    policy = make("SAC", {"gradient_mode": "own_optimizer"}).policy
    assert [group["part"] for group in policy.critic.optimizer.param_groups] == ["critic", "encoder"]


RATES = {
    "critic": lambda left: 1e-3 * left,
    "encoder": lambda left: 2e-3 * (2 - left),
    "decoder": 3e-3,
    "actor": lambda left: 4e-3 * left**2,
    "ent_coef": lambda left: 5e-4 + 1e-4 * left,
}


def rate(value, progress):
    return value(progress) if callable(value) else value


@pytest.mark.parametrize("given", [list(RATES), ["encoder"], []], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_rates_of_parts_survive_what_sb3_writes_and_the_others_follow_it(name, given, tmp_path):
    def of_sb3(left):
        return 1e-2 * left

    settings = {
        "optimizers": {part: {"lr": RATES[part]} for part in given},
        "encoder_gradients": ("actor", "critic", "task"),
    }
    model = make(name, settings, learning_rate=of_sb3, gradient_steps=2)
    seen = groups_at_steps(model)
    model.learn(20)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.env)
    seen_later = groups_at_steps(loaded)
    loaded.learn(20)
    parts = {"critic", "encoder", "decoder", "actor"} | ({"ent_coef"} if name in WITH_ENTROPY else set())
    for groups in (seen, seen_later):
        assert {group["part"] for group in groups} == parts
        assert len({group["progress"] for group in groups}) >= 9
        for group in groups:
            expected = rate(RATES[group["part"]] if group["part"] in given else of_sb3, group["progress"])
            assert group["lr"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", POLICIES)
def test_betas_and_weight_decay_are_those_of_the_part(name, tmp_path):
    # As a YAML parser hands them out: lists, no tuples.
    optimizers = {
        "critic": {"betas": [0.8, 0.9]},
        "encoder": {"weight_decay": 0.1},
        "decoder": {"weight_decay": 1e-7, "eps": 1e-4},
        "actor": {"betas": [0.7, 0.95], "amsgrad": True},
        "ent_coef": {"lr": 1e-4, "betas": [0.5, 0.999]},
    }
    usual = {"betas": (0.9, 0.999), "weight_decay": 0, "amsgrad": False}
    kwargs = {**tiny("rae", optimizers=optimizers), "optimizer_kwargs": {"eps": 1e-6}}
    model = make_model(name, kwargs, policy=POLICIES[name], learning_rate=1e-4)
    model.learn(14)
    model.save(tmp_path / "model")
    for one in (model, type(model).load(tmp_path / "model", env=model.env)):
        seen = groups_at_steps(one)
        one.learn(14)
        assert {group["part"] for group in seen} >= {"critic", "encoder", "decoder", "actor"}
        for group in seen:
            eps = 1e-8 if group["part"] == "ent_coef" else 1e-6
            expected = {**usual, "lr": 1e-4, "eps": eps, **optimizers[group["part"]]}
            for argument, value in expected.items():
                assert np.array_equal(group[argument], value), (group["part"], argument)


def test_a_step_is_that_of_an_adam_with_these_arguments():
    """The groups are not for show: the first step of each parameter, by hand."""
    optimizers = {"critic": {"lr": 1e-2, "weight_decay": 0.5}, "encoder": {"lr": 3e-3}, "actor": {"lr": 2e-3, "eps": 0.1}}
    model = make("SAC", {"optimizers": optimizers, "tasks": {}}, learning_rate=1.0)
    before, after, gradients = {}, {}, {}
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}

    def keep(optimizer, *_):
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            gradients[names[id(parameter)]] = parameter.grad.clone()
            after[names[id(parameter)]] = parameter.detach().clone()

    for optimizer in (model.critic.optimizer, model.actor.optimizer):
        optimizer.register_step_post_hook(keep)
    before = {name: parameter.detach().clone() for name, parameter in model.policy.named_parameters()}
    model.learn(11)
    assert after
    for name, value in after.items():
        part = "encoder" if name.startswith("features_extractor") else name.split(".")[0]
        arguments = {"weight_decay": 0.0, "eps": 1e-8, **optimizers[part]}
        gradient = gradients[name] + arguments["weight_decay"] * before[name]
        # Both moments of Adam's first step, corrected for their bias, are the gradient and its square.
        expected = before[name] - arguments["lr"] * gradient / (gradient.abs() + arguments["eps"])
        th.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", POLICIES)
def test_the_tasks_own_adam_follows_its_schedules(name):
    adam = {"lr": lambda left: 1e-3 * left, "decoder": {"lr": 2e-3, "weight_decay": 1e-7}}
    model = make(name, {"gradient_mode": "own_optimizer", "auxiliary_optimizer_kwargs": adam})
    seen = []
    optimizer = model.policy.features_extractor.optimizer._adam
    optimizer.register_step_post_hook(
        lambda one, *_: seen.append((model._current_progress_remaining, [group["lr"] for group in one.param_groups]))
    )
    model.learn(15)
    assert len(seen) == 5
    assert all(rates == pytest.approx([1e-3 * left, 2e-3]) for left, rates in seen)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 1e-7]


@pytest.mark.parametrize(
    ("optimizers", "error", "parts"),
    [
        ({"critics": {"lr": 1.0}}, ValueError, ["'critics'", "did you mean 'critic'?", "'ent_coef'", "'decoder'"]),
        ({"critic": {"learning_rate": 1.0}}, TypeError, ["optimizers['critic']", "'learning_rate'", "'lr'"]),
        ({"actor": {"params": []}}, TypeError, ["optimizers['actor']", "'params'", "'lr'"]),
        ({"actor": 1e-3}, TypeError, ["optimizers['actor']=0.001", "dictionary"]),
        ({"actor": {"lr": "1e-3"}}, TypeError, ["optimizers['actor']['lr']='1e-3'", "number or a schedule"]),
        ({"actor": {"lr": True}}, TypeError, ["optimizers['actor']['lr']=True", "number or a schedule"]),
        ({"ent_coef": {"lr": -1e-3}}, ValueError, ["optimizers['ent_coef']['lr']=-0.001", "not negative"]),
        ({"encoder": {"lr": lambda left: math.nan}}, ValueError, ["optimizers['encoder']['lr']=nan", "finite"]),
        ({"critic": {"betas": [0.9, 2.0]}}, ValueError, ["optimizers['critic']", "2.0"]),
        ({"ent_coef": {"weight_decay": -1.0}}, ValueError, ["optimizers['ent_coef']", "-1.0"]),
        ({"critic": {"betas": 0.9}}, TypeError, ["optimizers['critic']", "0.9"]),
        ([("actor", {"lr": 1e-3})], TypeError, ["optimizers=[('actor', {'lr': 0.001})]", "dictionary"]),
        ("critic", TypeError, ["optimizers='critic'", "dictionary"]),
    ],
)
def test_wrong_arguments_are_told_in_one_line_before_training(optimizers, error, parts):
    with pytest.raises(error) as raised:
        make("SAC", {"optimizers": optimizers})
    assert "\n" not in str(raised.value) and all(part in str(raised.value) for part in parts)


def test_the_entropy_coefficient_has_sb3s_adam_whatever_the_others_have():
    kwargs = {**tiny("rae", optimizers={"ent_coef": {"betas": (0.5, 0.9)}, "critic": {"momentum": 0.9}})}
    model = make_model("SAC", {**kwargs, "optimizer_class": th.optim.SGD}, policy=LatentSACPolicy)
    model.learn(12)
    assert isinstance(model.ent_coef_optimizer, th.optim.Adam)
    assert model.ent_coef_optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    assert model.critic.optimizer.param_groups[0]["momentum"] == 0.9
    with pytest.raises(TypeError, match=r"optimizers\['ent_coef'\]: 'momentum'"):
        make_model(
            "SAC",
            {**tiny("rae", optimizers={"ent_coef": {"momentum": 0.9}}), "optimizer_class": th.optim.SGD},
            policy=LatentSACPolicy,
        )


def test_the_decoders_arguments_have_one_place_where_tasks_step_on_their_own():
    with pytest.raises(ValueError, match=r"optimizers\['decoder'\].*own_optimizer.*auxiliary_optimizer_kwargs"):
        make("SAC", {"gradient_mode": "own_optimizer", "optimizers": {"decoder": {"lr": 1e-3}}})


# ---------------------------------------------------------------------- cadences


def snapshots(model):
    """State of each part as every gradient step begins, and once more at the end of the run (call the result)."""
    policy, taken = model.policy, []
    sample = model.replay_buffer.sample

    def take():
        steps = {name: optimizer.state_dict()["state"] for name, optimizer in optimizers_of(model).items()}
        own = policy.features_extractor.optimizer
        state = {
            "critic": [policy.critic.state_dict(), steps["critic"][0] if steps["critic"] else {}],
            "actor": [policy.actor.state_dict(), steps["actor"]],
            "encoder": policy.features_extractor.encoders.state_dict(),
            "tasks": [policy.features_extractor.tasks.state_dict(), {} if own is None else own.state_dict()["state"]],
            "target": [policy.features_extractor_target.encoders.state_dict(), policy.critic_target.state_dict()],
            "actor_target": policy.actor_target.state_dict() if hasattr(policy, "actor_target") else {},
        }
        if "ent_coef" in steps:
            state["ent_coef"] = [model.log_ent_coef.detach(), steps["ent_coef"]]
        taken.append(copy.deepcopy(state))

    def sampled(*args, **kwargs):
        take()
        return sample(*args, **kwargs)

    model.replay_buffer.sample = sampled

    def finish():
        take()
        del model.replay_buffer.sample
        return taken

    return finish


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return all(equal(one, other) for one, other in zip(a, b, strict=True))
    return th.equal(a, b) if isinstance(a, th.Tensor) else a == b


def moves(taken, part):
    """For each gradient step, whether it moved a part."""
    return [not equal(a[part], b[part]) for a, b in itertools.pairwise(taken)]


@pytest.mark.parametrize("gradient_steps", [1, 2, 5])
@pytest.mark.parametrize("gradients", [("critic", "task"), ("actor", "critic", "task")], ids=str)
@pytest.mark.parametrize("name", WITH_ENTROPY)
def test_actor_and_entropy_coefficient_move_on_due_steps_of_all_training(name, gradients, gradient_steps, tmp_path):
    """Their weights and their Adams' moments, in calls of ``train()`` of any length, in a model that was saved and loaded."""
    settings = {"actor_update_freq": 3, "encoder_gradients": gradients}
    model = make(name, settings, gradient_steps=gradient_steps)
    finish = snapshots(model)
    model.learn(14)
    taken = finish()
    assert len(taken) - 1 == 4 * gradient_steps and model._n_updates == 4 * gradient_steps
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = type(model).load(tmp_path / "model", env=model.env)
    loaded.load_replay_buffer(tmp_path / "replay")
    finish = snapshots(loaded)
    loaded.learn(4, reset_num_timesteps=False)
    later = finish()
    for part in ("actor", "ent_coef"):
        moved = moves(taken, part) + moves(later, part)
        assert moved == [k % 3 == 0 for k in range(len(moved))] and len(moved) == 8 * gradient_steps
    assert all(moves(taken, "critic")) and all(moves(taken, "encoder")) and all(moves(taken, "tasks"))


@pytest.mark.parametrize("gradient_steps", [1, 2, 5])
@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
@pytest.mark.parametrize("name", POLICIES)
def test_tasks_move_on_due_steps_of_all_training(name, mode, gradient_steps, tmp_path):
    model = make(name, {"task_freq": 3, "gradient_mode": mode}, gradient_steps=gradient_steps)
    finish = snapshots(model)
    model.learn(14)
    taken = finish()
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.env)
    loaded.replay_buffer = model.replay_buffer
    finish = snapshots(loaded)
    loaded.learn(4, reset_num_timesteps=False)
    moved = moves(taken, "tasks") + moves(finish(), "tasks")
    assert moved == [k % 3 == 0 for k in range(len(moved))] and len(moved) == 8 * gradient_steps
    assert all(moves(taken, "encoder")), "the critic's loss moves it as well"


@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
@pytest.mark.parametrize("name", POLICIES)
def test_an_encoder_that_only_tasks_move_moves_when_they_do(name, mode):
    model = make(name, {"task_freq": 2, "gradient_mode": mode, "encoder_gradients": ("task",)}, gradient_steps=5)
    finish = snapshots(model)
    model.learn(13)
    moved = moves(finish(), "encoder")
    assert moved == [k % 2 == 0 for k in range(len(moved))] and len(moved) == 15


@pytest.mark.parametrize(("encoder_tau", "tau"), [(None, 0.02), (0.3, 0.02), (1.0, 0.5)])
@pytest.mark.parametrize(("gradient_steps", "interval"), [(1, 1), (2, 2), (5, 2), (1, 2), (3, 5)])
@pytest.mark.parametrize("name", WITH_ENTROPY)
def test_the_target_encoder_moves_with_the_targets(name, gradient_steps, interval, encoder_tau, tau):
    """SB3 counts within a call of ``train()``, starting with the first step."""
    settings = {"encoder_tau": encoder_tau, "actor_update_freq": 2}
    model = make(name, settings, gradient_steps=gradient_steps, target_update_interval=interval, tau=tau)
    finish = snapshots(model)
    model.learn(13)
    taken = finish()
    expected = [k % gradient_steps % interval == 0 for k in range(3 * gradient_steps)]
    assert moves(taken, "target") == expected
    check_averages(taken, expected, encoder_tau or tau)


@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("encoder_tau", [None, 0.3])
def test_td3_delays_the_target_encoder_with_its_actor(encoder_tau, delay):
    model = make("TD3", {"encoder_tau": encoder_tau}, gradient_steps=5, policy_delay=delay, tau=0.02)
    finish = snapshots(model)
    model.learn(13)
    taken = finish()
    expected = [(k + 1) % delay == 0 for k in range(15)]
    for part in ("actor", "actor_target", "target"):
        assert moves(taken, part) == expected
    check_averages(taken, expected, encoder_tau or 0.02)


def check_averages(taken, moved, tau):
    for before, after, is_due in zip(taken, taken[1:], moved, strict=False):
        if is_due:
            for name, value in after["target"][0].items():
                average = (1 - tau) * before["target"][0][name] + tau * after["encoder"][name]
                th.testing.assert_close(value, average, rtol=1e-6, atol=1e-7)


def test_the_first_target_is_the_encoder():
    for name in POLICIES:
        policy = make(name, {"init": "orthogonal"}).policy
        assert equal(
            dict(policy.features_extractor.encoders.state_dict()), dict(policy.features_extractor_target.encoders.state_dict())
        )
        assert equal(dict(policy.critic.state_dict()), dict(policy.critic_target.state_dict()))


# ---------------------------------------------------------------------- log std


@pytest.mark.parametrize("bounds", [(-10.0, 2.0), [-3, -1]], ids=str)
@pytest.mark.parametrize("name", WITH_ENTROPY)
def test_log_std_is_squashed_into_its_bounds(name, bounds):
    actor = make(name, {"log_std_bounds": bounds}).policy.actor
    raw = []
    next(iter(actor.log_std)).register_forward_hook(lambda _, __, out: raw.append(out))
    next(iter(actor.log_std)).weight.data.mul_(30)
    observations = th.as_tensor(np.random.default_rng(0).integers(0, 256, (64, 1, 12, 12), dtype=np.uint8))
    with th.no_grad():
        _, log_std, _ = actor.get_action_dist_params(observations)
    low, high = bounds
    th.testing.assert_close(log_std, low + (high - low) * (th.tanh(raw[0]) + 1) / 2)
    assert log_std.min() >= low and log_std.max() <= high and log_std.max() - log_std.min() > (high - low) / 4


@pytest.mark.parametrize("name", WITH_ENTROPY)
def test_without_bounds_the_actor_is_that_of_sb3(name):
    assert isinstance(make(name).policy.actor.log_std, nn.Linear)
    with_sde = make(name, {"log_std_bounds": (-10, 2)}, use_sde=True).policy.actor
    assert isinstance(with_sde.log_std, nn.Parameter)


@pytest.mark.parametrize("bounds", [(2, -10), (1, 1), 3, (-10, 2, 3), ("a", "b")], ids=str)
def test_bounds_that_are_no_interval_are_told(bounds):
    with pytest.raises(ValueError, match=r"log_std_bounds=.*two numbers, the lower one first"):
        make("SAC", {"log_std_bounds": bounds})


# ---------------------------------------------------------------------- first weights


def is_orthogonal(matrix, gain=1.0):
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return th.allclose(wide @ wide.T, gain**2 * th.eye(len(wide)), atol=1e-5)


def check_layer(layer, init):
    if isinstance(layer, nn.Linear):
        assert is_orthogonal(layer.weight)
    elif init == "orthogonal":
        assert is_orthogonal(layer.weight.flatten(1), math.sqrt(2))
    else:
        centre = layer.weight[:, :, 1, 1]
        assert is_orthogonal(centre, math.sqrt(2))
        assert layer.weight.count_nonzero() == centre.count_nonzero()
    assert not layer.bias.any()


def dmc_model(name, **settings):
    """A tiny convolutional one, the actor with heads of its own."""
    trunk = {"latent_dim": 4, "trunk": "dmc", "trunk_kwargs": {"n_layers": 2, "channels": 4}, "head": "layer_norm_tanh"}
    kwargs = latent_kwargs("rae", **{**trunk, "actor_reads": "trunk", **settings})
    env = NoiseImageEnv(discrete=False, size=32)
    return make_model(name, {**kwargs, "net_arch": [8]}, policy=POLICIES[name], env=env)


@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
@pytest.mark.parametrize("init", ["delta_orthogonal", "orthogonal"])
@pytest.mark.parametrize("name", POLICIES)
def test_first_weights_of_every_network(name, init, mode):
    with th.no_grad():
        policy = dmc_model(name, init=init, gradient_mode=mode).policy
        layers = [
            (where, layer)
            for where, layer in policy.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        ]
        for _, layer in layers:
            check_layer(layer, init)
    places = {where.split(".")[0] for where, _ in layers}
    targets = {"critic_target", "features_extractor_target"} | ({"actor_target"} if name == "TD3" else set())
    assert places == {"actor", "critic", "features_extractor"} | targets
    kinds = [type(layer) for where, layer in layers if where.startswith("features_extractor.")]
    assert kinds.count(nn.Conv2d) == kinds.count(nn.ConvTranspose2d) == 2 and kinds.count(nn.Linear) == 2


def test_without_init_weights_are_those_of_torch():
    with th.no_grad():
        layer = dmc_model("SAC").policy.features_extractor.encoders["observation"].head.linear
        assert not is_orthogonal(layer.weight) and layer.bias.any()


@pytest.mark.parametrize("init", [None, "delta_orthogonal", "orthogonal"])
def test_decoders_do_not_change_the_first_weights_of_what_is_built_after_them(init):
    """So that a run without tasks is the control of one with them."""
    with_tasks, without = (dmc_model("SAC", init=init, tasks=tasks).policy for tasks in ({"recon": {}}, {}))
    ours = dict(with_tasks.named_parameters())
    assert all(th.equal(ours[name], parameter) for name, parameter in without.named_parameters())


@pytest.mark.parametrize("init", ["delta_orthogonal", "orthogonal"])
@pytest.mark.parametrize("name", POLICIES)
def test_pretrained_weights_survive_init(name, init, tmp_path):
    env = NoiseImageEnv(size=32)
    kwargs = latent_kwargs(
        "rae", latent_dim=4, trunk="dmc", trunk_kwargs={"n_layers": 2, "channels": 4}, head="layer_norm_tanh"
    )
    donor = PPO("CnnPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs, device="cpu", seed=3)
    path = save_encoder(donor, tmp_path / "encoder.safetensors")
    model = dmc_model(name, init=init, pretrained=path)
    expected = dict(get_extractor(donor).encoders.state_dict())
    for extractor in (model.policy.features_extractor, model.policy.features_extractor_target):
        assert equal(dict(extractor.encoders.state_dict()), expected)
    assert equal(dict(model.policy.features_extractor.tasks.state_dict()), dict(get_extractor(donor).tasks.state_dict()))


def test_an_unknown_init_is_told():
    with pytest.raises(ValueError, match="unknown init 'orthogonl'; did you mean 'orthogonal'"):
        make("SAC", {"init": "orthogonl"})
