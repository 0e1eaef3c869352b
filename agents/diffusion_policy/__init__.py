"""Diffusion Policy as AVDC's baseline: actions drawn by denoising, given two frames and an instruction."""
