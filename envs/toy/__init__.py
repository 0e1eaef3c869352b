"""The toy suite: a table-top robot that needs no simulator, for first contact, fast tests and exact ground truth.

Its mechanics are quasi-static and its images are ray cast in numpy, so depth, segmentation, calibration and optical flow
are exact and a frame takes milliseconds on any machine.
"""
