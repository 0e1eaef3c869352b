"""Networks that estimate optical flow, and how RAFT is trained on exact flow from the simulators."""
