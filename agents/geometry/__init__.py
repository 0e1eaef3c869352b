"""How an object moved, from where its points went in an image: tracks, two rigid fits, and the bookkeeping between frames.

Arrays in, arrays out: nothing here knows a simulator, a planner or a robot.

| module | what it does |
|---|---|
| `sampling` | reads images between pixels |
| `tracking` | follows points through dense flow, and says which were lost |
| `rigid_fit` | the motion that explains where points went: Levenberg-Marquardt |
| `published_fit` | the same objective as AVDC's code minimises it, for fidelity |
| `object_motion` | a whole plan: from the points of its first frame to the object's pose in every frame |
"""
