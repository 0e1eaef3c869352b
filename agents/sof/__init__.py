"""SOF: skills abstracted from optical flow, a transformer that chooses them, and a network that turns their flow into actions.

Xu et al., "Skill Abstraction from Optical Flow" (arXiv 2512.20052). The authors published no code; docs/sof.md says what of this
is confirmed and what is our choice.
"""
