"""Write the reference colours that `flowbench.fingerprint` compares with; run it on a machine whose pixels are right.

Run as `python tools/make_fingerprints.py`. One simulator per process, so every suite is drawn by a child.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from flowbench.fingerprint import coarse_colours, first_scenario
from flowbench.registry import get_suite, make, suite_names


def known_frame_colours(name: str) -> list:
    """Draw a suite's known frame in this process."""
    suite = get_suite(name)
    env = make(name, modalities=("rgb",), image_view="geometric")
    observation, _ = env.reset(options={"scenario": first_scenario(suite)})
    colours = coarse_colours(observation[f"{suite.default_view}/rgb"])
    env.close()
    return colours.round(1).tolist()


def main() -> None:
    """Write one file per simulator."""
    if len(sys.argv) > 1:
        print(json.dumps(known_frame_colours(sys.argv[1])))
        return
    files: dict[str, dict[str, list]] = {}
    for name in suite_names():
        location = get_suite(name).fingerprints
        if location:
            child = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
            files.setdefault(location, {})[name] = json.loads(child.stdout.splitlines()[-1])
    for location, references in files.items():
        package, _, file_name = location.partition(":")
        path = Path(__file__).parent.parent / package.removeprefix("flowbench.").replace(".", "/") / file_name
        path.write_text(json.dumps(references) + "\n")
        print(f"{path}: {', '.join(references)}")


if __name__ == "__main__":
    main()
