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


def test_acting_measures_writes_and_fails_where_its_limit_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import acting

    monkeypatch.setattr(acting, "N_ENVS", (16,))
    monkeypatch.setattr(acting, "LIMIT", 0.01)
    out = tmp_path / "acting.json"
    with pytest.raises(SystemExit) as stop:
        run_main(acting, monkeypatch, "--rounds", "1", "--out", str(out), "--check")
    assert stop.value.code == 1 and "too slow: " in capsys.readouterr().out
    assert 0.1 < json.loads(out.read_text())["results"]["by_n_envs"]["16"]["ratio"] < 0.8


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


@pytest.fixture
def sac_order(sac: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from benchmarks import sac_order

    monkeypatch.setattr(sac_order, "BATCH_SIZE", 4)
    return sac_order


@pytest.fixture
def comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Noise depends on its shape alone, not on who draws it and when; and no ReLU has a kink, where rounding, which differs
    between two orders of the same sums, would decide about a gradient.
    """
    from sb3_latent import losses

    quantize, uniform = losses.quantize, th.rand

    def fixed(draw: Any, shape: Any) -> th.Tensor:
        return draw(tuple(shape), generator=th.Generator().manual_seed(3))

    monkeypatch.setattr(normal, "_standard_normal", lambda shape, dtype, device: fixed(th.randn, shape))
    monkeypatch.setattr(th, "rand", lambda shape, device: fixed(uniform, shape))
    monkeypatch.setattr(losses, "quantize", lambda images, bits, noise: quantize(images, bits, fixed(uniform, noise.shape)))
    monkeypatch.setattr(th.nn.ReLU, "forward", lambda self, x: th.nn.functional.elu(x))


def model_and_reference(sac_order: Any, critic_lr: float, other_lr: float) -> tuple[Any, Any]:
    """Both with the same weights and learning rates, and a buffer of noise, rewards and ends of episodes."""
    from sb3_latent import LatentSACPolicy, latent_kwargs

    critic, ent_coef = {"lr": critic_lr}, {"lr": other_lr / 10, "betas": (0.5, 0.999)}
    optimizers = {"critic": critic, "encoder": critic, "actor": {"lr": other_lr}, "ent_coef": ent_coef}
    autoencoder = {"lr": other_lr, "decoder": {"weight_decay": 1e-7}}
    settings = latent_kwargs("sac_ae_two_optimizers", optimizers=optimizers, auxiliary_optimizer_kwargs=autoencoder)
    model = sac_order.make_model(LatentSACPolicy, settings, sac_order.pendulum())
    buffer, rng = model.replay_buffer, np.random.default_rng(0)
    for array in (buffer.observations, buffer.next_observations):
        array[:] = rng.integers(256, size=array.shape)
    buffer.dones[::2] = 1
    reference = sac_order.reference_of(model)
    for name in ("actor", "encoder", "decoder"):
        getattr(reference, f"{name}_optimizer").param_groups[0]["lr"] = other_lr
    reference.alpha_optimizer.param_groups[0]["lr"] = other_lr / 10
    # Their loss is twice SB3's, and its gradients; Adam does not care if its epsilon is twice as large too.
    reference.critic_optimizer.param_groups[0]["eps"] *= 2
    return model, reference


def targets_of(model: Any) -> dict[str, list[th.Tensor]]:
    encoder, critic = model.policy.features_extractor_target.encoders, model.critic_target
    return {"target encoder": [*encoder.parameters()], "target critic": [*critic.parameters()]}


def targets_of_reference(reference: Any) -> dict[str, list[th.Tensor]]:
    target = reference.critic_target
    encoder = [*target.convolutions.parameters(), *target.head.parameters()]
    return {"target encoder": encoder, "target critic": [*target.q_functions.parameters()]}


@pytest.mark.usefixtures("comparable")
@pytest.mark.parametrize(
    ("critic_lr", "other_lr", "learning"),
    [(0.0, 1e-3, {"encoder", "decoder", "actor"}), (1e-3, 0.0, {"encoder", "critic", "target encoder", "target critic"})],
    ids=["the critic rests", "all but the critic rest"],
)
def test_sac_ae_with_two_optimizers_learns_what_the_authors_agent_learns(
    sac_order: Any, monkeypatch: pytest.MonkeyPatch, critic_lr: float, other_lr: float, learning: set[str]
) -> None:
    """
    In two halves, for in SB3's order actor and autoencoder read the encoder before the critic's step, in the authors' after
    it. Left out of the first half are the targets, which nobody reads there: theirs follow before the autoencoder's step.
    """
    model, reference = model_and_reference(sac_order, critic_lr, other_lr)
    monkeypatch.setattr(sac_order, "reference_of", lambda model: reference)
    before = sac_order.copied(targets_of(model))
    theirs = sac_order.learn_in_authors_order(model, 3, 1, critic_lr)
    ours = sac_order.learn_in_sb3s_order(model, 3, 1)
    if not other_lr:
        theirs |= sac_order.moved(before, targets_of_reference(reference))
        ours |= sac_order.moved(before, targets_of(model))
    compared = sac_order.compare(ours, theirs)
    assert compared.keys() == learning
    assert all(part["relative_distance"] < 1e-3 for part in compared.values()), compared
    assert model.log_ent_coef.item() == pytest.approx(reference.log_alpha.item(), abs=1e-6)


def test_sac_order_compares_updates_with_the_noise_of_one(
    sac_order: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sac_order.json"
    run_main(sac_order, monkeypatch, "--updates", "2", "--out", str(out))
    written = json.loads(out.read_text())
    assert written["command"].endswith("--updates 2")
    rests, learns = written["results"]["critic's learning rate 0"], written["results"]["critic's learning rate 0.001"]
    for rows in (rests, learns):
        assert list(rows) == ["the authors' order, other noise", "sac_ae_two_optimizers", "sac_ae"]
    # Where the encoder rests between the authors' passes, the order makes no difference beyond that of the noise.
    floor, ours = rests["the authors' order, other noise"], rests["sac_ae_two_optimizers"]
    assert set(floor) == {"encoder", "decoder", "actor"} and set(learns["sac_ae"]) == {*floor, "critic"}
    for part in floor:
        assert ours[part]["cosine"] > floor[part]["cosine"] - 0.02
    # With one optimizer for both losses, the encoder rests altogether.
    assert rests["sac_ae"]["encoder"] == {"relative_distance": 1, "cosine": 0}
    cosine = learns["sac_ae"]["actor"]["cosine"]
    assert f"sac_ae                              actor    cosine {cosine:.3f}" in capsys.readouterr().out


def test_pixel_pendulum_does_each_run_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import pixel_pendulum

    monkeypatch.setattr(gym.registry[pixel_pendulum.PIXEL_PENDULUM_ID], "max_episode_steps", 5)
    monkeypatch.setattr(pixel_pendulum, "SETTINGS", {"batch_size": 4, "buffer_size": 50, "learning_starts": 8})
    monkeypatch.setattr(pixel_pendulum, "NET_ARCH", [8])
    out = tmp_path / "pixel_pendulum.json"
    arguments = ["--presets", "sac_cnn", "sac_ae", "--steps", "16", "--every", "4", "--out", str(out)]
    run_main(pixel_pendulum, monkeypatch, *arguments, "--seeds", "0")
    first = json.loads(out.read_text())["results"]
    assert [(row["preset"], row["seed"], row["n_steps"]) for row in first] == [("sac_cnn", 0, 16), ("sac_ae", 0, 16)]
    for row in first:
        assert [step for step, _ in row["curve"]] == [4, 8, 12, 16]
        # Five times two steps of the pendulum, each of which costs at most 16.3.
        assert all(-163 < value < 0 for _, value in row["curve"])
    run_main(pixel_pendulum, monkeypatch, *arguments, "--seeds", "0", "1")
    second = json.loads(out.read_text())
    assert second["results"][:2] == first and "--seeds 0 1" in second["command"]
    assert [(row["preset"], row["seed"]) for row in second["results"][2:]] == [("sac_cnn", 1), ("sac_ae", 1)]
    rows = []
    for preset in ("sac_cnn", "sac_ae"):
        curves = [dict(row["curve"]) for row in second["results"] if row["preset"] == preset]
        cells = [" / ".join(f"{curve[step]:.0f}" for curve in curves) for step in (8, 16)]
        rows.append(f"| {preset} | {cells[0]} | {cells[1]} |\n")
    assert "| preset | 8 steps | 16 steps |\n|---|---|---|\n" + "".join(rows) in capsys.readouterr().out
    with Image.open(out.with_suffix(".png")) as picture:
        assert len(picture.convert("L").getcolors(256)) > 10
    stamp = out.stat().st_mtime_ns
    run_main(pixel_pendulum, monkeypatch, *arguments, "--seeds", "1", "0")
    assert out.stat().st_mtime_ns == stamp


def test_slac_prints_and_checks_its_ratios(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import slac, slac_reference

    monkeypatch.setattr(slac, "N_STEPS", 40)
    for module in (slac, slac_reference):
        monkeypatch.setattr(module, "BATCH_SIZE", 34)
    monkeypatch.setattr(slac, "LIMITS", {name: 0.0 for name in slac.LIMITS})
    out = tmp_path / "slac.json"
    monkeypatch.setattr("sys.argv", ["slac", "--rounds", "1", "--out", str(out), "--check"])
    with pytest.raises(SystemExit) as exit_code:
        slac.main()
    assert exit_code.value.code == 1 and "too much: update of SLACPolicy" in capsys.readouterr().out
    results = json.loads(out.read_text())["results"]
    assert results["frames_encoded_per_gradient_step"] == {"with_gradients": 32 * 9, "without": 2 * 9}
    assert set(results["ratios"]) == set(slac.LIMITS) and all(value > 0 for value in results["ratios"].values())


def test_the_plain_slac_has_the_losses_of_ours() -> None:
    from benchmarks.slac_reference import ReferenceModel
    from sb3_latent import make_latent_model
    from sb3_latent.windows import WindowBatch, WindowSpec

    th.manual_seed(0)
    plain, ours = ReferenceModel(6), make_latent_model(WindowSpec(8, (3, 64, 64), 6, 255.0))
    dynamics = ours.encoders.dynamics
    pairs = [
        (plain.encoder, ours.encoders.trunk),
        (plain.decoder, ours.tasks.decoder),
        (plain.q_first, dynamics.first_posterior),
        (plain.p2_first, dynamics.first_z2),
        (plain.p, dynamics.prior),
        (plain.q, dynamics.posterior),
        (plain.p2, dynamics.z2),
        (plain.reward, ours.tasks.reward),
    ]
    for theirs, mine in pairs:
        for source, target in zip(theirs.parameters(), mine.parameters(), strict=True):
            target.data.copy_(source.data)
    frames = th.randint(0, 256, (3, 9, 3, 64, 64), dtype=th.uint8)
    actions, rewards = th.rand(3, 8, 6) * 2 - 1, th.randn(3, 8)
    batch = WindowBatch(frames, actions, rewards, th.zeros(3), th.ones(3, 9, dtype=th.bool))
    th.manual_seed(1)
    losses = ours.loss(batch)
    th.manual_seed(1)
    th.testing.assert_close(ours.tasks.weighted_sum(losses), plain.loss(frames, actions, rewards), rtol=1e-5, atol=0)


@pytest.mark.parametrize("preset", ["slac", "rssm"])
def test_pixel_pendulum_trains_latent_models_of_single_frames(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, preset: str
) -> None:
    from benchmarks import pixel_pendulum

    monkeypatch.setattr(gym.registry[pixel_pendulum.PIXEL_PENDULUM_ID], "max_episode_steps", 5)
    monkeypatch.setattr(pixel_pendulum, "SETTINGS", {"batch_size": 4, "buffer_size": 50, "learning_starts": 8})
    monkeypatch.setattr(pixel_pendulum, "N_PRETRAINING", 2)
    out = tmp_path / "one_frame.json"
    arguments = ["--n-frames", "1", "--presets", preset, "--seeds", "0", "--steps", "12", "--every", "6", "--out", str(out)]
    run_main(pixel_pendulum, monkeypatch, *arguments)
    (row,) = json.loads(out.read_text())["results"]
    assert row["preset"] == preset and row["n_frames"] == 1 and [step for step, _ in row["curve"]] == [6, 12]
    with pytest.raises(SystemExit):
        run_main(pixel_pendulum, monkeypatch, "--n-frames", "3", *arguments[2:])


def test_the_table_of_latent_models_is_that_of_the_results() -> None:
    from benchmarks import pixel_pendulum

    rows = json.loads((ROOT / "benchmarks/results/one_frame_pendulum.json").read_text())["results"]
    assert pixel_pendulum.table(rows) in (ROOT / "docs/latent_dynamics.md").read_text()
    finals = {
        preset: " / ".join(f"{row['curve'][-1][1]:.0f}" for row in rows if row["preset"] == preset)
        for preset in ("sac_cnn", "slac", "rssm")
    }
    dreams = json.loads((ROOT / "benchmarks/results/dream_ppo.json").read_text())["results"]
    outside = " / ".join(f"{row['PPO outside']['return']:.0f}" for row in dreams)
    readme = (ROOT / "README.md").read_text()
    assert all(f"| {final} |" in readme for final in [*finals.values(), outside])
