"""Pre-training learns, holds out, survives interrupts to the bit, and says what it was given wrong."""

import inspect
import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from PIL import Image
from stable_baselines3.common.utils import LinearSchedule

from sb3_latent import LatentExtractor, latent_kwargs, save_encoder
from sb3_latent import pretrain as module
from sb3_latent.pretrain import pretrain_encoder

SIDE = 32
N_ROWS = 200
N_EPOCHS = 3
SMALL = {
    "trunk": "mlp",
    "trunk_kwargs": {"net_arch": [32]},
    "latent_dim": 4,
    "n_epochs": N_EPOCHS,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "device": "cpu",
    "progress_bar": False,
}
STEPS_PER_EPOCH = math.ceil(0.9 * N_ROWS / SMALL["batch_size"])


def squares(n=N_ROWS):
    """A white square somewhere on a 4x4 grid: two factors of variation."""
    generator = np.random.default_rng(0)
    frames = np.zeros((n, 1, SIDE, SIDE), np.uint8)
    for frame, (row, column) in zip(frames, 8 * generator.integers(4, size=(n, 2)), strict=True):
        frame[0, row : row + 8, column : column + 8] = 255
    return frames


FRAMES = squares()


def train(tmp_path, dataset=FRAMES, **overrides):
    return pretrain_encoder(dataset, **{"path": tmp_path / "encoder.safetensors", **SMALL, **overrides})


def history(tmp_path):
    return json.loads((tmp_path / "encoder.json").read_text())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt_at(step, action):
    """A progress bar that acts in the middle of an epoch, before the step is counted."""

    class Bar(module.tqdm):
        n_updates = 0

        def update(self, n=1):
            Bar.n_updates += 1
            if Bar.n_updates == step:
                action()
            return super().update(n)

    return Bar


def raise_interrupt():
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of one uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    train(folder, tensorboard_log=str(folder / "log"))
    return folder


def test_the_defaults_are_table_1_and_fit_the_agents_of_the_seed():
    defaults = {name: p.default for name, p in inspect.signature(pretrain_encoder).parameters.items()}
    table_1 = {"n_epochs": 100, "batch_size": 128, "learning_rate": 1e-4}
    assert {name: defaults[name] for name in table_1} == table_1
    frame, stack = (spaces.Box(0, 255, (n, 84, 84), np.uint8) for n in (1, 4))
    settings = module.extractor_settings(defaults["preset"])
    architecture = LatentExtractor(frame, **settings).encoders.architecture
    for preset in ("ppo_fixed", "ppo_adapt", "ppo_vae"):
        agent = LatentExtractor(stack, **latent_kwargs(preset)["features_extractor_kwargs"])
        assert agent.encoders.architecture == architecture
    assert architecture["observation"]["latent_dim"] == 20 and architecture["observation"]["trunk"] == "seed84"
    assert settings["coefs"] == {"recon": 1.0, "kl": 1.0}


def test_it_learns_and_the_encoder_can_be_used(tmp_path):
    extractor = train(tmp_path, n_epochs=40)
    epochs = history(tmp_path)["epochs"]
    assert epochs[-1]["validation/recon"] < 0.5 * epochs[0]["validation/recon"]
    images = th.as_tensor(FRAMES[-8:]).float() / 255
    reconstructions = extractor.decode(extractor.encode(images).mean)
    # The best constant picture of a square that is white one time in 16 leaves 64 * 15 / 16 of squared error.
    assert (reconstructions - images).square().sum((1, 2, 3)).mean() < 0.5 * 60
    kwargs = {name: SMALL[name] for name in ("trunk", "trunk_kwargs", "latent_dim")}
    agent = latent_kwargs("ppo_fixed", pretrained=tmp_path / "encoder.safetensors", **kwargs)["features_extractor_kwargs"]
    stacked = LatentExtractor(spaces.Box(0, 255, (4, SIDE, SIDE), np.uint8), **agent)
    assert th.equal(stacked.encode(images.repeat(1, 4, 1, 1)).mean[:, :4], extractor.encode(images).mean)


