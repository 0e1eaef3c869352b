#!/bin/sh
# Draw docs/images/demonstration.png: a demonstration of Meta-World's door-open as `flowbench data show` shows it.
# Needs the extras metaworld and data. Usage: docs/make_demonstration_picture.sh [OUT.png]
set -eu
out=${1:-$(dirname "$0")/images/demonstration.png}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
flowbench collect --suite metaworld11 --tasks door-open --episodes 1 --cameras corner --finish --out "$folder/door.h5"
flowbench data show "$folder/door.h5" --steps 0,20,40,60,80 --out "$out"
