"""Pictures hold the data they were given, and are written whole."""

import csv
import json

import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.axes import Axes
from PIL import Image
from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_latent.figures import contact_sheet, learning_curve, read_monitor


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 255, shape, dtype=np.uint8)


def find(sheet, image, factor):
    """Where ``image``, enlarged by ``factor``, stands pixel for pixel in ``sheet``: (top, left)."""
    image = image[..., None] if image.ndim == 2 else image
    block = np.kron(image, np.ones((factor, factor, 1), np.uint8))
    block = np.broadcast_to(block, (*block.shape[:2], 3))
    height, width, _ = block.shape
    for top, left in np.argwhere((sheet == block[0, 0]).all(axis=-1)):
        if np.array_equal(sheet[top : top + height, left : left + width], block):
            return top, left
    raise AssertionError("the image is not in the sheet")


def test_every_image_stands_in_the_sheet_pixel_for_pixel():
    frames = [noise(84, 84, 1, seed=seed) for seed in range(3)]
    colours = [noise(36, 30, 3, seed=seed) for seed in range(2)]
    large = noise(300, 400, seed=9)
    sheet = contact_sheet({"frames": frames, "colours": colours, "large": [large]})
    assert sheet.dtype == np.uint8 and sheet.shape[-1] == 3
    tops, lefts = zip(*[find(sheet, frame, 3) for frame in frames], strict=True)
    assert len(set(tops)) == 1 and list(lefts) == sorted(set(lefts))
    below, _ = find(sheet, colours[0], 7)
    assert find(sheet, colours[1], 7)[0] == below > tops[0] + 3 * 84
    assert find(sheet, large, 1)[0] > below + 7 * 36
    assert (sheet[[0, -1]] == 255).all() and (sheet[:, [0, -1]] == 255).all()


def test_a_long_title_widens_the_sheet():
    image = noise(36, 36)
    title = "W" * 60
    titled, plain = contact_sheet({title: [image]}), contact_sheet({"": [image]})
    assert titled.shape[1] > plain.shape[1]
    assert (titled[:, -8:] == 255).all()
    assert (titled < 255).any(axis=-1).sum() > (plain < 255).any(axis=-1).sum()


def test_the_png_is_the_returned_sheet(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    sheet = contact_sheet({"a": [noise(36, 36, 3)]}, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), sheet)
    assert list(path.parent.iterdir()) == [path]
    first = path.read_bytes()
    contact_sheet({"a": [noise(36, 36, 3)]}, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "image",
    [np.zeros((36, 36)), noise(36, 36, 2), noise(36), noise(2, 36, 36, 3)],
    ids=["float", "2 channels", "1-D", "batch"],
)
def test_an_image_that_cannot_be_drawn_is_named(image):
    with pytest.raises(ValueError, match=r"row 'recon': image of .* need uint8"):
        contact_sheet({"recon": [image]})


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet({"frames": []})
    with pytest.raises(ValueError, match="at least one method"):
        learning_curve({})


@pytest.fixture
def drawn(monkeypatch):
    """What reaches the axes: label -> mean, and the bands."""
    lines, bands = {}, []
    plot, fill_between = Axes.plot, Axes.fill_between

    def spy_plot(self, x, y, **kwargs):
        lines[kwargs["label"]] = (x, y)
        return plot(self, x, y, **kwargs)

    def spy_fill(self, x, low, high, **kwargs):
        bands.append((x, low, high))
        return fill_between(self, x, low, high, **kwargs)

    monkeypatch.setattr(Axes, "plot", spy_plot)
    monkeypatch.setattr(Axes, "fill_between", spy_fill)
    return lines, bands


def test_the_line_is_the_mean_of_the_seeds_and_the_band_their_range(drawn):
    lines, bands = drawn
    seeds = [([0, 100], [0, 10]), ([10, 60, 110], [4, 24, 44]), ([5, 95], [-1, -1])]
    picture = learning_curve({"vae": seeds, "cnn": [([0, 50], [1, 2])]}, title="TinyBall", ylabel="return")
    assert picture.shape == (675, 1200, 3)
    steps, mean = lines["vae (3 seeds)"]
    assert steps[0] == 10 and steps[-1] == 95
    values = np.stack([steps / 10, 0.4 * steps, -np.ones_like(steps)])
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-12)
    ((_, low, high),) = bands
    np.testing.assert_allclose(low, values.min(0), atol=1e-12)
    np.testing.assert_allclose(high, values.max(0), atol=1e-12)
    np.testing.assert_allclose(lines["cnn"][1], 1 + lines["cnn"][0] / 50)


def test_a_dozen_methods_are_told_apart(monkeypatch):
    looks = []
    plot = Axes.plot

    def spy(self, *args, **kwargs):
        result = plot(self, *args, **kwargs)
        looks.append((result[0].get_color(), result[0].get_linestyle()))
        return result

    monkeypatch.setattr(Axes, "plot", spy)
    learning_curve({str(index): [([0, 1], [0, index])] for index in range(12)})
    assert len(set(looks)) == 12 == len(looks)


def test_no_figure_stays_with_pyplot(tmp_path):
    learning_curve({"vae": [([0, 1], [0, 1])]}, tmp_path / "curve.png")
    contact_sheet({"a": [noise(36, 36)]})
    assert Gcf.get_num_fig_managers() == 0
    assert Image.open(tmp_path / "curve.png").size == (1200, 675)


def test_seeds_that_share_no_step_are_an_error():
    with pytest.raises(ValueError, match=r"'vae': its seeds share no step \(latest start 20, earliest end 10\)"):
        learning_curve({"vae": [([0, 10], [0, 0]), ([20, 30], [0, 0])]})
    with pytest.raises(ValueError, match="'vae': every seed needs at least one value"):
        learning_curve({"vae": [([], [])]})


def write_monitor(path, t_start, rows):
    with path.open("w", newline="") as file:
        file.write("#" + json.dumps({"t_start": t_start, "env_id": "x"}) + "\n")
        csv.writer(file).writerows([("r", "l", "t"), *rows])


def test_read_monitor_joins_the_copies_in_time(tmp_path):
    write_monitor(tmp_path / "0.monitor.csv", 100.0, [(1.0, 10, 1.0), (3.0, 30, 3.0)])
    write_monitor(tmp_path / "1.monitor.csv", 100.5, [(2.0, 20, 1.5), (6.0, 40, 9.0)])
    steps, returns = read_monitor(tmp_path, window=2)
    np.testing.assert_array_equal(steps, [10, 30, 60, 100])
    np.testing.assert_allclose(returns, [1.0, 1.5, 2.5, 4.5])
    assert steps.dtype == np.int64


def test_read_monitor_without_files(tmp_path):
    with pytest.raises(LoadMonitorResultsError, match="No monitor files"):
        read_monitor(tmp_path)
