"""Training: one loop, one checkpoint format and one contract for everything here that learns.

`recipe` is what the author of a trainable agent writes, `checkpoint` what training leaves behind, `loop` how it runs.
"""
