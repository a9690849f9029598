"""Dreams as pictures: sheets, error curves, and videos as GIF or MP4."""

from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch as th
from matplotlib.colors import to_rgb
from PIL import Image

from sb3_latent.checks import whole_number
from sb3_latent.dreams import Dreams, OpenLoopErrors
from sb3_latent.figures import PALETTE, Picture, contact_sheet, learning_curve
from sb3_latent.files import atomic_path
from sb3_latent.saliency import newest_pictures

_LEGEND = {"dream": "dream", "posterior": "posterior, which sees each one", "repeat": "last one seen, repeated"}
_N_COLUMNS = 8
_TILE, _GAP = 128, 4
_SEEN, _DREAMT = (np.rint(255 * np.array(to_rgb(colour))).astype(np.uint8) for colour in ("white", PALETTE[1]))


def error_curves(errors: OpenLoopErrors, path: str | Path | None = None) -> Picture:
    """
    Draw errors against the horizon: of frames, and below them of rewards, if there are any.

    :param errors: from :func:`~sb3_latent.dreams.open_loop_errors`.
    :param path: PNG file to write; None writes none.
    :return: the picture, (height, width, 3).
    """
    pictures = [
        learning_curve(
            {_LEGEND[name]: [(np.arange(1, len(values) + 1), values)] for name, values in curves.items()},
            title=f"Open-loop prediction of {what}",
            xlabel="Steps after the last frame seen",
            ylabel="Mean squared error",
        )
        for what, curves in errors._asdict().items()
        if curves
    ]
    picture = np.concatenate(pictures)
    if path is not None:
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    return picture


def dream_sheet(dreams: Dreams, path: str | Path | None = None, row: int = 0, n_channels: int | None = None) -> Picture:
    """
    Truth over dream over their absolute difference, side by side in time: up to 8 moments of the dream, evenly spaced from its
    first to its last.

    :param dreams: of images.
    :param path: PNG file to write; None writes none.
    :param row: which stretch.
    :param n_channels: channels of one frame of a stack, see :func:`~sb3_latent.saliency.newest_frame`.
    :return: the sheet, (height, width, 3).
    :raises ValueError: if frames are no images.
    """
    horizon = dreams.frames.shape[1] - dreams.n_prefix
    steps = np.unique(np.linspace(1, horizon, min(horizon, _N_COLUMNS)).round().astype(int))
    truth, dreamt, difference = (
        [tiles[dreams.n_prefix + step - 1] for step in steps] for tiles in _tiles(dreams, row, n_channels)
    )
    after = f"truth, {', '.join(map(str, steps))} steps after the last frame seen"
    return contact_sheet({after: truth, "dream": dreamt, "|truth - dream|": difference}, path)


def dream_video(dreams: Dreams, row: int = 0, n_channels: int | None = None) -> Picture:
    """
    Truth over dream over their absolute difference, one picture a step; the bars between them are white while the model sees
    frames, which it reconstructs, and orange while it dreams.

    :param dreams: of images.
    :param row: which stretch.
    :param n_channels: as for :func:`dream_sheet`.
    :return: (L, height, width, 3), for :func:`write_video`; pixels are enlarged by a whole factor, and the sides are even.
    :raises ValueError: if frames are no images.
    """
    parts = [np.stack(tiles) for tiles in _tiles(dreams, row, n_channels)]
    length, height, width, _ = parts[0].shape
    # Even, for most MP4 have colours at half the resolution.
    factor = 2 * max(1, round(_TILE / max(height, width) / 2))
    bars = np.empty((length, _GAP, factor * width, 3), np.uint8)
    bars[: dreams.n_prefix], bars[dreams.n_prefix :] = _SEEN, _DREAMT
    large = [np.broadcast_to(part, (*part.shape[:3], 3)).repeat(factor, 1).repeat(factor, 2) for part in parts]
    return np.concatenate([large[0], bars, large[1], bars, large[2]], axis=1)


def write_video(video: Picture, path: str | Path, fps: int = 10) -> None:
    """
    Write a file, whole or not at all.

    :param video: (L, height, width, 3).
    :param path: ends in ``.gif``, or in ``.mp4``, which needs imageio and its ffmpeg: ``pip install "imageio[ffmpeg]"``.
    :param fps: frames a second.
    :raises ValueError: if the ending is another one, or ``fps`` no positive integer.
    :raises ImportError: if imageio or its ffmpeg is missing; says what to install.
    """
    path, fps = Path(path), whole_number("fps", fps)
    check_video(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".gif":
            temporary.write_bytes(gif(video, fps))
        else:
            imageio = import_module("imageio.v3")
            imageio.imwrite(temporary, video, plugin="FFMPEG", fps=fps, macro_block_size=2)


def check_video(path: Path) -> None:
    """
    Whether :func:`write_video` can write a file, to be asked before there is a video.

    :param path: of the file.
    :raises ValueError: as there.
    :raises ImportError: as there.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"{path.name} is to be a video, but ends in neither .gif nor .mp4.")
    missing = [name for name in ("imageio", "imageio_ffmpeg") if find_spec(name) is None]
    if path.suffix == ".mp4" and missing:
        raise ImportError(
            f'{path.name} needs {" and ".join(missing)}: pip install "imageio[ffmpeg]"; a .gif needs nothing more.'
        )


def gif(video: Picture, fps: int = 10) -> bytes:
    """
    :param video: (L, height, width, 3).
    :param fps: frames a second; the format counts in hundredths of a second.
    :return: a GIF that plays again and again, as a file holds it.
    """
    first, *others = [Image.fromarray(picture) for picture in video]
    stream = BytesIO()
    first.save(stream, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return stream.getvalue()


def _tiles(dreams: Dreams, row: int, n_channels: int | None) -> list[list[npt.NDArray[np.uint8]]]:
    """Truth, dream and difference, a picture for each frame."""
    if dreams.frames.ndim != 5:
        raise ValueError(f"frames of shape {dreams.frames.shape[2:]} are no images to draw; use error_curves instead.")
    truth, dreamt = (th.as_tensor(frames[row]).clamp(0, 1) for frames in (dreams.frames, dreams.dreamt))
    return [newest_pictures(images, n_channels) for images in (truth, dreamt, (truth - dreamt).abs())]
