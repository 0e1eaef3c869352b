"""The tables of the papers that FlowBench follows, each with the published rows that stand beside it.

Names of suites and tasks are written out here, because a layout is about a paper and the core imports no suite;
`tests/test_layouts.py` compares them with the suites.
"""

from __future__ import annotations

from flowbench.layouts import Column, Layout

_PUBLISHED = "flowbench.layouts:published"

# --- AVDC on Meta-World (arXiv 2310.08576): 11 tasks and their mean, headings as its table prints them -------------

#: Task of `metaworld11`, which is also the key in the published file -> heading.
_AVDC_TASKS = {
    "door-open": "door-open",
    "door-close": "door-close",
    "basketball": "basketball",
    "shelf-place": "shelf-place",
    "button-press": "btn-press",
    "button-press-topdown": "btn-top",
    "faucet-close": "faucet-close",
    "faucet-open": "faucet-open",
    "handle-press": "handle-press",
    "hammer": "hammer",
    "assembly": "assembly",
}

AVDC_METAWORLD = Layout(
    name="avdc-metaworld",
    caption="Meta-World as AVDC reports it: success rates of 11 tasks, 25 seeds x 3 cameras each, and their mean.",
    columns=(
        *(Column(task, heading, tasks=(task,)) for task, heading in _AVDC_TASKS.items()),
        Column("overall", "Overall", tasks=tuple(_AVDC_TASKS)),
    ),
    suites=("metaworld11",),
    protocols=("avdc",),
    cameras=("corner", "corner2", "corner3"),
    published=f"{_PUBLISHED}/avdc-metaworld.toml",
    notes=(
        "AVDC measured on a modified Meta-World v2 with MuJoCo 2.1; runs here use Meta-World v3, in which the success radius of "
        "btn-top is 2.4 cm instead of 2 cm. AVDC counts an exception as a failure (--errors failure).",
    ),
)

# --- AVDC on iTHOR: rooms of three objects, on whatever backend a run names ----------------------------------------

_AVDC_ROOMS = {
    "kitchen": ("Kitchen", ("Toaster", "Spatula", "Bread")),
    "living-room": ("Living Room", ("Painting", "Laptop", "Television")),
    "bedroom": ("Bedroom", ("Blinds", "DeskLamp", "Pillow")),
    "bathroom": ("Bathroom", ("Mirror", "ToiletPaper", "SoapBar")),
}

AVDC_ITHOR = Layout(
    name="avdc-ithor",
    caption="Object navigation in iTHOR as AVDC reports it: success rates per room (3 objects each) and over all 12 objects.",
    columns=(
        *(Column(key, heading, tasks=targets) for key, (heading, targets) in _AVDC_ROOMS.items()),
        Column("overall", "Overall", tasks=tuple(target for _, targets in _AVDC_ROOMS.values() for target in targets)),
    ),
    suites=("ithor12-unity", "ithor12-standin", "ithor12-recorded"),
    protocols=("avdc",),
    published=f"{_PUBLISHED}/avdc-ithor.toml",
    methods_across=True,
)

# --- SOF on Meta-World: the names of its nine tasks are not published, so the columns are those of the runs ---------

SOF_METAWORLD = Layout(
    name="sof-metaworld",
    caption="Multi-task Meta-World as SOF reports it: success rates per task and their mean.",
    columns="tasks",
    suites=("metaworld11", "metaworld-mt10", "metaworld-mt50"),
    published=f"{_PUBLISHED}/sof-metaworld.toml",
    notes=(
        "SOF reports the mean over nine tasks whose names, cameras and number of episodes are not published: a run's mean over "
        "its own tasks is not the same quantity.",
    ),
)

# --- LIBERO: a suite per column; four runs of one agent form a row -------------------------------------------------

LIBERO = Layout(
    name="libero",
    caption="LIBERO: success rate per suite (mean over its tasks), and the mean of the four suites of ten tasks.",
    columns=(
        Column("spatial", "Spatial", suites=("libero-spatial",)),
        Column("object", "Object", suites=("libero-object",)),
        Column("goal", "Goal", suites=("libero-goal",)),
        Column("10", "Long", suites=("libero10",)),
        Column("90", "90", suites=("libero90",)),
        Column("average", "Average", suites=("libero-spatial", "libero-object", "libero-goal", "libero10")),
    ),
    suites=("libero-spatial", "libero-object", "libero-goal", "libero10", "libero90"),
    published=f"{_PUBLISHED}/libero.toml",
    notes=("The average leaves out LIBERO-90, as papers do. Papers differ in episodes, horizon and training data.",),
)

# --- ViSA-Flow on CALVIN ABC->D: share of chains with at least k solved subtasks, and their mean length -------------

VISAFLOW_CALVIN = Layout(
    name="visaflow-calvin",
    caption="CALVIN ABC->D as ViSA-Flow reports it: share of 1000 chains with at least k subtasks solved in a row, in %, and "
    "the average number solved.",
    columns=(
        *(Column(str(count), str(count), chain=f"{count} in a row") for count in range(1, 6)),
        Column("average-length", "Avg. Len.", unit="tasks", chain="average length"),
    ),
    suites=("calvin-abc-d",),
    # With exact resets or upstream's, with relative or absolute actions: papers do not say, and the rules are the same.
    protocols=("exact", "official", "absolute"),
    published=f"{_PUBLISHED}/visaflow-calvin.toml",
    notes=(
        "Published numbers are of images drawn with EGL on a GPU and of 1000 chains; runs here record their renderer, and n is "
        "the number of chains.",
    ),
)

# --- Any suite: how a method depends on where the camera stands ----------------------------------------------------

CAMERAS = Layout(
    name="cameras",
    caption="Success rate per task and camera pose.",
    columns="cameras",
    rows="tasks",
)
