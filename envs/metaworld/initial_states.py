"""How a seed becomes an initial state: the installed Meta-World's way, and that of AVDC's fork.

Upstream seeds the process-wide generator inside a constructor, so a seed means something only for a freshly built
environment. Here the same numbers come from a generator of our own, on one environment that is built once, and what earlier
episodes left behind is undone first.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from flowbench.envs.metaworld.plain_state import (
    MODEL_ARRAYS,
    copy_arrays,
    copy_attributes,
    restore_arrays,
    restore_attributes,
)

#: AVDC's fork: bounds of the noise on the hand's start in metres, (xy from -b to b), (z from, to). Source: the
#: constructors of `metaworld/envs/mujoco/sawyer_xyz/v2/` in AVDC_experiments at e9b5b00.
_FORK_HAND_NOISE_M = {"basketball": (0.15, (-0.1, 0.1)), "assembly": (0.3, (0.0, 0.2))}
_FORK_DEFAULT_HAND_NOISE_M = (0.3, (0.0, 0.1))
#: The fork's wider box for the ball (same source); upstream has x in +-0.1, y from 0.6 to 0.7.
_FORK_BALL_XY_M = ((-0.3, 0.4), (0.3, 0.8))


class InitialStates:
    """Resets one environment to the initial state of a seed, whatever ran before.

    Under `stock_v3` this is the state of a fresh `ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[...](seed=seed)` after `reset()`, bit
    for bit, in all 50 tasks. (In `push` and `push-back` upstream draws the goal's marker before the first step where the
    reset before left it; there it is up to 0.6 mm off.)
    """

    def __init__(self, env: Any, task: str, variant: str) -> None:
        """Remember the environment as it was built.

        Args:
            env: A Meta-World environment that was never reset.
            task: Task name, e.g. `"door-open"`.
            variant: `stock_v3` or `avdc_fork`.
        """
        self._env = env
        self._task = task
        self._variant = variant
        self._model_arrays = copy_arrays(env.model, MODEL_ARRAYS)
        self._attributes = copy_attributes(env)
        self._reset_box = env._random_reset_space.low.copy(), env._random_reset_space.high.copy()

    def reset(self, seed: int) -> np.ndarray:
        """Go to the initial state of a seed.

        Returns:
            Meta-World's own (39,) observation.
        """
        env = self._env
        restore_arrays(env.model, self._model_arrays)
        restore_attributes(env, self._attributes)
        env._random_reset_space.low[:], env._random_reset_space.high[:] = self._reset_box
        mujoco.mj_resetData(env.model, env.data)
        mujoco.mj_forward(env.model, env.data)
        # The legacy generator: upstream draws from `np.random.seed(seed)`, and this gives the same numbers.
        rng = np.random.RandomState(seed)
        draws = 2
        if self._variant == "avdc_fork":
            self._apply_fork(rng)
            draws = 1
        self._draw(rng, draws)
        # Upstream's reset runs its task's reset twice and keeps the second; only that one needs the hand in place.
        env._reset_hand = self._leave_hand_once
        observation, _ = env.reset()
        return observation

    def _apply_fork(self, rng: np.random.RandomState) -> None:
        """Change where the fork starts, drawing in its order: hand xy, hand z, and for assembly an unused object xy."""
        env = self._env
        xy_bound, (z_low, z_high) = _FORK_HAND_NOISE_M.get(self._task, _FORK_DEFAULT_HAND_NOISE_M)
        noise = np.concatenate([rng.uniform(-xy_bound, xy_bound, size=2), rng.uniform(z_low, z_high, size=1)])
        if self._task == "assembly":
            rng.uniform(-0.1, 0.1, size=2)
        env.hand_init_pos = env.hand_init_pos + noise
        box = env._random_reset_space
        if self._task == "basketball":
            box.low[:2], box.high[:2] = _FORK_BALL_XY_M
        # The fork's boxes are float32, as gym's are by default.
        box.low[:], box.high[:] = box.low.astype(np.float32), box.high.astype(np.float32)

    def _draw(self, rng: np.random.RandomState, resets: int) -> None:
        """Draw the object's place as a freshly built environment does, and freeze it.

        Upstream's constructor resets once with drawing switched on; in v3 such a reset draws twice, in v2 once, and the
        last draw counts. Tasks reject some draws, so theirs is the only code that knows how many numbers are used.
        Moving the hand takes nearly all of a reset's time and has no part in it, so it is left out.
        """
        env = self._env
        env._np_random, env.seeded_rand_vec, env._freeze_rand_vec = rng, True, False
        env._reset_hand = self._leave_hand
        try:
            for _ in range(resets):
                env.reset_model()
                mujoco.mj_resetData(env.model, env.data)
        finally:
            del env._reset_hand
            env._np_random, env.seeded_rand_vec, env._freeze_rand_vec = None, False, True

    def _leave_hand(self, steps: int = 50) -> None:
        del steps
        mujoco.mj_forward(self._env.model, self._env.data)
        self._env.init_tcp = self._env.tcp_center

    def _leave_hand_once(self, steps: int = 50) -> None:
        del self._env._reset_hand
        self._leave_hand(steps)
