"""Meta-World v3 (metaworld 3.1.1) behind FlowBench's contract: 50 table-top tasks of a Sawyer arm.

`suites` is data and imports no simulator; `simulator` runs one task; the other modules hold one idea each.
"""