def test_a_first_epoch_is_adam_on_the_sum_of_the_losses(tmp_path):
    """Against a loop written out: no shuffling, for one batch holds all; no samples, for the head is deterministic."""
    frames, n_epochs = FRAMES[:20], 3
    settings = {"tasks": {"recon": {}}, "coefs": {"recon": 0.7}, "head": "deterministic"}
    trained = train(tmp_path, frames, n_epochs=n_epochs, validation_fraction=0.1, **settings)
    wanted = train(tmp_path / "start", frames, n_epochs=1, learning_rate=1e-30, **settings)
    adam = th.optim.Adam(wanted.parameters(), lr=SMALL["learning_rate"])
    images = th.as_tensor(frames).float() / 255
    for epoch in range(n_epochs):
        loss = (wanted.decode(wanted.encode(images[:18]).mean) - images[:18]).square().sum((1, 2, 3)).mean()
        adam.zero_grad()
        (0.7 * loss).backward()
        adam.step()
        held_out = (wanted.decode(wanted.encode(images[18:]).mean) - images[18:]).square().sum((1, 2, 3)).mean()
        row = history(tmp_path)["epochs"][epoch]
        assert row["train/recon"] == pytest.approx(loss.item(), rel=1e-4)
        assert row["validation/recon"] == pytest.approx(held_out.item(), rel=1e-4)
        assert row["validation/loss"] == pytest.approx(0.7 * held_out.item(), rel=1e-4)
    for here, there in zip(trained.parameters(), wanted.parameters(), strict=True):
        th.testing.assert_close(here, there, rtol=1e-4, atol=1e-6)


def test_every_training_row_is_seen_once_an_epoch_and_the_last_rows_never(tmp_path, monkeypatch):
    seen = []
    observations = module.FrameSet.observations
    monkeypatch.setattr(
        module.FrameSet, "observations", lambda self, rows, device: seen.append(rows) or observations(self, rows, device)
    )
    train(tmp_path, validation_fraction=0.2, n_epochs=2, path=None)
    n_train = int(0.8 * N_ROWS)
    orders = []
    for epoch in (0, 1):
        start = epoch * (5 + 2)
        orders.append(np.concatenate(seen[start : start + 5]))
        assert sorted(orders[-1]) == list(range(n_train))
        assert np.concatenate(seen[start + 5 : start + 7]).tolist() == list(range(n_train, N_ROWS))
    assert orders[0].tolist() != orders[1].tolist() != list(range(n_train))


def test_the_held_out_loss_weighs_every_row_the_same(tmp_path):
    """The last batch is smaller; one batch of all rows is the oracle. The deterministic head draws no samples."""
    settings = {"preset": "ae", "validation_fraction": 0.45, "learning_rate": 1e-30, "n_epochs": 1}
    train(tmp_path / "small", batch_size=64, **settings)
    train(tmp_path / "large", batch_size=200, **settings)
    small, large = (history(tmp_path / name)["epochs"][0]["validation/recon"] for name in ("small", "large"))
    assert small == pytest.approx(large, rel=1e-5)


def test_the_history_tells_everything(finished):
    told = history(finished)
    assert told["settings"]["latent_dim"] == 4 and told["learning_rate"] == 3e-3
    assert told["dataset"]["shape"] == [N_ROWS, 1, SIDE, SIDE]
    assert len(told["epochs"]) == N_EPOCHS
    for row in told["epochs"]:
        for split in ("train", "validation"):
            assert row[f"{split}/negative_elbo"] == pytest.approx(row[f"{split}/recon"] + row[f"{split}/kl"])
            assert row[f"{split}/loss"] == pytest.approx(row[f"{split}/negative_elbo"])


def test_files_are_the_encoder_its_history_and_a_picture(finished):
    assert names(finished) == ["encoder.json", "encoder.png", "encoder.safetensors", "log"]
    with Image.open(finished / "encoder.png") as picture:
        assert picture.width > 8 * SIDE


def test_tensorboard_shows_what_the_history_holds(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "log")).Reload()
    for name in ("train/recon", "validation/negative_elbo"):
        logged = {event.step: event.value for event in events.Scalars(name)}
        rows = enumerate(history(finished)["epochs"], start=1)
        assert logged == pytest.approx({epoch: row[name] for epoch, row in rows}, rel=1e-6)
    assert len(events.Images("reconstruction")) == 1


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extractor = train(tmp_path, path=None)
    assert not extractor.training and not names(tmp_path)


