"""Methods under evaluation, and the controls every table needs beside them.

This folder is installed as `flowbench.agents`; nothing here imports a simulator wrapper.
"""

if __name__ != "flowbench.agents":
    raise ImportError(
        "import flowbench.agents, not agents: this folder is installed as flowbench.agents. Run: pip install -e ."
    )
