"""Video diffusion as AVDC does it: imagine the next frames (or their flow) from the present one and a sentence."""
