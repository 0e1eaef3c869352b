"""The scripted expert of CALVIN's 34 tasks."""
