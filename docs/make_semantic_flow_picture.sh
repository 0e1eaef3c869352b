#!/bin/sh
# Makes docs/images/semantic-flow.jpg: pictures and semantic flow of one episode of every family of suites.
# Needs all simulators (flowbench doctor); three minutes. Run it from the repository's root.
set -e
folder=$(mktemp -d)
show() { # name, options of collect, options of data visa
    flowbench collect $2 --episodes 1 --quiet --out "$folder/$1.h5"
    flowbench data visa "$folder/$1.h5" $3 --workers 0 --quiet --out "$folder/$1"
}
show 1 "--suite metaworld11 --tasks door-open --modalities none" "--cameras corner --image-size 192x144"
show 2 "--suite libero-goal --tasks put_the_bowl_on_the_plate --modalities none" "--cameras agentview --stride 10 --image-size 144x144"
show 3 "--suite calvin-tasks-a --tasks stack_block --modalities none" "--image-size 144x144"
show 4 "--suite ithor12-standin --tasks FloorPlan1-Toaster --modalities rgb,segmentation" "--stride 2 --image-size 144x144"
python - "$folder" docs/images/semantic-flow.jpg <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image

sheets = [Image.open(path) for path in sorted(Path(sys.argv[1]).glob("*/sheet.png"))]
whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
for number, sheet in enumerate(sheets):
    whole.paste(sheet, (0, sum(s.height for s in sheets[:number])))
whole.thumbnail((1000, 2000))
whole.save(sys.argv[2], quality=80)
PYTHON
rm -r "$folder"
