"""UniPi as AVDC's baseline: the same imagined video, and a learned inverse dynamics that follows it frame by frame."""
