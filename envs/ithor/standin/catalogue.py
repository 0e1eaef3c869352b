"""What the procedural rooms hold: the shape of every object type, and which types belong into which room.

Sizes are those of household objects, about as iTHOR has them; shapes are a few blocks each. The types of a room are those
that at least half of iTHOR's rooms of its kind have (counted in the recorded metadata of `procthor` 0.0.1.dev2), so that any
of the usual targets can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowbench.envs.ithor.standin.things import Block

Place = Literal["wall", "middle", "on", "hung", "above", "over"]


@dataclass(frozen=True)
class Model:
    """An object type.

    Attributes:
        blocks: Its shape, standing on y = 0 with its back at the lowest z (hung things: centred on y = 0).
        pickupable: Whether an agent could carry it.
        surface: (width, depth, height, z offset) in metres of the area that things stand on; None for no receptacle.
    """

    blocks: tuple[Block, ...]
    pickupable: bool = False
    surface: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Item:
    """One object that a room must have.

    Attributes:
        type: Its object type.
        place: Against a wall, in the middle, on a host, hung on a wall, on the wall above a host, or in front of what hangs.
        host: Type of what it is on, above or in front of.
        height_m: Height of the centre of what hangs.
        chance: Probability that a room has it.
        variant: Key of `MODELS` where it is not the type itself.
    """

    type: str
    place: Place
    host: str = ""
    height_m: float = 0.0
    chance: float = 1.0
    variant: str = ""

    @property
    def model(self) -> Model:
        """The shape it has."""
        return MODELS[self.variant or self.type]


def _box(width: float, height: float, depth: float, material: str, *, x=0.0, y=0.0, z=0.0) -> Block:
    """A box whose bottom is at y."""
    return Block("box", (x, y + height / 2, z), (width, height, depth), material)


def _round(diameter: float, height: float, material: str, *, x=0.0, y=0.0, z=0.0) -> Block:
    """An upright cylinder whose bottom is at y."""
    return Block("cylinder", (x, y + height / 2, z), (diameter, height, diameter), material)


def _ball(diameter: float, material: str, *, x=0.0, y=0.0, z=0.0) -> Block:
    return Block("sphere", (x, y + diameter / 2, z), (diameter, diameter, diameter), material)


def _panel(width: float, height: float, depth: float, material: str, *, x=0.0, y=0.0, z=0.0) -> Block:
    """A box centred on y, for what hangs on a wall."""
    return Block("box", (x, y, z), (width, height, depth), material)


def _legs(width: float, depth: float, height: float, material: str) -> tuple[Block, ...]:
    return tuple(
        _box(0.05, height, 0.05, material, x=sx * (width / 2 - 0.04), z=sz * (depth / 2 - 0.04))
        for sx in (-1, 1)
        for sz in (-1, 1)
    )


def _table(width: float, height: float, depth: float, material: str) -> Model:
    top = _box(width, 0.05, depth, material, y=height - 0.05)
    return Model((top, *_legs(width, depth, height - 0.05, material)), surface=(width, depth, height, 0.0))


def _counter(width: float, height: float, depth: float) -> Model:
    doors = max(1, round(width / 0.5))
    fronts = tuple(
        _box(
            width / doors - 0.04,
            height - 0.2,
            0.02,
            "front",
            x=(k + 0.5) * width / doors - width / 2,
            y=0.1,
            z=depth / 2,
        )
        for k in range(doors)
    )
    body = _box(width, height - 0.04, depth, "cabinet")
    top = _box(width + 0.02, 0.04, depth + 0.03, "stone", y=height - 0.04)
    return Model((body, top, *fronts), surface=(width, depth, height, 0.0))


def _chest(width: float, height: float, depth: float, material: str, drawers: int) -> Model:
    step = (height - 0.06) / drawers
    fronts = tuple(
        _box(width - 0.06, step - 0.03, 0.02, "front", y=0.04 + k * step, z=depth / 2 + 0.01) for k in range(drawers)
    )
    return Model((_box(width, height, depth, material), *fronts), surface=(width, depth, height, 0.0))


def _chair(material: str) -> Model:
    seat = _box(0.44, 0.05, 0.44, material, y=0.42)
    back = _box(0.44, 0.45, 0.04, material, y=0.47, z=-0.2)
    return Model((seat, back, *_legs(0.44, 0.44, 0.42, "wood")))


def _couch(width: float, material: str) -> Model:
    blocks = (
        _box(width, 0.4, 0.8, material),
        _box(width, 0.42, 0.2, material, y=0.4, z=-0.3),
        _box(0.16, 0.2, 0.8, material, y=0.4, x=-width / 2 + 0.08),
        _box(0.16, 0.2, 0.8, material, y=0.4, x=width / 2 - 0.08),
    )
    return Model(blocks, surface=(width - 0.36, 0.55, 0.4, 0.1))


def _lamp(height: float, shade: float) -> tuple[Block, ...]:
    return (
        _round(shade * 0.8, 0.03, "metal"),
        _round(0.03, height, "metal", y=0.02),
        _round(shade, height * 0.28, "shade", y=height * 0.74),
    )


def _small(*blocks: Block) -> Model:
    return Model(blocks, pickupable=True)


def _bottle(diameter: float, height: float, material: str) -> Model:
    return _small(
        _round(diameter, height * 0.7, material), _round(diameter * 0.4, height * 0.3, material, y=height * 0.7)
    )


def _cup(diameter: float, height: float, material: str) -> Model:
    return _small(
        _round(diameter, height, material), _box(0.03, height * 0.5, 0.015, material, x=diameter / 2, y=height * 0.25)
    )


def _spoon(length: float, material: str) -> Model:
    return _small(_box(0.02, 0.012, length, material), _box(0.06, 0.018, length * 0.3, material, z=length * 0.4))


#: Object type -> its model. Widths run along the wall, depths away from it.
MODELS: dict[str, Model] = {
    # --- large, on the floor
    "CounterTop": _counter(1.9, 0.92, 0.6),
    "vanity": _counter(0.9, 0.85, 0.45),
    "Sink": Model(
        (
            _box(0.7, 0.9, 0.5, "cabinet"),
            _box(0.72, 0.04, 0.53, "white", y=0.88),
            _round(0.03, 0.25, "metal", y=0.92, z=-0.18),
            _box(0.03, 0.03, 0.16, "metal", y=1.14, z=-0.1),
            _round(0.36, 0.012, "metal", y=0.915, z=0.05),
        )
    ),
    "Fridge": Model(
        (
            _box(0.78, 1.78, 0.7, "steel"),
            _box(0.76, 0.02, 0.01, "dark", y=1.15, z=0.35),
            _box(0.03, 0.45, 0.05, "dark", x=-0.3, y=0.6, z=0.37),
            _box(0.03, 0.35, 0.05, "dark", x=-0.3, y=1.25, z=0.37),
        )
    ),
    "StoveBurner": Model(
        (
            _box(0.7, 0.9, 0.6, "dark"),
            _box(0.72, 0.02, 0.6, "steel", y=0.9),
            _box(0.5, 0.4, 0.02, "glass", y=0.3, z=0.31),
            *(_round(0.18, 0.02, "dark", x=x, y=0.92, z=z) for x in (-0.17, 0.17) for z in (-0.13, 0.15)),
        ),
        surface=(0.6, 0.45, 0.94, 0.0),
    ),
    "GarbageCan": Model((_round(0.32, 0.5, "dark"), _round(0.34, 0.03, "steel", y=0.5))),
    "DiningTable": _table(1.2, 0.75, 0.8, "wood"),
    "Chair": _chair("fabric"),
    "Stool": Model((_round(0.36, 0.05, "wood", y=0.62), *_legs(0.3, 0.3, 0.62, "metal"))),
    "Sofa": _couch(1.9, "fabric"),
    "ArmChair": _couch(0.95, "leather"),
    "TVStand": _chest(1.4, 0.5, 0.42, "wood", 2),
    "CoffeeTable": _table(1.2, 0.45, 0.75, "wood"),
    "SideTable": _chest(0.5, 0.58, 0.42, "wood", 2),
    "Dresser": _chest(1.05, 0.92, 0.46, "darkwood", 4),
    "Desk": _table(1.3, 0.75, 0.6, "wood"),
    "Bed": Model(
        (
            _box(1.5, 0.3, 2.0, "darkwood"),
            _box(1.46, 0.22, 1.94, "bedding", y=0.3, z=0.02),
            _box(1.46, 0.04, 1.2, "blanket", y=0.51, z=0.38),
            _box(1.54, 1.0, 0.08, "darkwood", z=-1.0),
        ),
        surface=(1.3, 0.55, 0.52, -0.6),
    ),
    "FloorLamp": Model(_lamp(1.6, 0.38)),
    "HousePlant": Model(
        (_round(0.3, 0.3, "brick"), _ball(0.55, "leaf", y=0.35), _ball(0.4, "leaf", x=0.12, y=0.62, z=0.06))
    ),
    "ShelvingUnit": Model(
        (
            *(_box(0.9, 0.03, 0.34, "wood", y=y) for y in (0.1, 0.5, 0.9, 1.3)),
            _box(0.03, 1.35, 0.34, "wood", x=-0.45),
            _box(0.03, 1.35, 0.34, "wood", x=0.45),
        ),
        surface=(0.8, 0.3, 0.93, 0.0),
    ),
    "LaundryHamper": Model((_box(0.45, 0.6, 0.35, "wicker"),)),
    "Bathtub": Model(
        (
            _box(1.6, 0.14, 0.75, "white"),
            _box(1.6, 0.58, 0.06, "white", z=0.345),
            _box(1.6, 0.58, 0.06, "white", z=-0.345),
            _box(0.06, 0.58, 0.75, "white", x=-0.77),
            _box(0.06, 0.58, 0.75, "white", x=0.77),
        )
    ),
    "Toilet": Model(
        (
            _box(0.38, 0.4, 0.5, "white", z=0.08),
            _box(0.4, 0.04, 0.5, "white", y=0.4, z=0.08),
            _box(0.44, 0.8, 0.2, "white", z=-0.25),
        ),
        surface=(0.36, 0.14, 0.8, -0.25),
    ),
    # --- hung; centred on their height
    "Window": Model(
        (
            _panel(1.1, 1.1, 0.03, "sky"),
            _panel(1.2, 0.06, 0.06, "white", y=0.57),
            _panel(1.2, 0.06, 0.06, "white", y=-0.57),
            _panel(0.06, 1.2, 0.06, "white", x=-0.57),
            _panel(0.06, 1.2, 0.06, "white", x=0.57),
            _panel(0.04, 1.1, 0.05, "white"),
        )
    ),
    "Blinds": Model(
        (
            _panel(1.16, 0.1, 0.07, "white", y=0.6),
            *(_panel(1.12, 0.05, 0.03, "shade", y=0.5 - 0.09 * k) for k in range(7)),
        )
    ),
    "Painting": Model((_panel(0.9, 0.65, 0.03, "wood"), _panel(0.8, 0.55, 0.04, "art"))),
    "Poster": Model((_panel(0.5, 0.7, 0.015, "poster"),)),
    "Mirror": Model((_panel(0.75, 0.85, 0.02, "metal"), _panel(0.69, 0.79, 0.03, "mirror"))),
    "Cabinet": Model(
        (
            _panel(0.8, 0.6, 0.33, "cabinet"),
            _panel(0.38, 0.56, 0.02, "front", x=-0.2, z=0.17),
            _panel(0.38, 0.56, 0.02, "front", x=0.2, z=0.17),
        )
    ),
    "LightSwitch": Model((_panel(0.08, 0.12, 0.02, "white"), _panel(0.03, 0.05, 0.03, "shade"))),
    "Shelf": Model((_panel(0.9, 0.03, 0.24, "wood"),)),
    "TowelHolder": Model((_panel(0.6, 0.03, 0.03, "metal", z=0.03),)),
    "Towel": Model((_panel(0.5, 0.55, 0.04, "towel"),), pickupable=True),
    "HandTowelHolder": Model((_panel(0.22, 0.03, 0.03, "metal", z=0.03),)),
    "HandTowel": Model((_panel(0.18, 0.32, 0.04, "blanket"),), pickupable=True),
    "ToiletPaperHanger": Model((_panel(0.16, 0.03, 0.03, "metal", z=0.04),)),
    "ToiletPaper": Model((_panel(0.11, 0.12, 0.12, "paper"),), pickupable=True),
    "ShowerHead": Model((_panel(0.04, 0.3, 0.04, "metal"), _panel(0.16, 0.04, 0.14, "metal", y=0.15, z=0.1))),
    # --- small, on something
    "Microwave": Model((_box(0.5, 0.29, 0.36, "steel"), _box(0.33, 0.22, 0.01, "glass", x=-0.06, y=0.03, z=0.18))),
    "Toaster": Model(
        (
            _box(0.3, 0.19, 0.18, "steel"),
            _box(0.22, 0.01, 0.03, "dark", y=0.19, z=0.04),
            _box(0.22, 0.01, 0.03, "dark", y=0.19, z=-0.04),
            _box(0.03, 0.04, 0.03, "dark", x=0.16, y=0.1),
        )
    ),
    "CoffeeMachine": Model(
        (
            _box(0.2, 0.04, 0.28, "dark"),
            _box(0.2, 0.34, 0.1, "dark", z=-0.09),
            _box(0.2, 0.1, 0.26, "dark", y=0.26),
            _round(0.11, 0.13, "glass", y=0.05, z=0.05),
        )
    ),
    "Television": Model(
        (
            _box(0.4, 0.02, 0.22, "dark"),
            _box(0.06, 0.1, 0.05, "dark"),
            _box(1.1, 0.64, 0.05, "dark", y=0.1),
            _box(1.04, 0.58, 0.01, "screen", y=0.13, z=0.03),
        )
    ),
    "Bread": _small(_box(0.13, 0.1, 0.26, "bread"), Block("cylinder", (0.0, 0.1, 0.0), (0.12, 0.04, 0.12), "bread")),
    "Apple": _small(_ball(0.085, "red")),
    "Tomato": _small(_ball(0.08, "orange")),
    "Potato": _small(_ball(0.085, "bread"), _ball(0.075, "bread", x=0.03)),
    "Lettuce": _small(_ball(0.17, "leaf")),
    "Egg": _small(_ball(0.055, "shade")),
    "Pan": _small(_round(0.26, 0.05, "dark"), _box(0.14, 0.02, 0.03, "dark", y=0.025, x=0.19)),
    "Pot": _small(_round(0.24, 0.15, "steel"), _box(0.34, 0.02, 0.03, "dark", y=0.11)),
    "Kettle": _small(
        _round(0.18, 0.17, "metal"), _box(0.03, 0.04, 0.16, "dark", y=0.19), _round(0.04, 0.04, "dark", y=0.17)
    ),
    "Spatula": _spoon(0.3, "dark"),
    "Spoon": _spoon(0.19, "metal"),
    "Fork": _spoon(0.2, "metal"),
    "ButterKnife": _spoon(0.2, "steel"),
    "Knife": _small(_box(0.03, 0.015, 0.14, "dark", z=-0.1), _box(0.04, 0.012, 0.2, "steel", z=0.06)),
    "Ladle": _small(_box(0.02, 0.015, 0.26, "metal"), _ball(0.09, "metal", z=0.15)),
    "Plate": _small(_round(0.24, 0.02, "white")),
    "Bowl": _small(_round(0.17, 0.07, "pottery")),
    "Mug": _cup(0.09, 0.1, "pottery"),
    "Cup": _cup(0.08, 0.12, "blue"),
    "SaltShaker": _bottle(0.05, 0.12, "white"),
    "PepperShaker": _bottle(0.05, 0.12, "dark"),
    "SoapBottle": _bottle(0.08, 0.22, "blue"),
    "SprayBottle": _bottle(0.1, 0.26, "green"),
    "WineBottle": _bottle(0.08, 0.32, "green"),
    "DishSponge": _small(_box(0.11, 0.035, 0.07, "yellow")),
    "PaperTowelRoll": _small(_round(0.12, 0.26, "paper")),
    "SoapBar": _small(_box(0.1, 0.035, 0.065, "pink")),
    "Candle": _small(_round(0.07, 0.11, "shade"), _round(0.09, 0.015, "metal")),
    "Cloth": _small(_box(0.2, 0.03, 0.16, "blanket")),
    "TissueBox": _small(_box(0.22, 0.09, 0.12, "pottery"), _box(0.08, 0.06, 0.02, "paper", y=0.09)),
    "Plunger": Model((_round(0.14, 0.1, "red"), _round(0.03, 0.45, "wood", y=0.1)), pickupable=True),
    "ScrubBrush": Model((_round(0.11, 0.14, "white"), _round(0.025, 0.3, "white", y=0.14)), pickupable=True),
    "Laptop": _small(
        _box(0.36, 0.02, 0.25, "steel"),
        _box(0.3, 0.005, 0.13, "dark", y=0.02, z=-0.03),
        _box(0.36, 0.23, 0.015, "screen", y=0.02, z=-0.12),
    ),
    "RemoteControl": _small(_box(0.05, 0.025, 0.17, "dark")),
    "KeyChain": _small(_box(0.05, 0.012, 0.09, "yellow")),
    "CreditCard": _small(_box(0.09, 0.006, 0.055, "blue")),
    "Newspaper": _small(_box(0.28, 0.03, 0.38, "poster")),
    "Book": _small(_box(0.2, 0.04, 0.27, "red")),
    "Box": _small(_box(0.36, 0.26, 0.28, "cardboard")),
    "Statue": _small(_box(0.1, 0.04, 0.1, "stone"), _round(0.06, 0.18, "metal", y=0.04), _ball(0.08, "metal", y=0.21)),
    "Vase": _small(_round(0.12, 0.2, "pottery"), _round(0.06, 0.1, "pottery", y=0.2)),
    "Watch": _small(_round(0.07, 0.02, "metal"), _box(0.03, 0.01, 0.16, "leather")),
    "WateringCan": _small(_round(0.15, 0.17, "green"), _box(0.03, 0.03, 0.2, "green", y=0.1, z=0.14)),
    "Pillow": _small(_box(0.5, 0.13, 0.32, "pillow")),
    "AlarmClock": _small(_box(0.14, 0.1, 0.07, "dark"), _box(0.11, 0.06, 0.01, "red", y=0.02, z=0.035)),
    "CellPhone": _small(_box(0.08, 0.014, 0.16, "screen")),
    "CD": _small(_round(0.13, 0.008, "mirror")),
    "Pen": _small(_box(0.015, 0.012, 0.15, "blue")),
    "Pencil": _small(_box(0.015, 0.012, 0.17, "yellow")),
    "TeddyBear": _small(
        _ball(0.22, "cardboard"),
        _ball(0.16, "cardboard", y=0.18),
        _ball(0.06, "cardboard", x=-0.07, y=0.3),
        _ball(0.06, "cardboard", x=0.07, y=0.3),
    ),
    "BasketBall": _small(_ball(0.24, "orange")),
    "DeskLamp": Model(
        (_round(0.16, 0.02, "dark"), _round(0.025, 0.34, "metal", y=0.02), _round(0.2, 0.13, "shade", y=0.3))
    ),
}


def _on(host: str, *types: str, chance: float = 1.0) -> tuple[Item, ...]:
    return tuple(Item(type_, "on", host, chance=chance) for type_ in types)


#: Kind of room -> what it holds; a host comes before what stands on it.
CONTENTS: dict[str, tuple[Item, ...]] = {
    "Kitchen": (
        Item("CounterTop", "wall"), Item("CounterTop", "wall"), Item("Sink", "wall"), Item("Fridge", "wall"),
        Item("StoveBurner", "wall"), Item("GarbageCan", "wall"), Item("DiningTable", "middle"), Item("Chair", "middle"),
        Item("Chair", "middle", chance=0.5), Item("Stool", "middle", chance=0.4),
        Item("Cabinet", "above", "CounterTop", 1.8), Item("Cabinet", "above", "StoveBurner", 1.9),
        *_on("CounterTop", "Microwave", "Toaster", "CoffeeMachine", "Bread", "Knife", "Spatula", "PaperTowelRoll", "Mug", "Cup"),
        *_on("CounterTop", "SaltShaker", "PepperShaker", "SoapBottle", "DishSponge", "Spoon", "Potato"),
        *_on("DiningTable", "Plate", "Bowl", "Apple", "Tomato", "Lettuce", "Fork", "ButterKnife"),
        *_on("StoveBurner", "Pan"), *_on("CounterTop", "Pot"),
        *_on("CounterTop", "WineBottle", "Kettle", "Egg", "Ladle", chance=0.4),
        Item("Window", "hung", height_m=1.55), Item("LightSwitch", "hung", height_m=1.2),
    ),
    "LivingRoom": (
        Item("Sofa", "wall"), Item("TVStand", "wall"), Item("ArmChair", "wall"), Item("SideTable", "wall"),
        Item("ShelvingUnit", "wall", chance=0.6), Item("FloorLamp", "wall"), Item("HousePlant", "wall"),
        Item("GarbageCan", "wall"), Item("CoffeeTable", "middle"), Item("Chair", "middle", chance=0.5),
        *_on("TVStand", "Television"), *_on("CoffeeTable", "Laptop", "RemoteControl", "Newspaper", "Plate"),
        *_on("Sofa", "Pillow", "Box"), *_on("SideTable", "KeyChain", "Statue", "Vase", "Watch"),
        *_on("CoffeeTable", "CreditCard", "Book", "TissueBox", chance=0.6), *_on("ArmChair", "WateringCan", chance=0.4),
        Item("Painting", "hung", height_m=1.55), Item("Painting", "hung", height_m=1.6, chance=0.5),
        Item("Window", "hung", height_m=1.55), Item("Window", "hung", height_m=1.55, chance=0.5),
        Item("LightSwitch", "hung", height_m=1.2),
    ),
    "Bedroom": (
        Item("Bed", "wall"), Item("Desk", "wall"), Item("Dresser", "wall"), Item("SideTable", "wall"),
        Item("LaundryHamper", "wall", chance=0.5), Item("GarbageCan", "wall"), Item("Chair", "middle"),
        *_on("Bed", "Pillow", "TeddyBear"),
        *_on("Desk", "DeskLamp", "Laptop", "Pen", "Pencil", "Book", "CD", "Mug"),
        *_on("SideTable", "AlarmClock", "CellPhone"), *_on("Dresser", "KeyChain", "CreditCard", "Bowl"),
        *_on("Dresser", "Box", "BasketBall", "TissueBox", chance=0.5),
        Item("Window", "hung", height_m=1.55), Item("Blinds", "over", "Window"), Item("Mirror", "hung", height_m=1.5),
        Item("Painting", "hung", height_m=1.6, chance=0.5), Item("Poster", "hung", height_m=1.5, chance=0.5),
        Item("LightSwitch", "hung", height_m=1.2),
    ),
    "Bathroom": (
        Item("Bathtub", "wall"), Item("Sink", "wall"), Item("CounterTop", "wall", variant="vanity"), Item("Toilet", "wall"),
        Item("GarbageCan", "wall"), Item("Plunger", "wall"), Item("ScrubBrush", "wall"),
        *_on("CounterTop", "SoapBar", "SoapBottle", "Candle", "Cloth"), *_on("CounterTop", "TissueBox", chance=0.5),
        *_on("Toilet", "SprayBottle"),
        Item("Mirror", "above", "Sink", 1.66), Item("ShowerHead", "above", "Bathtub", 1.9),
        Item("ToiletPaperHanger", "hung", height_m=0.75), Item("ToiletPaper", "over", "ToiletPaperHanger"),
        Item("TowelHolder", "hung", height_m=1.3), Item("Towel", "over", "TowelHolder"),
        Item("HandTowelHolder", "hung", height_m=1.2), Item("HandTowel", "over", "HandTowelHolder"),
        Item("Window", "hung", height_m=1.7, chance=0.5), Item("LightSwitch", "hung", height_m=1.2),
    ),
}  # fmt: skip

#: Kind of room -> smallest and largest width and depth in metres.
ROOM_SIZES_M: dict[str, tuple[float, float]] = {
    "Kitchen": (4.0, 5.5),
    "LivingRoom": (4.5, 6.5),
    "Bedroom": (4.0, 5.5),
    "Bathroom": (2.75, 3.75),
}