def test_a_file_of_frames_gives_the_bits_of_the_array(tmp_path, finished):
    np.save(tmp_path / "frames.npy", FRAMES)
    train(tmp_path, str(tmp_path / "frames.npy"))
    assert (tmp_path / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


def test_the_random_state_of_the_caller_does_not_matter_and_is_left_alone(tmp_path, finished):
    th.manual_seed(123)
    np.random.seed(123)
    torch_state, numpy_state = th.get_rng_state(), np.random.get_state()[1].copy()
    train(tmp_path)
    assert th.equal(torch_state, th.get_rng_state()) and (numpy_state == np.random.get_state()[1]).all()
    assert (tmp_path / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()
    train(tmp_path, seed=1)
    assert (tmp_path / "encoder.safetensors").read_bytes() != (finished / "encoder.safetensors").read_bytes()


@pytest.mark.parametrize("step", [STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH + 3, 2 * STEPS_PER_EPOCH + 1])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, finished, monkeypatch, step):
    monkeypatch.setattr(module, "tqdm", interrupt_at(step, raise_interrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert names(tmp_path) == (["encoder.checkpoint.pt"] if step >= STEPS_PER_EPOCH else [])
    monkeypatch.undo()
    train(tmp_path)
    assert names(tmp_path) == ["encoder.json", "encoder.png", "encoder.safetensors"]
    assert (tmp_path / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()
    assert history(tmp_path) == history(finished)


def test_a_killed_process_can_be_continued_to_the_same_bits(tmp_path, finished):
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import torch
        torch.set_num_threads(1)
        import test_pretrain as t
        t.module.tqdm = t.interrupt_at({STEPS_PER_EPOCH + 3}, lambda: os.kill(os.getpid(), signal.SIGKILL))
        t.train(t.Path({str(tmp_path)!r}))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert names(tmp_path) == ["encoder.checkpoint.pt"]
    train(tmp_path)
    assert (tmp_path / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


def test_an_interrupt_while_the_result_is_written_costs_nothing(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(module, "save_encoder", lambda *_: raise_interrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(module._Trainer, "run_epoch", lambda *_: pytest.fail("trained again"))
    train(tmp_path)
    assert (tmp_path / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


@pytest.fixture
def checkpointed(tmp_path, monkeypatch):
    """A folder with the checkpoint of the first epoch."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "tqdm", interrupt_at(STEPS_PER_EPOCH + 1, raise_interrupt))
        train(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"learning_rate": 1e-4}, "learning_rate is 0.0001 here and 0.003 in the file"),
        ({"n_epochs": 4}, "n_epochs is 4 here and 3 in the file"),
        ({"seed": 1}, "seed is 1 here and 0 in the file"),
        ({"latent_dim": 5}, "settings.latent_dim is 5 here and 4 in the file"),
        ({"dataset": FRAMES[::-1]}, "dataset.checksum is"),
        ({"dataset": FRAMES[:-1]}, "dataset.shape is"),
        ({"dataset": np.zeros((N_ROWS, 4)) + np.arange(4) + np.arange(N_ROWS)[:, None], "n_frames": 1}, "dataset.dtype is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_run_names_what_differs(checkpointed, finished, changed, named):
    before = (checkpointed / "encoder.checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="resume=False") as caught:
        train(checkpointed, **changed)
    assert named in str(caught.value)
    assert (checkpointed / "encoder.checkpoint.pt").read_bytes() == before


def test_starting_over_ignores_the_checkpoint(checkpointed):
    train(checkpointed, seed=1, resume=False)
    assert history(checkpointed)["seed"] == 1
    assert not (checkpointed / "encoder.checkpoint.pt").exists()


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b""),
        lambda path: th.save({"weights": th.zeros(1)}, path),
        lambda path: th.save(Payload(path.with_name("victim")), path),
    ],
    ids=["truncated", "empty", "foreign", "malicious"],
)
def test_a_damaged_checkpoint_is_refused_and_not_run(checkpointed, write):
    write(checkpointed / "encoder.checkpoint.pt")
    with pytest.raises(ValueError, match=r"is not a whole checkpoint .*resume=False") as caught:
        train(checkpointed)
    assert "\n" not in str(caught.value)
    assert not (checkpointed / "victim").exists()


@pytest.mark.parametrize("poisoned", ["train", "validation"])
def test_a_loss_that_is_not_finite_stops_and_leaves_the_checkpoint(checkpointed, monkeypatch, poisoned):
    before = (checkpointed / "encoder.checkpoint.pt").read_bytes()
    losses = LatentExtractor.auxiliary_losses

    def poison(self, observations):
        factor = math.nan if self.training == (poisoned == "train") else 1.0
        return {**(found := losses(self, observations)), "kl": factor * found["kl"]}

    monkeypatch.setattr(LatentExtractor, "auxiliary_losses", poison)
    step = STEPS_PER_EPOCH if poisoned == "train" else 2 * STEPS_PER_EPOCH
    with pytest.raises(FloatingPointError, match=rf"'kl' is not finite .* at step {step};"):
        train(checkpointed)
    assert names(checkpointed) == ["encoder.checkpoint.pt"]
    assert (checkpointed / "encoder.checkpoint.pt").read_bytes() == before


def test_a_divergent_run_is_noticed(tmp_path):
    with pytest.raises(FloatingPointError, match="'recon' is not finite"):
        train(tmp_path, learning_rate=1e30)
    assert not (tmp_path / "encoder.safetensors").exists()


def test_schedules_of_coefficients_follow_the_epochs(tmp_path):
    train(tmp_path, n_epochs=4, coefs={"kl": LinearSchedule(0.0, 1.0, 1.0)}, validation_fraction=0)
    coefs = [(row["train/loss"] - row["train/recon"]) / row["train/kl"] for row in history(tmp_path)["epochs"]]
    assert coefs == pytest.approx([0, 0.25, 0.5, 0.75], abs=1e-4)
    assert not any(name.startswith("validation") for row in history(tmp_path)["epochs"] for name in row)


@pytest.mark.parametrize("preset", ["ae", "rae", "vae", "beta_vae", "ppo_vae"])
@pytest.mark.parametrize("shape", [(3, 32, 40), (4, 32, 32), (32, 32, 1), (7,)], ids=str)
def test_every_preset_with_tasks_trains_on_every_kind_of_row(tmp_path, preset, shape):
    generator = np.random.default_rng(0)
    rows = (
        generator.normal(size=(40, *shape)) if len(shape) == 1 else generator.integers(256, size=(40, *shape), dtype=np.uint8)
    )
    overrides = {"n_frames": 1} if preset == "ppo_vae" and shape[0] in (3, 7) else {}
    extractor = train(tmp_path, rows, preset=preset, n_epochs=1, **overrides)
    assert all(parameter.isfinite().all() for parameter in extractor.parameters())
    assert (tmp_path / "encoder.png").exists() == (len(shape) == 3)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"preset": "cnn"}, ValueError, "preset 'cnn' has no task"),
        ({"preset": "ppo_fixed"}, ValueError, "preset 'ppo_fixed' has no task .*use 'ppo_vae'"),
        ({"preset": "ppo_fixed", "tasks": {"recon": {}}}, ValueError, "or freezes it"),
        ({"preset": "ppo_adapt"}, ValueError, "preset 'ppo_adapt' has no task"),
        ({"preset": "vea"}, ValueError, "did you mean 'vae'"),
        ({"coefs": {"recon": 0.0, "kl": 0.0}}, ValueError, "has no task"),
        ({"latent": 4}, TypeError, "did you mean 'latent_dim'"),
        ({"kappa": 2.0}, ValueError, "kappa=2.0 means nothing before RL"),
        ({"frozen": True}, ValueError, "frozen=True means nothing"),
        ({"latent_dim": 33}, ValueError, "latent_dim=33"),
        ({"n_epochs": 0}, ValueError, "n_epochs=0"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate=-1.0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate=nan"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction=1.0"),
        ({"validation_fraction": -0.1}, ValueError, "validation_fraction=-0.1"),
        ({"validation_fraction": 0.999}, ValueError, "leaves none of 200 rows"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"path": "encoder.pt"}, ValueError, "must end in '.safetensors'"),
        ({"dataset": "none.npy"}, FileNotFoundError, "collect_frames"),
        ({"dataset": FRAMES[:, 0]}, ValueError, r"dataset of uint8 \(200, 32, 32\)"),
        ({"dataset": FRAMES.repeat(3, 1)}, ValueError, "n_frames=1 or n_frames=3"),
        ({"n_frames": 4}, ValueError, "n_frames=4 does not divide the 1"),
        ({"pretrained": "none.safetensors"}, FileNotFoundError, "none.safetensors"),
    ],
    ids=lambda value: str(next(iter(value.items())))[:30] if isinstance(value, dict) else "",
)
def test_bad_input_fails_before_training(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module._Trainer, "run_epoch", lambda *_: pytest.fail("training began"))
    with pytest.raises(error, match=message):
        train(tmp_path, **arguments)
    assert not names(tmp_path)


def test_frames_of_another_shape_than_the_encoder_to_start_from_are_refused(tmp_path):
    other = LatentExtractor(
        spaces.Box(0, 255, (1, 40, 40), np.uint8), trunk="mlp", trunk_kwargs={"net_arch": [32]}, latent_dim=4
    )
    save_encoder(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"frame_shape is \[1, 32, 32\] here and \[1, 40, 40\] in the file"):
        train(tmp_path, pretrained=tmp_path / "other.safetensors")


def test_the_progress_bar_shows_epochs_and_losses(tmp_path, capsys):
    train(tmp_path, progress_bar=True)
    shown = capsys.readouterr().err
    assert f"epoch {N_EPOCHS}/{N_EPOCHS}: loss" in shown and "recon=" in shown
    assert f"{N_EPOCHS * STEPS_PER_EPOCH}/{N_EPOCHS * STEPS_PER_EPOCH}" in shown
