"""What is decoded is what a slow loop decodes; pictures show it; the model stays as it was."""

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from matplotlib.axes import Axes
from PIL import Image
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from unchanged import assert_unchanged, snapshot

from sb3_latent import get_extractor, latent_kwargs
from sb3_latent.episodes import Episode, play_episode
from sb3_latent.figures import contact_sheet
from sb3_latent.latents import (
    decoding,
    informative_dimensions,
    interpolation,
    interpolation_sheet,
    reconstruction,
    reconstruction_sheet,
    trajectory,
    trajectory_plot,
    traversal,
    traversal_sheet,
)
from sb3_latent.representation import kl_per_dimension


class Images(NoiseImageEnv):
    def __init__(self, space):
        super().__init__()
        self.observation_space = space

    def _draw(self):
        self._image = np.ones(1)
        self.observation_space.seed(int(self.np_random.integers(1000)))
        return self.observation_space.sample()


def image(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


PAIR = spaces.Dict({"camera": image(12, 12, 1), "joints": spaces.Box(-1, 1, (3,), np.float32), "top": image(12, 12, 3)})
CASES = {
    "vae": (image(1, 12, 12), {"preset": "vae"}),
    "ae": (image(1, 12, 12), {"preset": "ae"}),
    "stack": (image(3, 12, 12), {"preset": "vae", "per_frame": True, "n_frames": 3}),
    "channels last": (image(12, 12, 3), {"preset": "vae"}),
    "dict": (PAIR, {"preset": "vae"}),
}


def make(case):
    space, settings = CASES[case]
    env = Images(space)
    if isinstance(space, spaces.Dict):
        kwargs = {**tiny(**settings), "net_arch": [8]}
        return PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs, seed=0, device="cpu")
    return make_model("PPO", tiny(**settings), env=env)


def batch(model, n=5):
    """Raw, as the environment of the model has them."""
    space = model.get_env().envs[0].observation_space
    space.seed(1)
    rows = [space.sample() for _ in range(n)]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]} if isinstance(rows[0], dict) else np.stack(rows)


def row(observations, i):
    return {k: v[i] for k, v in observations.items()} if isinstance(observations, dict) else observations[i]


def latent_by_hand(model, observation):
    """Latent of one observation, channels first, scaled by hand."""

    def prepared(array):
        tensor = th.as_tensor(array).float()[None]
        if tensor.ndim == 4:
            tensor = (tensor if tensor.shape[-1] == 12 else tensor.permute(0, 3, 1, 2)) / 255
        return tensor

    inputs = {k: prepared(v) for k, v in observation.items()} if isinstance(observation, dict) else prepared(observation)
    with th.no_grad():
        return get_extractor(model).encode(inputs)


def picture_by_hand(model, z):
    """Of one latent (n,), the newest frame as (H, W, C)."""
    with th.no_grad():
        decoded = get_extractor(model).decode(z[None])

    def drawn(images):
        pixels = np.rint(255 * images[0].clamp(0, 1).double().numpy()).astype(np.uint8).transpose(1, 2, 0)
        spec = get_extractor(model).encoders.specs.get("observation")
        return pixels[..., -1:] if spec is not None and spec.n_frames > 1 else pixels

    if isinstance(decoded, dict):
        return {key: drawn(images) for key, images in decoded.items() if images.ndim == 4}
    return drawn(decoded)


def same(pictures, expected):
    """Rounding may fall on either side."""
    if isinstance(pictures, dict):
        assert pictures.keys() == expected.keys()
        for key in pictures:
            same(pictures[key], expected[key])
        return
    assert pictures.dtype == np.uint8 and pictures.shape == expected.shape
    assert np.abs(pictures.astype(int) - expected).max() <= 1


def stacked(pictures):
    first = pictures[0]
    return {key: np.stack([one[key] for one in pictures]) for key in first} if isinstance(first, dict) else np.stack(pictures)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(decoding, "BATCH_SIZE", 3)


@pytest.mark.parametrize("case", CASES)
def test_a_reconstruction_is_that_of_each_observation_alone(case):
    model = make(case)
    observations = batch(model)
    expected = [picture_by_hand(model, latent_by_hand(model, row(observations, i)).mean[0]) for i in range(5)]
    found = reconstruction(model, observations)
    same(found, stacked(expected))
    some = found["camera"] if isinstance(found, dict) else found
    assert len(np.unique(some.reshape(5, -1), axis=0)) == 5
    if case == "dict":
        assert set(found) == {"camera", "top"}


