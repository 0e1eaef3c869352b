"""What every test of a MuJoCo simulator needs: a backend chosen in time, and a skip where nothing can be drawn."""

import pytest

from flowbench.envs.gl import configure_rendering, describe
from flowbench.errors import RenderingUnavailable

# Before any test module imports MuJoCo, which fixes its OpenGL backend then.
configure_rendering()


@pytest.fixture(scope="session")
def opengl():
    """Skip where nothing can be rendered."""
    try:
        return describe()
    except RenderingUnavailable as error:
        pytest.skip(str(error))
