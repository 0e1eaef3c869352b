"""Behaviour cloning: images and a sentence to actions, the baseline that every other method has to beat."""
