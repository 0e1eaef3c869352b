#!/bin/sh
# Train a flow network for manipulation: at first on pairs from all sides, then also on those of the suites' own cameras.
# Half an hour of one CPU core for the pairs of 284 scenes, and three hours for the network.
# Needs the extras agents, metaworld, libero and data. Usage: docs/make_flow_network.sh; writes flowpairs and raft-small-sim here.
set -eu
tasks() { python -c "from flowbench.registry import get_suite; print(*[t.name for t in get_suite('$1').tasks][$2], sep=',')"; }
libero=$(tasks libero90 ::4),$(tasks libero-goal :),$(tasks libero-spatial :4)
libero_object=$(tasks libero-object :)

from_all_sides() { flowbench flow-pairs --scenes 1 "$@"; }
from_its_own_camera() { flowbench flow-pairs --first-seed 51000 --displaced-share 0 --full-share 1 "$@"; }
learn() { flowbench train flow --data flowpairs --preset small --set first_limit_px=80 --threads 1 "$@"; }

from_all_sides --suite metaworld-mt50 --out flowpairs/metaworld \
  --cameras corner,corner,corner2,corner2,corner3,corner3,topview,corner4,gripperPOV
from_all_sides --suite libero90,libero-goal,libero-spatial,libero-object --tasks "$libero,$libero_object" --out flowpairs/libero \
  --cameras agentview,agentview,agentview,frontview,sideview,galleryview,birdview,robot0_eye_in_hand
learn --init-from raft-small-walks --out raft-small-1

from_its_own_camera --suite metaworld-mt50 --scenes 3 --cameras corner,corner2,corner3 --out flowpairs/metaworld-fixed
from_its_own_camera --suite libero90,libero-goal,libero-spatial --tasks "$libero" --scenes 1 --cameras agentview --out flowpairs/libero-fixed
learn --init-from raft-small-1 --steps 10000 --out raft-small-sim