@pytest.mark.parametrize("case", CASES)
def test_a_traversal_is_that_of_a_slow_loop(case):
    model = make(case)
    observations = batch(model)
    latents = [latent_by_hand(model, row(observations, i)) for i in range(5)]
    means = th.cat([latent.mean for latent in latents])
    is_gaussian = latents[0].log_var is not None
    centre = th.zeros(means.shape[1]) if is_gaussian else means.mean(0)
    unit = th.ones(means.shape[1]) if is_gaussian else (means - means.mean(0)).square().sum(0).div(4).sqrt()
    # The last ones draw the newest frame of a stack.
    dimensions, values = [means.shape[1] - 1, 0 if case != "stack" else means.shape[1] - 3], [-2.0, 0.5, 40.0]
    expected = []
    for dimension in dimensions:
        of_dimension = []
        for value in values:
            z = means[0].clone()
            z[dimension] = centre[dimension] + value * unit[dimension]
            of_dimension.append(picture_by_hand(model, z))
        expected.append(stacked(of_dimension))
    found = traversal(model, observations, dimensions, values)
    same(found, stacked(expected))
    some = found["top"] if isinstance(found, dict) else found
    assert not np.array_equal(some[0], some[1]) and not np.array_equal(some[0, 0], some[0, 2])


def test_values_go_from_minus_three_to_three():
    model = make("vae")
    observations = batch(model)
    np.testing.assert_array_equal(
        traversal(model, observations, [1]), traversal(model, observations, [1], [-3, -2, -1, 0, 1, 2, 3])
    )
    np.testing.assert_array_equal(
        traversal(model, observations, [1], n_values=3), traversal(model, observations, [1], [-3, 0, 3])
    )


def test_dimensions_are_those_of_the_largest_kl():
    model = make("vae")
    head = get_extractor(model).encoders["observation"].head
    with th.no_grad():
        for parameter in head.parameters():
            parameter.mul_(0)
    shifts = dict(enumerate((0.5, 3.0, 0.0, 2.0)))
    with th.no_grad():
        biases = next(parameter for parameter in head.parameters() if parameter.ndim == 1)
        for dimension, shift in shifts.items():
            biases[dimension] = shift
    observations = batch(model)
    latent = latent_by_hand(model, observations[0])
    assert kl_per_dimension(latent).argsort(descending=True).tolist() == [1, 3, 0, 2]
    assert informative_dimensions(model, observations) == [1, 3, 0, 2]
    assert informative_dimensions(model, observations[:1], 2) == [1, 3]
    np.testing.assert_array_equal(traversal(model, observations), traversal(model, observations, [1, 3, 0, 2]))


def test_dimensions_of_a_deterministic_head_are_those_of_the_largest_variance():
    model = make("ae")
    observations = batch(model, 9)
    means = np.stack([latent_by_hand(model, one).mean[0].numpy() for one in observations])
    assert informative_dimensions(model, observations) == np.argsort(-means.var(0)).tolist()


def test_dimensions_of_what_is_no_image_change_none():
    model = make("dict")
    widths = get_extractor(model).encoders.widths
    of_joints = set(range(widths[0], widths[0] + widths[1]))
    found = informative_dimensions(model, batch(model), 100)
    assert sorted(found) == sorted(set(range(sum(widths))) - of_joints)
    stack = make("stack")
    assert sorted(informative_dimensions(stack, batch(stack), 100)) == [8, 9, 10, 11]


@pytest.mark.parametrize("case", CASES)
def test_an_interpolation_goes_from_one_reconstruction_to_the_other(case):
    model = make(case)
    observations = batch(model)
    first, second = row(observations, 0), row(observations, 1)
    means = [latent_by_hand(model, one).mean[0] for one in (first, second)]
    expected = stacked([picture_by_hand(model, means[0] + share * (means[1] - means[0])) for share in (0, 0.25, 0.5, 0.75, 1)])
    same(interpolation(model, first, second, 5), expected)


