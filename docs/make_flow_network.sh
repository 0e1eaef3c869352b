#!/bin/sh
# Train agents/checkpoints/raft-small-sim again: pairs of 97 scenes (a quarter of an hour of one CPU core), then the network (an hour).
# Needs the extras agents, metaworld, libero and data. Usage: docs/make_flow_network.sh; writes flowpairs and raft-small-sim here.
set -eu
libero=$(python - <<'END'
from flowbench.registry import get_suite

names = {suite: [task.name for task in get_suite(suite).tasks] for suite in ("libero90", "libero-goal", "libero-spatial", "libero-object")}
chosen = names["libero90"][::4] + names["libero-goal"] + names["libero-spatial"][:4] + names["libero-object"]
print(",".join(chosen))
END
)
flowbench flow-pairs --suite metaworld-mt50 --scenes 1 --out flowpairs/metaworld \
  --cameras corner,corner,corner2,corner2,corner3,corner3,topview,corner4,gripperPOV
flowbench flow-pairs --suite libero90,libero-goal,libero-spatial,libero-object --tasks "$libero" --scenes 1 --out flowpairs/libero \
  --cameras agentview,agentview,agentview,frontview,sideview,galleryview,birdview,robot0_eye_in_hand
flowbench train flow --data flowpairs --preset small --threads 1 --out raft-small-sim
