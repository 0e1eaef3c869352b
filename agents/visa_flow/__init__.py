"""ViSA-Flow: semantic action flow read off any video, a transformer that imagines it, and actions from few demonstrations."""