def test_the_model_stays_as_it_was():
    model = make("vae")
    observations = batch(model)
    episode = play_episode(model, make_vec_env(lambda: Images(image(1, 12, 12)), 1), 20)
    next(iter(model.policy.children())).train()
    for parameter in list(model.policy.parameters())[:3]:
        parameter.grad = th.ones_like(parameter)
    before = snapshot(model)
    reconstruction(model, observations)
    traversal(model, observations)
    interpolation(model, observations[0], observations[1])
    informative_dimensions(model, observations)
    trajectory(model, episode)
    trajectory_plot(model, episode, colour="value")
    traversal_sheet(model, observations)
    assert_unchanged(model, before)


def test_encoder_and_decoder_are_in_evaluation_mode(monkeypatch):
    model = make("vae")
    observations = batch(model)
    extractor, flags = get_extractor(model), []
    for name in ("encode", "decode"):

        def spy(inputs, original=getattr(extractor, name)):  # noqa: B008
            flags.extend(module.training for module in extractor.modules())
            return original(inputs)

        monkeypatch.setattr(extractor, name, spy)
    model.policy.train()
    traversal(model, observations)
    assert flags and not any(flags) and model.policy.training


def test_what_cannot_be_decoded_is_one_line():
    fine, observations = make("vae"), batch(make("vae"))
    with pytest.raises(TypeError, match="PPO has no LatentExtractor; build it with"):
        reconstruction(make_model("PPO", {}, policy="MlpPolicy"), observations)
    with pytest.raises(ValueError, match="no task reconstructs"):
        traversal(make_model("PPO", tiny("cnn")), observations)
    vectors = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, policy_kwargs=latent_kwargs("ae", latent_dim=2))
    with pytest.raises(ValueError, match="reconstructs vectors only"):
        reconstruction(vectors, np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="dimension=4: the latent has dimensions 0 to 3"):
        traversal(fine, observations, [0, 4])
    with pytest.raises(ValueError, match=r"values=\[\] varies nothing"):
        traversal(fine, observations, values=[])
    with pytest.raises(ValueError, match="n=1 must be an integer of at least 2"):
        interpolation(fine, observations[0], observations[1], 1)
    with pytest.raises(ValueError, match=r"deterministic head has no prior .*; pass a batch"):
        traversal(make("ae"), observations[:1])


def of_latents(latents):
    """An episode of a model that reads vectors as they are."""
    return Episode(
        latents.astype(np.float32), np.zeros(len(latents)), np.zeros(len(latents)), np.zeros(len(latents), dtype=np.bool_)
    )


def reader(n):
    space = spaces.Box(-50, 50, (n,), np.float32)
    return DQN("MlpPolicy", Images(space), buffer_size=10, policy_kwargs={"net_arch": [4]}, device="cpu")


@pytest.mark.parametrize("n", [2, 5])
def test_a_trajectory_is_the_two_widest_directions(n):
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(n, n)))
    scales = np.array([9.0, 3.0, 0.5, 0.2, 0.1])[:n]
    latents = (rng.normal(size=(40, n)) * scales) @ rotation.T + 7
    found = trajectory(reader(n), of_latents(latents))
    centred = latents - latents.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T
    signs = np.sign((found.coordinates * expected).sum(0))
    np.testing.assert_allclose(found.coordinates * signs, expected, atol=1e-4)
    np.testing.assert_allclose(found.explained, (singular**2 / (singular**2).sum())[:2], rtol=1e-4)


def test_a_latent_of_one_dimension_moves_on_a_line():
    latents = np.arange(6.0)[:, None]
    found = trajectory(reader(1), of_latents(latents))
    np.testing.assert_allclose(np.abs(found.coordinates), np.c_[np.abs(latents - 2.5), np.zeros(6)], atol=1e-5)
    np.testing.assert_allclose(found.explained, [1, 0])


def test_no_way_is_one_line():
    with pytest.raises(ValueError, match="an episode of 1 moments has no way"):
        trajectory(reader(2), of_latents(np.zeros((1, 2))))
    with pytest.raises(ValueError, match="latents of all 3 moments are the same"):
        trajectory(reader(2), of_latents(np.ones((3, 2))))
    with pytest.raises(ValueError, match="unknown colour 'tiem'; did you mean 'time'"):
        trajectory_plot(reader(2), of_latents(np.eye(2)), colour="tiem")


