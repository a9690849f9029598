"""Maps of a whole episode are those of its moments; videos and sheets draw them where they belong."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from matplotlib.axes import Axes
from PIL import Image
from saliency.models import CASES, IMAGE, Idle, images, make_model, mix_flags_and_grads
from stable_baselines3 import PPO
from unchanged import assert_unchanged, snapshot

from sb3_latent.episodes import Episode
from sb3_latent.saliency import (
    LayerSimilarity,
    episode_saliency,
    episode_target,
    intensity,
    render,
    saliency,
    saliency_sheet,
    saliency_video,
    similarity_chart,
    vector_chart,
)

T = 7
RNG = np.random.default_rng(0)


def episode_of(observations, actions=None, **kwargs):
    starts = np.arange(T) % 4 == 0
    actions = np.arange(T) % 3 if actions is None else actions
    return Episode(observations, actions, np.ones(T, np.float32), starts, **kwargs)


def memory(scale):
    return tuple(scale * RNG.normal(size=(1, T, 7)).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize("name", ["DQN", "MaskablePPO", "RecurrentPPO", "SAC"])
def test_each_moment_has_its_own_action_memory_and_masks(name):
    model = make_model(CASES[name])
    mix_flags_and_grads(model)
    given = {
        "DQN": {},
        "MaskablePPO": {"action_masks": RNG.random((T, 3)) < 0.6},
        "RecurrentPPO": {"actor_memory": memory(1), "critic_memory": memory(2)},
        "SAC": {"actions": RNG.uniform(-2, 3, (T, 2)).astype(np.float32)},
    }[name]
    episode = episode_of(images(T), **given)
    before = snapshot(model)
    for target in ("value", "q" if name in ("DQN", "SAC") else "log_prob"):
        maps = episode_saliency(model, episode, target, absolute=False, batch_size=3)
        answers = episode_target(model, episode, target, batch_size=2)
        assert maps.shape == (T, *IMAGE.shape) and maps.dtype == np.float32 and answers.shape == (T,)
        for step in range(T):
            situation = {}
            if name == "RecurrentPPO":
                states = episode.critic_memory if target == "value" else episode.actor_memory
                situation = {
                    "lstm_states": tuple(th.as_tensor(state[:, [step]]) for state in states),
                    "episode_starts": episode.starts[[step]],
                }
            if name == "MaskablePPO":
                situation = {"action_masks": given["action_masks"][[step]]}
            if target != "value":
                situation["actions"] = episode.actions[[step]]
            alone = saliency(model, episode.observations[[step]], target, absolute=False, **situation)[0]
            np.testing.assert_allclose(maps[step], alone, rtol=1e-4, atol=1e-7)
    assert_unchanged(model, before)


def test_the_answer_is_what_the_model_says():
    model = make_model(CASES["PPO"])
    episode = episode_of(images(T))
    model.policy.set_training_mode(False)
    with th.no_grad():
        tensors, _ = model.policy.obs_to_tensor(episode.observations)
        values, log_probs, _ = model.policy.evaluate_actions(tensors, th.as_tensor(episode.actions))
    np.testing.assert_allclose(episode_target(model, episode), values[:, 0], rtol=1e-5)
    np.testing.assert_allclose(episode_target(model, episode, "log_prob"), log_probs, rtol=1e-5)
    assert episode_target(model, episode, "logit/*").shape == (T, 3)


def test_a_dict_has_maps_by_key():
    box = spaces.Box(-1, 1, (4,), np.float32)
    model = PPO("MultiInputPolicy", Idle(spaces.Dict({"joints": box, "goal": box}), True), device="cpu", seed=0)
    observations = {key: RNG.normal(size=(T, 4)).astype(np.float32) for key in ("goal", "joints")}
    maps = episode_saliency(model, episode_of(observations), batch_size=4)
    whole = saliency(model, observations)
    assert maps.keys() == whole.keys() == observations.keys()
    for key in maps:
        np.testing.assert_allclose(maps[key], whole[key], rtol=1e-4, atol=1e-6)


def test_one_image_of_a_dict_is_drawn():
    observations = {"near": images(T), "joints": np.zeros((T, 4), np.float32), "far": images(T, 1)}
    maps = {key: np.abs(RNG.normal(size=array.shape)) for key, array in observations.items()}
    episode = episode_of(observations)
    np.testing.assert_array_equal(
        saliency_video(episode, maps, key="far"), saliency_video(episode_of(observations["far"]), maps["far"])
    )
    alone = episode_of({key: observations[key] for key in ("near", "joints")})
    np.testing.assert_array_equal(saliency_video(alone, maps), saliency_video(episode, maps, key="near"))
    with pytest.raises(ValueError, match="has the images 'near', 'far'; say which one by key"):
        saliency_video(episode, maps)
    with pytest.raises(ValueError, match="unknown image 'joints'"):
        saliency_video(episode, maps, key="joints")
    with pytest.raises(ValueError, match="vectors and no images"):
        saliency_video(episode_of(observations["joints"]), maps["joints"])


def test_a_video_draws_the_newest_map_on_the_native_frame_with_one_scale():
    maps = np.abs(RNG.normal(size=(T, *IMAGE.shape))) * np.arange(1, T + 1)[:, None, None, None]
    pictures = RNG.integers(0, 256, (T, 51, 40, 3), dtype=np.uint8)
    episode = episode_of(images(T), pictures=pictures)
    scale = intensity(maps[:, -1])
    for style in ("blue", "heat"):
        video = saliency_video(episode, maps, style)
        assert video.shape == (T, 306, 240, 3)
        for step in range(T):
            drawn = render(pictures[step], maps[step, -1], style, scale)
            np.testing.assert_array_equal(video[step], drawn.repeat(6, 0).repeat(6, 1))
        for seen in (saliency_video(episode, maps, style, native=False), saliency_video(episode_of(images(T)), maps, style)):
            drawn = render(episode.observations[3, -1][..., None], maps[3, -1], style, scale)
            np.testing.assert_array_equal(seen[3], drawn.repeat(9, 0).repeat(9, 1))


def test_sides_of_a_video_are_even():
    episode = episode_of(images(T), pictures=np.zeros((T, 301, 203, 3), np.uint8))
    assert saliency_video(episode, np.ones((T, *IMAGE.shape))).shape == (T, 300, 202, 3)


def test_all_frames_of_a_stack_stand_side_by_side_oldest_first():
    maps = np.abs(RNG.normal(size=(T, *IMAGE.shape)))
    episode = episode_of(images(T), pictures=np.zeros((T, 36, 36, 3), np.uint8))
    video = saliency_video(episode, maps, "red", frames="all")
    small = video[:, ::9, ::9]
    assert small.shape == (T, 36, 73, 3)
    scale = intensity(maps.reshape(-1, 36, 36))
    for place, frame in ((slice(36), 0), (slice(37, None), 1)):
        expected = render(episode.observations[2, frame][..., None], maps[2, frame], "red", scale)
        np.testing.assert_array_equal(small[2, :, place], expected)
    assert (small[:, :, 36] == 255).all()
    with pytest.raises(ValueError, match="unknown frames 'old'"):
        saliency_video(episode, maps, frames="old")


def test_float_frames_are_stretched_alike_throughout():
    frames = np.linspace(-1, 1, T)[:, None, None, None] * np.ones((T, 1, 36, 36))
    video = saliency_video(episode_of(frames), np.zeros(frames.shape))
    np.testing.assert_allclose(video[:, 0, 0, 0], np.linspace(0, 255, T), atol=0.51)


def test_a_sheet_shows_moments_of_the_video(tmp_path, monkeypatch):
    rows = {}
    monkeypatch.setattr(
        "sb3_latent.saliency.episodes.contact_sheet", lambda given, path: rows.update(given) or path.write_text("sheet")
    )
    maps = np.abs(RNG.normal(size=(T, *IMAGE.shape))) * np.arange(1, T + 1)[:, None, None, None]
    episode = episode_of(images(T))
    saliency_sheet(episode, maps, "heat", tmp_path / "sheet.png", title="jacobian of value")
    video = saliency_video(episode, maps, "heat")[:, ::9, ::9]
    steps = [0, 1, 2, 4, 5, 6]
    assert list(rows) == ["step 0, 1, 2, 4, 5, 6", "jacobian of value, as heat"]
    np.testing.assert_array_equal(np.stack(rows["step 0, 1, 2, 4, 5, 6"])[..., 0], episode.observations[steps, -1])
    np.testing.assert_array_equal(np.stack(rows["jacobian of value, as heat"]), video[steps])
    rows.clear()
    saliency_sheet(episode, maps, "heat", tmp_path / "sheet.png", title="jacobian of value", frames="all")
    video = saliency_video(episode, maps, "heat", frames="all")[:, ::9, ::9]
    assert list(rows) == [f"step {step}: jacobian of value, as heat" for step in steps]
    for step, (older, newest) in zip(steps, rows.values(), strict=True):
        np.testing.assert_array_equal(older, video[step, :, :36])
        np.testing.assert_array_equal(newest, video[step, :, 37:])


@pytest.fixture
def drawn(monkeypatch):
    """What reaches the axes."""
    calls = []
    for name in ("imshow", "plot", "set_yticks"):
        method = getattr(Axes, name)

        def spy(self, *args, name=name, method=method, **kwargs):
            calls.append((name, args, kwargs))
            return method(self, *args, **kwargs)

        monkeypatch.setattr(Axes, name, spy)
    return calls


def test_vectors_are_a_heat_map_of_entries_over_time(tmp_path, drawn):
    maps = {"joints": RNG.normal(size=(T, 3)), "goal": RNG.normal(size=(T, 2))}
    stacked = np.concatenate([maps["joints"], maps["goal"]], 1).T
    picture = vector_chart(maps, np.arange(T), tmp_path / "chart.png", signed=True)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "chart.png")), picture)
    ((shown, look),) = [(args[0], kwargs) for name, args, kwargs in drawn if name == "imshow"]
    np.testing.assert_array_equal(shown, stacked)
    assert look["vmax"] == -look["vmin"] == np.quantile(np.abs(stacked), 0.99)
    assert [args[1] for name, args, _ in drawn if name == "set_yticks"] == [
        ["joints 0", "joints 1", "joints 2", "goal 0", "goal 1"]
    ]
    (answers,) = [args[0] for name, args, _ in drawn if name == "plot"]
    np.testing.assert_array_equal(answers, np.arange(T))
    drawn.clear()
    taller = vector_chart(RNG.normal(size=(T, 60)))
    ((shown, look),) = [(args[0], kwargs) for name, args, kwargs in drawn if name == "imshow"]
    assert shown.min() >= 0 == look["vmin"] and taller.shape[0] > picture.shape[0]
    assert next(args[1] for name, args, _ in drawn if name == "set_yticks")[:2] == ["0", "2"]
    assert not [name for name, *_ in drawn if name == "plot"]


def test_similarities_are_drawn_from_the_target_down(tmp_path, drawn):
    rows = [LayerSimilarity("top", 0.9, -0.5, float("nan")), LayerSimilarity("bottom", 0.1, 0.0, float("nan"))]
    picture = similarity_chart(rows, tmp_path / "chart.png", title="jacobian")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "chart.png")), picture)
    lines = [(args[0], list(args[1]), kwargs["label"]) for name, args, kwargs in drawn if name == "plot"]
    assert [(values, positions) for values, positions, _ in lines] == [([0.9, 0.1], [0, 1]), ([-0.5, 0.0], [0, 1])]
    assert "magnitudes" in lines[0][2] and "signs" in lines[1][2]
    similarity_chart([row._replace(ssim=0.3) for row in rows])
    assert [args[0] for name, args, _ in drawn if name == "plot"][-1] == [0.3, 0.3]
