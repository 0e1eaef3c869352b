"""iTHOR: object navigation in AI2-THOR's rooms, through its own client, with its own player or a stand-in for it."""
