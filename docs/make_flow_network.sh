#!/bin/sh
# Train a flow network for manipulation: at first on pairs from all sides, then also on those of the suites' own cameras.
# Half an hour of one CPU core for the pairs of 284 scenes, and four hours for the network.
# These are the steps that were taken: the second training was stopped at step 6762 of its 10000, when it had stopped getting
# better, and what made it better again (matching) was tried for 600 steps before it was taken over.
# Needs the extras agents, metaworld, libero and data. Usage: docs/make_flow_network.sh; writes flowpairs and raft-small-sim here.
set -eu
tasks() { python -c "from flowbench.registry import get_suite; print(*[t.name for t in get_suite('$1').tasks][$2], sep=',')"; }
libero=$(tasks libero90 ::4),$(tasks libero-goal :),$(tasks libero-spatial :4)
libero_object=$(tasks libero-object :)

from_all_sides() { flowbench flow-pairs --scenes 1 "$@"; }
from_its_own_camera() { flowbench flow-pairs --first-seed 51000 --displaced-share 0 --full-share 1 "$@"; }
learn() { flowbench train flow --data flowpairs --preset small --set first_limit_px=80 --threads 1 "$@"; }
# As the preset was at first.
before="--set whole=0.5 --set degraded=1 --set matching=0 --set updates=8 --set dis_px=0"

from_all_sides --suite metaworld-mt50 --out flowpairs/metaworld \
  --cameras corner,corner,corner2,corner2,corner3,corner3,topview,corner4,gripperPOV
from_all_sides --suite libero90,libero-goal,libero-spatial,libero-object --tasks "$libero,$libero_object" --out flowpairs/libero \
  --cameras agentview,agentview,agentview,frontview,sideview,galleryview,birdview,robot0_eye_in_hand
learn $before --init-from raft-small-walks --out raft-small-1

from_its_own_camera --suite metaworld-mt50 --scenes 3 --cameras corner,corner2,corner3 --out flowpairs/metaworld-fixed
from_its_own_camera --suite libero90,libero-goal,libero-spatial --tasks "$libero" --scenes 1 --cameras agentview --out flowpairs/libero-fixed
learn $before --init-from raft-small-1 --steps 10000 --out raft-small-2
learn --set matching=0.1 --init-from raft-small-2 --steps 600 --lr 2e-4 --out raft-small-3
learn --init-from raft-small-3 --steps 5000 --out raft-small-sim
