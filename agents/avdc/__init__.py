"""AVDC's flow-to-action stage, with every part exchangeable, and its control.

| module | what it does |
|---|---|
| `agent` | the agent: plan, follow, plan again |
| `plan_flow` | dense flow along a plan |
| `object_points` | which points of the object are followed, and where the hand meets it |
| `rules` | from the contact's path to hand motions, published and robust |
| `hands` | from a wanted hand position to an action |
| `random_plan` | the control |
"""
