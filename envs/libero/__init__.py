"""LIBERO: 130 language-conditioned Panda tasks with official initial states, behind FlowBench's contract."""
