"""SOF's own sanity checks, each a command with a number and a picture (`flowbench diagnose sof-...`)."""
