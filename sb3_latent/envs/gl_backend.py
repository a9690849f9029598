"""Which OpenGL backend MuJoCo can render with on this machine."""

import importlib
import os
import subprocess
import sys

VARIABLE = "MUJOCO_GL"
# glfw comes last: it needs a screen, but macOS and Windows have nothing else.
BACKENDS = ("egl", "osmesa", "glfw")
_PROBE = "from dm_control import mujoco; mujoco.Physics.from_xml_string('<mujoco/>').render(8, 8)"


def choose_gl_backend() -> None:
    """
    Set ``MUJOCO_GL`` to the first backend that renders a picture: egl, then osmesa, then glfw. A value that is set already
    stays as it is.

    Each is tried in a process of its own (about half a second), because a backend that fails may take its process with it
    and because dm_control binds to one when it is imported. The variable remembers the choice, for child processes too.

    :raises RuntimeError: none of them works here
    """
    if VARIABLE in os.environ:
        return
    for backend in BACKENDS:
        if _renders(backend):
            os.environ[VARIABLE] = backend
            _rebind()
            return
    raise RuntimeError(
        f"MuJoCo cannot render here (tried {VARIABLE}={', '.join(BACKENDS)}): install libegl1 libegl-mesa0 libgl1-mesa-dri, "
        "or libosmesa6 (Debian, Ubuntu), or train on states."
    )


def _renders(backend: str) -> bool:
    """Whether a new process can render with this backend."""
    command = [sys.executable, "-c", _PROBE]
    return subprocess.run(command, env=os.environ | {VARIABLE: backend}, capture_output=True).returncode == 0


def _rebind() -> None:
    """Let a dm_control that was imported before the choice follow it: alone, it takes glfw even where there is no screen."""
    render_module = sys.modules.get("dm_control._render")
    if render_module is not None:
        importlib.reload(render_module)
