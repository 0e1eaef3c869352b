"""Optical flow: exact between simulator states, and estimated between images, behind one interface."""
