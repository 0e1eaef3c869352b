"""Simulators behind one calibrated RGB-D contract, one folder each.

This folder is installed as `flowbench.envs`; nothing here imports an agent.
"""

if __name__ != "flowbench.envs":
    raise ImportError(
        "import flowbench.envs, not envs: this folder is installed as flowbench.envs. Run: pip install -e ."
    )
