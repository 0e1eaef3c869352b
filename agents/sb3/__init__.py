"""Policies trained with Stable-Baselines3, evaluated like every other agent."""
