"""Names, things and places that the generated conversations are about."""

from __future__ import annotations

from random import Random

NAMES = """Anna Ben Clara David Ella Felix Grace Henry Iris Jack Kate Leo Mia Noah Olga Paul Quinn Rosa Sam Tina Umar Vera
Walter Xenia Yusuf Zoe Adam Bella Carlos Diana Erik Fiona George Hannah Ivan Julia Karim Laura Martin Nina Oscar Petra
Ravi Sofia Thomas Ursula Victor Wendy Yara Zack Amir Beth Chen Dora Emil Freya Gus Holly Ida Jonas Kira Lars Maya Nils
Otto Pia Ruth Sven Tara Uma Vince Willa Aisha Boris Cleo Dario Edith Frank Gina Hugo Inga Joel Lena Marco Nora Owen Priya
Rolf Selma Tom Vida Wes Alma Bruno Cora Dean Esther Flora Gabriel Hazel Jasper Kofi Lila Miguel Nadia Omar Paula Rita Stella
Theo Viola Amos Celia Dirk Elsa Ferdinand Greta Harold Irene Jorge Leila Mona Nelson Opal Pedro Rachel Simon Tess Violet""".split()

PET_NAMES = """Miso Pepper Biscuit Shadow Luna Rusty Coco Ginger Snowball Tiger Patch Bramble Waffles Cosmo Daisy Pickles Ziggy
Maple Nutmeg Button Smokey Clover Domino Echo Fudge Gizmo Hazelnut Inky Jasper Kiwi Lucky Marble Noodle Olive Pebble Rocket
Sunny Toffee Velvet Whiskers Bandit Cinnamon Dusty Ember Freckles Goldie Honey Jelly Mango Oreo Poppy Raisin Storm Turnip""".split()

OBJECTS = """key map lantern umbrella notebook camera hammer ladder passport violin kettle blanket wallet letter telescope compass
hat scarf ring basket rope bell candle mirror suitcase radio bucket saw drum flag helmet tent brush clock globe vase box
coin medal photo ticket torch whistle book diary charger bicycle guitar trophy chessboard flute globe sled wrench""".split()

PLACES = """cellar|attic|garage|kitchen drawer|garden shed|hall closet|blue cupboard|bedroom|library|greenhouse|laundry room|barn
|car|office|living room|pantry|bathroom cabinet|wooden chest|top shelf|toolbox|boat house|study|workshop|guest room|hayloft
|desk drawer|mailbox|piano bench|fireplace room|stone tower|bakery|school locker|train station|tree house|wine cellar|museum
|back yard|storage room|old well|glass cabinet|brown suitcase|kitchen table|bookcase|coat pocket|chapel|stable|market hall""".replace(
    "\n", ""
).split("|")

COLORS = "red blue green yellow purple orange pink brown black white grey turquoise silver golden violet beige crimson teal".split()

FOODS = """pancakes|tomato soup|apple pie|spaghetti|rice pudding|mushroom stew|lemon cake|fried eggs|onion soup|dumplings|cherry
 jam|potato salad|lentil curry|corn bread|fish tacos|noodle soup|cheese toast|pumpkin bread|vegetable pizza|grilled corn
|blueberry muffins|chicken pie|bean burritos|carrot cake|peach ice cream|garlic bread|spinach lasagna|plum dumplings""".replace(
    "\n", ""
).split("|")

CITIES = """Paris London Madrid Rome Berlin Vienna Prague Lisbon Dublin Oslo Helsinki Warsaw Athens Cairo Nairobi Lagos Tokyo
Osaka Seoul Delhi Mumbai Bangkok Hanoi Lima Quito Bogota Santiago Toronto Boston Chicago Denver Seattle Dallas Sydney Perth
Auckland Geneva Munich Naples Porto Seville Krakow Riga Tallinn Bergen Gothenburg Lyon Marseille Bristol Leeds Glasgow""".split()

JOBS = """baker nurse pilot teacher carpenter gardener doctor farmer librarian electrician painter chef plumber tailor
violinist lawyer photographer engineer fisherman dentist mechanic architect postman firefighter biologist journalist
translator beekeeper florist watchmaker shoemaker geologist blacksmith cashier surgeon""".split()

HOBBIES = """chess|fishing|pottery|hiking|knitting|painting|sailing|running|gardening|archery|stamp collecting|juggling|rowing
|baking|swimming|bird watching|skating|cycling|climbing|dancing|origami|fencing|photography|surfing|table tennis""".replace(
    "\n", ""
).split("|")

ANIMALS = "cat dog rabbit parrot hamster horse turtle goat hen duck canary pony kitten puppy goldfish mouse sheep donkey".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

_ONSETS = "b br c ch cl d dr f fl g gr h j k kl l m n p pl qu r s sh sk sl st t th tr v w z".split()
_VOWELS = "a e i o u ai ea ee oo ou".split()
_CODAS = ["", "", "n", "r", "l", "s", "m", "t", "ck", "nd", "rk", "x"]


def invented(rng: Random) -> str:
    """A word that is in no dictionary, so that it can only be recalled by copying."""
    word = "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + (rng.choice(_CODAS) if rng.random() < 0.6 else "")
        for _ in range(rng.choice((2, 2, 3)))
    )
    return word.capitalize()


def name(rng: Random) -> str:
    """A first name, invented in one of six cases."""
    return invented(rng) if rng.random() < 0.17 else rng.choice(NAMES)


def number(rng: Random, digits: int | None = None) -> str:
    """A number of two to six digits."""
    n = digits or rng.choice((2, 3, 4, 4, 4, 5, 6))
    return str(rng.randrange(10 ** (n - 1), 10**n))
