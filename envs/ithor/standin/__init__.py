"""A stand-in for AI2-THOR's Unity player: the same pipes, messages and actions, in rooms that are not iTHOR's.

The player is a download of 0.6 GB that needs a display or Vulkan. Without it nothing that talks to it could be tested, so
this package speaks its protocol to the unmodified `ai2thor` client: `python -m flowbench.envs.ithor.standin`. Names,
coordinates, units and the meaning of actions are AI2-THOR's; rooms, pictures and numbers are not (docs/ithor.md).

Everything inside uses Unity's axes, as the wire does: left-handed, x right, y up, z forward, metres; yaw is clockwise seen
from above, from +z; a positive horizon looks down.
"""
