"""AVDC's flow-to-action stage, with every part exchangeable, and its control.

| module | what it does |
|---|---|
| `agent` | the agent: plan, follow, plan again |
| `plan_flow` | dense flow along a plan |
| `object_points` | which points of the object are followed, and where the hand meets it |
| `rules` | from the contact's path to hand motions, published and robust |
| `hands` | from a wanted hand position to an action |
| `feet` | what each choice of a navigation suite does to the camera |
| `scene_motion` | how the room moves past the camera along a plan |
| `walking` | from the room's motion to choices, published and robust |
| `random_plan` | the control |
"""
