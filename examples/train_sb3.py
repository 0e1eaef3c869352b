r"""Train a Stable-Baselines3 policy on one task through `flowbench.make`, for evaluation with `flowbench eval`.

    python examples/train_sb3.py toy/reach --algo PPO --scene 0 --steps 80000
    flowbench eval --agent sb3 --checkpoint toy-reach.zip --agent-args algo=PPO --suite toy --tasks reach --seeds 0

    python examples/train_sb3.py metaworld11/door-close --algo SAC --steps 20000
    flowbench eval --agent sb3 --checkpoint metaworld11-door-close.zip --agent-args algo=SAC \
        --suite metaworld11 --tasks door-close --cameras corner --seeds 0-24

The policy sees `proprio` alone, where the hand is, so it does not have to be shown a picture at every step and minutes are
enough. It cannot see where the object is: it learns one scene by heart (`--scene`), or a motion that works wherever the
object stands. `--camera` shows it pictures too; that takes hours and `--algo PPO`.
"""

from __future__ import annotations

import argparse

import gymnasium
import stable_baselines3

import flowbench


class CostPerStep(gymnasium.RewardWrapper):
    """Meta-World pays 0 to 10 for every step and an episode ends with success: who succeeds late would earn most."""

    def reward(self, reward: float) -> float:
        """Turn a payment into a cost from 0 to 1, which ends with the episode."""
        return reward / 10 - 1


class OneScene(gymnasium.Wrapper):
    """Every episode starts from the same scenario."""

    def __init__(self, env: gymnasium.Env, seed: int) -> None:
        super().__init__(env)
        self._seed = seed

    def reset(self, **options: object) -> tuple:
        """Start the scene again, whatever seed was asked for."""
        return self.env.reset(seed=self._seed)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="suite/task, e.g. metaworld11/door-close")
    parser.add_argument("--algo", default="SAC", choices=("PPO", "SAC", "TD3", "A2C", "DDPG"))
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--scene", type=int, help="train on this scenario seed alone")
    parser.add_argument("--camera", help="show the policy this camera, 84x84, besides proprio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="default: suite-task.zip")
    arguments = parser.parse_args()

    cameras = (arguments.camera,) if arguments.camera else ()
    env = flowbench.make(arguments.task, cameras=cameras, modalities=("rgb",), image_size=(84, 84))
    if env.suite.family == "metaworld":
        env = CostPerStep(env)
    if arguments.scene is not None:
        env = OneScene(env, arguments.scene)
    # Keys stay as they are, so `flowbench eval --agent sb3` finds them in every observation.
    model = getattr(stable_baselines3, arguments.algo)("MultiInputPolicy", env, seed=arguments.seed, verbose=1)
    try:
        model.learn(arguments.steps, log_interval=10)
    except KeyboardInterrupt:
        print("Stopped early.")
    out = arguments.out or arguments.task.replace("/", "-") + ".zip"
    model.save(out)
    print(f"Saved {out} after {model.num_timesteps} steps.")


if __name__ == "__main__":
    main()
