"""The benchmark scripts run at a tiny size; what they print and write is what they measured."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from PIL import Image
from torch.distributions import normal

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def run_main(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def test_ratios_compare_within_a_round() -> None:
    from benchmarks import cost

    times = {"cnn": [1.0, 10.0, 1.0], "vae": [2.0, 30.0, 2.0]}
    assert cost.ratios(times, "update") == {"update of vae / cnn": 2.0}


def test_cost_measures_writes_and_fails_where_a_limit_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import cost

    monkeypatch.setattr(cost, "N_SAMPLES", 32)
    monkeypatch.setattr(cost, "BATCH_SIZE", 16)
    monkeypatch.setattr(cost, "MODELS", {name: cost.MODELS[name] for name in ("cnn", "vae")})
    monkeypatch.setattr(cost, "LIMITS", {"update of vae / cnn": 0.01})
    out = tmp_path / "cost.json"
    with pytest.raises(SystemExit) as stop:
        run_main(cost, monkeypatch, "--rounds", "2", "--out", str(out), "--check")
    assert stop.value.code == 1
    assert "too slow: update of vae / cnn" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["results"]["ratios"]["update of vae / cnn"] > 1
    assert written["machine"]["versions"]["torch"]


def test_tiny_ball_does_each_run_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import tiny_ball

    out = tmp_path / "tiny_ball.json"
    arguments = ["--methods", "PPO_VAE", "--seeds", "0", "--steps", "4096", "--out", str(out), "--work", str(tmp_path)]
    run_main(tiny_ball, monkeypatch, *arguments)
    first = out.read_text()
    (row,) = json.loads(first)["results"]
    assert row["method"] == "PPO_VAE" and row["n_steps"] == 4096 and -5 <= row["return"] <= 5
    assert f"| default | PPO_VAE | 4,096 | {row['return']:.2f} |" in capsys.readouterr().out
    assert (tmp_path / "tiny_ball-default.png").exists()
    run_main(tiny_ball, monkeypatch, *arguments)
    assert out.read_text() == first


@pytest.fixture
def sac(monkeypatch: pytest.MonkeyPatch) -> Any:
    from benchmarks import sac

    monkeypatch.setattr(sac, "BATCH_SIZE", 4)
    return sac


def test_reference_has_as_many_parameters_as_the_authors_agent() -> None:
    from benchmarks.sac_ae_reference import ReferenceSACAE

    reference = ReferenceSACAE(9, 6, th.device("cpu"))
    assert sum(weight.numel() for weight in reference.encoder) == 1_990_518
    assert sum(weight.numel() for weight in reference.decoder.parameters()) == 2_029_545


def test_sac_counts_passes_measures_writes_and_fails_where_a_limit_is_exceeded(
    sac: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = "update of sac_ae / stock SAC"
    assert set(sac.LIMITS) == {limit}
    monkeypatch.setattr(sac, "MODELS", {name: sac.MODELS[name] for name in ("stock SAC", "sac_ae")})
    monkeypatch.setattr(sac, "LIMITS", {limit: 0.01})
    out = tmp_path / "sac.json"
    arguments = ["--rounds", "1", "--switch", "autocast", "--out", str(out)]
    with pytest.raises(SystemExit) as stop:
        run_main(sac, monkeypatch, *arguments, "--check")
    assert stop.value.code == 1
    assert f"too slow: {limit}" in capsys.readouterr().out
    results = json.loads(out.read_text())["results"]
    rows = {"stock SAC", "sac_ae", "sac_ae, autocast"}
    assert set(results["seconds_per_gradient_step"]) == rows | {"the authors' order"}
    assert set(results["ratios"]) == {
        f"update of {name} / stock SAC" for name in [*rows - {"stock SAC"}, "the authors' order"]
    }
    # Stock SAC encodes observations for the actor, the critic and the actor's loss, next ones for the actor and the target
    # critic, whose `forward` switches gradients on even within `no_grad`.
    passes = results["encoder_passes_per_gradient_step"]
    assert passes["stock SAC"] == {"with_gradients": 4, "without": 1}
    assert passes["sac_ae"] == passes["sac_ae, autocast"] == {"with_gradients": 1, "without": 2}


@pytest.mark.parametrize(("ratio", "arguments", "code"), [(0.81, [], 0), (0.81, ["--check"], 1), (0.79, ["--check"], 0)])
def test_sac_exits_with_1_only_where_asked_to_check_and_above_the_limit(
    sac: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: float, arguments: list[str], code: int
) -> None:
    monkeypatch.setattr(sac, "MODELS", {name: sac.MODELS[name] for name in ("stock SAC", "sac_ae")})
    times = {"stock SAC": [2.0], "sac_ae": [2 * ratio], "the authors' order": [1.0]}
    monkeypatch.setattr(sac, "interleaved", lambda tasks, n_rounds, what: {name: times[name] for name in tasks})
    with pytest.raises(SystemExit) as stop:
        run_main(sac, monkeypatch, "--out", str(tmp_path / "sac.json"), *arguments)
    assert stop.value.code == code
    results = json.loads((tmp_path / "sac.json").read_text())["results"]
    assert results["ratios"] == {"update of sac_ae / stock SAC": ratio, "update of the authors' order / stock SAC": 0.5}
    assert results["seconds_per_gradient_step"] == {"stock SAC": 1.0, "sac_ae": ratio, "the authors' order": 0.5}


def same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of actions and of dequantisation depends on its shape alone, not on who draws it and when."""

    def fixed(draw: Any, shape: Any) -> th.Tensor:
        return draw(tuple(shape), generator=th.Generator().manual_seed(3))

    uniform = th.rand
    monkeypatch.setattr(normal, "_standard_normal", lambda shape, dtype, device: fixed(th.randn, shape))
    monkeypatch.setattr(th, "rand", lambda shape, device: fixed(uniform, shape))
    monkeypatch.setattr(th, "rand_like", lambda x: fixed(uniform, x.shape))


