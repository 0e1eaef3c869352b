"""Agents that break a promise at a known moment; the tests give them to `flowbench eval` by file name."""

import os
import signal
import time

import numpy as np

from flowbench import Needs


class Base:
    """Moves at random; sees what `needs` says."""

    needs = Needs()

    def reset(self, task, cameras, seed):
        self.rng = np.random.default_rng(seed)
        self.size = task.action_spec.size
        self.step = 0

    def act(self, observation):
        self.step += 1
        action = self.rng.uniform(-1, 1, self.size)
        return self.misbehave(observation, action) if self.step == 5 else action

    def misbehave(self, observation, action):
        return action


class Polite(Base):
    """Keeps every promise and looks at RGB-D every step."""

    needs = Needs(modalities=("rgb", "depth"))

    def act(self, observation):
        # The action depends on the pixels, so that a wrong frame would change the outcome.
        shade = float(observation.rgb().mean()) / 255
        return super().act(observation) * shade


class Chunks(Base):
    """Returns eight actions at a time."""

    def act(self, observation):
        return self.rng.uniform(-1, 1, (8, self.size))


class GlobalDice(Base):
    """Draws from the process-wide generator in spite of the contract."""

    def act(self, observation):
        return np.random.uniform(-1, 1, self.size)  # noqa: NPY002


class WrongShape(Base):
    def misbehave(self, observation, action):
        return action[:-1]


class NotANumber(Base):
    def misbehave(self, observation, action):
        action[1] = np.nan
        return action


class OutOfRange(Base):
    def misbehave(self, observation, action):
        action[0] = 3.0
        return action


class WrongFromTheStart(Base):
    def act(self, observation):
        return np.zeros(9)


class Raises(Base):
    def misbehave(self, observation, action):
        raise RuntimeError("planner found\nno plan")


class RaisesAtOnce(Base):
    def reset(self, task, cameras, seed):
        raise RuntimeError("no weights")


class KillsItsProcess(Base):
    """Dies on push, seed 1, as a crashing simulator does."""

    def reset(self, task, cameras, seed):
        super().reset(task, cameras, seed)
        self.task = task.name

    def misbehave(self, observation, action):
        if self.task == "push":
            os.kill(os.getpid(), signal.SIGKILL)
        return action


class Hangs(Base):
    def misbehave(self, observation, action):
        time.sleep(600)


class Slow(Base):
    """Takes its time, so that a test can interrupt it."""

    def act(self, observation):
        time.sleep(0.01)
        return super().act(observation)


class Cheats(Base):
    def misbehave(self, observation, action):
        return observation.simulator and action


class OtherRobot(Base):
    needs = Needs(action_convention="drone-thrust")


class WantsMore(Base):
    def act(self, observation):
        observation.segmentation()


class NeedsAGpu(Base):
    def __init__(self, device, gain=1.0):
        self.device = device


class HalfAnAgent:
    needs = Needs()

    def act(self, observation):
        return None
