"""CALVIN: a Franka Panda at a table with doors, drawers, lights and blocks, told one instruction after another."""