@pytest.mark.parametrize("name", ["PPO", "RecurrentPPO", "SAC"])
def test_a_trajectory_is_coloured_by_time_or_value(name, monkeypatch, tmp_path):
    points = []
    scatter = Axes.scatter

    def spy(axes, x, y, **kwargs):
        points.append((np.c_[x, y], np.asarray(kwargs["c"])))
        return scatter(axes, x, y, **kwargs)

    monkeypatch.setattr(Axes, "scatter", spy)
    model = make_model(name, tiny("vae"))
    episode = play_episode(model, make_vec_env(lambda: NoiseImageEnv(name != "SAC"), 1), 30)
    by_time = trajectory_plot(model, episode, tmp_path / "way.png")
    by_value = trajectory_plot(model, episode, colour="value")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "way.png")), by_time)
    assert not np.array_equal(by_time, by_value)
    for xy, _ in points:
        np.testing.assert_allclose(xy, trajectory(model, episode).coordinates)
    assert points[0][1].tolist() == list(range(len(episode)))
    values = points[1][1]
    assert values.shape == (len(episode),) and len(np.unique(values)) == len(episode)
    if name == "PPO":
        with th.no_grad():
            oracle = model.policy.predict_values(th.as_tensor(episode.observations)).flatten().numpy()
        np.testing.assert_allclose(values, oracle, rtol=1e-5)


@pytest.fixture
def sheets(monkeypatch):
    drawn = []

    def spy(rows, path=None):
        drawn.append(rows)
        return contact_sheet(rows, path)

    monkeypatch.setattr("sb3_latent.latents.sheets.contact_sheet", spy)
    return drawn


def test_a_reconstruction_sheet_shows_what_was_seen(sheets, tmp_path):
    model = make("stack")
    observations = batch(model)
    sheet = reconstruction_sheet(model, observations, tmp_path / "sheet.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)
    frames, decoded = sheets[0].values()
    assert list(sheets[0]) == ["newest frame", "reconstruction"]
    np.testing.assert_array_equal(np.stack(frames), observations[:, -1:].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(np.stack(decoded), reconstruction(model, observations))


def test_a_traversal_sheet_names_dimensions_and_values(sheets):
    model = make("vae")
    observations = batch(model)
    traversal_sheet(model, observations, dimensions=[2, 0], n_values=3)
    first, *rows = sheets[0].items()
    assert first[0] == "newest frame, reconstruction" and len(first[1]) == 2
    np.testing.assert_array_equal(first[1][0], observations[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(first[1][1], reconstruction(model, observations)[0])
    assert [title for title, _ in rows] == [f"dimension {d} at -3, 0, 3 standard deviations of the prior" for d in (2, 0)]
    np.testing.assert_array_equal(np.stack([row for _, row in rows]), traversal(model, observations, [2, 0], n_values=3))
    traversal_sheet(make("ae"), batch(make("ae")))
    assert len(sheets[1]) == 5 and all(title.endswith("standard deviations of the batch") for title in list(sheets[1])[1:])


def test_sheets_of_several_images_have_rows_for_each(sheets):
    model = make("dict")
    observations = batch(model)
    reconstruction_sheet(model, observations)
    traversal_sheet(model, observations, dimensions=[0])
    interpolation_sheet(model, row(observations, 0), row(observations, 1))
    assert list(sheets[0]) == ["camera: newest frame", "camera: reconstruction", "top: newest frame", "top: reconstruction"]
    assert [len(rows) for rows in sheets[1:]] == [4, 4]
    np.testing.assert_array_equal(sheets[0]["top: newest frame"][3], observations["top"][3])
    np.testing.assert_array_equal(sheets[2]["camera: first and second frame"][1], observations["camera"][1])


@pytest.mark.parametrize("axes", [(), (1,)])
def test_an_interpolation_sheet_shows_both_ends(sheets, axes):
    model = make("vae")
    first, second = (one.reshape(*axes, *one.shape) for one in batch(model)[:2])
    interpolation_sheet(model, first, second, n=4)
    ends, way = sheets[0].values()
    np.testing.assert_array_equal(np.stack(ends), batch(model)[:2].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(np.stack(way), interpolation(model, first, second, 4))
