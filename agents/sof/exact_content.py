"""Exact flow of demonstrations, read from their stored states instead of estimated from their pictures.

Privileged, and in training alone: in two dimensions it says what a perfect estimator would be worth, in three it is the
experimental answer to two limits that the paper names, small things (a body moves as far in metres whatever its size in pixels)
and turns out of the image plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flowbench.agents.sof.config import SofConfig
from flowbench.data.dataset import Origin
from flowbench.data.readers.flowbench_hdf5 import FlowBenchHdf5
from flowbench.data.rendering import observe_states, rendering_env
from flowbench.data.replay import scenario_of
from flowbench.data.states import StateRows
from flowbench.env import EnvConfig, TaskEnv
from flowbench.errors import DataError
from flowbench.flow.exact import exact_flow
from flowbench.flow.snapshot import take_snapshot
from flowbench.registry import get_suite


class ExactContent:
    """The flow of one demonstration after the other; keeps the simulator of the last one's task."""

    def __init__(self, config: SofConfig, image_size: tuple[int, int]) -> None:
        """Prepare; no simulator is built yet.

        Args:
            config: Which content, and its size.
            image_size: (width, height) of the recorded frames, pixels.
        """
        self._config, self._image_size = config, image_size
        self._env: TaskEnv | None = None
        self._key: tuple[Any, ...] = ()

    def __call__(self, origin: Origin, camera: str) -> np.ndarray:
        """Return float16 (T - 1, C, h, w): flow as a share of the image, or displacements in the world, metres.

        Args:
            origin: The demonstration.
            camera: The camera that it is seen through.

        Raises:
            DataError: If its states were not recorded.
        """
        reader, info = origin.reader, origin.reader.demos[origin.demo]
        if not isinstance(reader, FlowBenchHdf5) or "states" not in info.arrays:
            raise DataError(
                f"Exact flow is read from stored states, and {info.name} of {reader.path} has none. Use a recording of flowbench "
                "collect, or an estimator: --set flow=dis."
            )
        env = self._env_of(origin, camera)
        states = StateRows.read(reader.group(origin.demo))
        flows, before = [], None
        for _ in observe_states(env, states, scenario_of(info)):
            snapshot = take_snapshot(env, camera)
            snapshot = snapshot.mirror() if reader.image_view == "policy" else snapshot
            if self._config.crop:
                (width, height), (cut_x, cut_y) = self._image_size, self._config.crop
                snapshot = snapshot.crop((width - cut_x) // 2, (height - cut_y) // 2, cut_x, cut_y)
            if before is not None:
                flows.append(self._shrunk(exact_flow(before, snapshot)))
            before = snapshot
        width, height = self._config.flow_size
        return np.stack(flows) if flows else np.zeros((0, self._config.channels, height, width), np.float16)

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _shrunk(self, found: Any) -> np.ndarray:
        if self._config.content == "scene-flow":
            full = np.where(np.isfinite(found.scene_flow_m), found.scene_flow_m, 0)
        else:
            full = np.where(np.isfinite(found.flow_px), found.flow_px, 0) / np.array(found.flow_px.shape[1::-1])
        maps = torch.from_numpy(np.ascontiguousarray(full, np.float32)).movedim(-1, 0)[None]
        small = torch.nn.functional.interpolate(maps, self._config.flow_size[::-1], mode="bilinear", antialias=True)
        return small[0].numpy().astype(np.float16)

    def _env_of(self, origin: Origin, camera: str) -> TaskEnv:
        info = origin.reader.demos[origin.demo]
        protocol = origin.reader.demo_attributes(origin.demo).get("protocol")
        key = (info.suite, info.task, protocol, camera)
        if key != self._key or self._env is None:
            self.close()
            suite = get_suite(info.suite)
            settings = EnvConfig(cameras=(camera,), modalities=(), image_size=self._image_size)
            self._env = rendering_env(suite, suite.task(info.task), suite.rules(protocol), settings)
            self._key = key
        return self._env