def distance(ours: Any, theirs: Any) -> float:
    ours, theirs = (th.nn.utils.parameters_to_vector(weights) for weights in (ours, theirs))
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(
    ("critic_lr", "other_lr", "parts"), [(0.0, 1e-3, {"encoder", "decoder", "actor"}), (1e-3, 0.0, {"encoder", "critic"})]
)
def test_sac_ae_with_two_optimizers_learns_what_the_authors_agent_learns(
    sac: Any, monkeypatch: pytest.MonkeyPatch, critic_lr: float, other_lr: float, parts: set[str]
) -> None:
    """
    In two halves, since SB3 takes the actions for the actor's loss before the critic's step, the authors after it: where
    the critic rests, all else must move alike, and where all else rests, the critic and the targets.
    """
    from benchmarks import sac_order
    from sb3_latent import LatentSACPolicy, latent_kwargs

    monkeypatch.setattr(sac_order, "BATCH_SIZE", 4)
    critic, betas = {"lr": critic_lr}, {"betas": (0.5, 0.999)}
    optimizers = {"critic": critic, "encoder": critic, "actor": {"lr": other_lr}, "ent_coef": {"lr": other_lr / 10, **betas}}
    autoencoder = {"lr": other_lr, "decoder": {"weight_decay": 1e-7}}
    settings = latent_kwargs("sac_ae_two_optimizers", optimizers=optimizers, auxiliary_optimizer_kwargs=autoencoder)
    model = sac.make_model(LatentSACPolicy, settings, sac_order.pendulum())
    reference = sac_order.reference_of(model)
    for optimizer in (reference.actor_optimizer, reference.encoder_optimizer, reference.decoder_optimizer):
        optimizer.param_groups[0]["lr"] = other_lr
    reference.alpha_optimizer.param_groups[0]["lr"] = other_lr / 10
    # Theirs is twice SB3's loss, which leaves Adam's step as it is if its epsilon doubles too.
    reference.critic_optimizer.param_groups[0]["eps"] = 2e-8
    monkeypatch.setattr(sac_order, "reference_of", lambda model: reference)
    same_draws(monkeypatch)
    before = [weight.clone() for weight in model.policy.features_extractor_target.encoders.parameters()]
    theirs = sac_order.learn_in_authors_order(model, 3, 1, critic_lr)
    compared = sac_order.compare(sac_order.learn_in_sb3s_order(model, 3, 1), theirs)
    assert compared.keys() == parts
    print(compared)
    assert max(values["relative_distance"] for values in compared.values()) < 1e-3
    assert float(model.log_ent_coef.detach()) == pytest.approx(float(reference.log_alpha.detach()), abs=1e-8)
    if critic_lr:
        # The target's encoder moves by 0.05, its Q-functions by 0.01, in two of three updates.
        target, convolutions = reference.critic_target, reference.critic_target.convolutions
        encoder = [*convolutions.parameters(), *target.head.parameters()]
        print(distance(model.policy.features_extractor_target.encoders.parameters(), encoder))
        print(distance(model.critic_target.parameters(), target.q_functions.parameters()), distance(before, encoder))
