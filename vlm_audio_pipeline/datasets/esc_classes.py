"""The 50 classes of ESC-50: canonical names, how a person says them, synonyms and one sentence on how each sounds.

What belongs here: words about classes. What does not: how a prompt is written or an answer parsed.
Reference: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, https://doi.org/10.1145/2733373.2806390.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassName:
    """What a class is called.

    Attributes:
        name: canonical name, as in `esc50.csv`.
        human: the name as a person writes it.
        synonyms: lower-case words and phrases that mean this class and no other of ESC-50.
        description: one sentence on how it sounds, for zero-shot classification by text.
    """

    name: str
    human: str
    synonyms: tuple[str, ...]
    description: str


def _class(name: str, synonyms: str, description: str) -> ClassName:
    return ClassName(name, _human(name), tuple(s.strip() for s in synonyms.split(",")), description)


def _human(label: str) -> str:
    return label.replace("_", " ").replace("-", " ")


ESC50: tuple[ClassName, ...] = (
    _class(
        "dog",
        "dogs, dog bark, dog barking, barking dog, bark, barking, puppy",
        "A dog barks in short, sharp, harmonic bursts with abrupt onsets.",
    ),
    _class(
        "rooster",
        "roosters, cockerel, cock-a-doodle-doo, rooster crowing, crowing rooster, rooster call",
        "A rooster crows in a loud, rising and falling call of a few long harmonic notes.",
    ),
    _class(
        "pig",
        "pigs, hog, swine, oink, oinking, pig grunting, pig squealing",
        "A pig grunts and squeals in low, rough, snorting bursts.",
    ),
    _class(
        "cow",
        "cows, cattle, moo, mooing, cow mooing",
        "A cow moos in a long, low, nasal tone with strong harmonics.",
    ),
    _class(
        "frog",
        "frogs, toad, croak, croaking, ribbit, frog croaking",
        "A frog croaks in short, rhythmic, rattling pulses.",
    ),
    _class(
        "cat",
        "cats, kitten, meow, meowing, cat meowing, purring",
        "A cat meows in a high, gliding harmonic tone that rises and falls.",
    ),
    _class(
        "hen",
        "hens, hen clucking, cluck, clucking, cackling hen",
        "A hen clucks in quick, soft, irregular notes.",
    ),
    _class(
        "insects",
        "insect, flying insect, flying insects, insect buzzing, buzzing insect, buzzing fly, bee, bees, mosquito",
        "Flying insects buzz in a continuous, wavering hum with many harmonics.",
    ),
    _class(
        "sheep",
        "lamb, bleat, bleating, sheep bleating, baa",
        "A sheep bleats in a harsh, trembling, nasal tone.",
    ),
    _class(
        "crow",
        "crows, caw, cawing, crow cawing, crow call",
        "A crow caws in harsh, rasping, repeated calls.",
    ),
    _class(
        "rain",
        "raining, rainfall, rain falling, falling rain, heavy rain, rain shower",
        "Rain falls in a steady, broadband hiss without pitch.",
    ),
    _class(
        "sea_waves",
        "sea wave, ocean, ocean waves, waves, waves crashing, crashing waves, surf",
        "Sea waves swell and break in slow, broadband washes of noise that rise and fade.",
    ),
    _class(
        "crackling_fire",
        "fire, fire crackling, crackling, crackle, campfire, bonfire, fireplace",
        "A fire crackles in irregular, very short, sharp clicks over a faint hiss.",
    ),
    _class(
        "crickets",
        "cricket, cricket chirping, crickets chirping, chirping crickets",
        "Crickets chirp in a high, narrow band of fast, regular pulses.",
    ),
    _class(
        "chirping_birds",
        "bird chirping, birds chirping, chirping bird, birdsong, bird song, bird singing, birds singing, tweeting",
        "Small birds chirp in high, short, rapidly gliding whistles.",
    ),
    _class(
        "water_drops",
        "water drop, water droplets, dripping, dripping water, water dripping, drip",
        "Water drops fall one by one, each a short, ringing, pitched plop.",
    ),
    _class(
        "wind",
        "windy, wind blowing, blowing wind, howling wind, wind gust",
        "Wind blows in a low, rumbling noise that swells and sinks irregularly.",
    ),
    _class(
        "pouring_water",
        "water pouring, pouring, pouring a drink, filling a glass",
        "Water is poured into a vessel with a gurgling splash whose pitch rises as it fills.",
    ),
    _class(
        "toilet_flush",
        "toilet, toilet flushing, flushing toilet, flushing a toilet",
        "A toilet is flushed with a sudden, loud rush of water that gurgles away.",
    ),
    _class(
        "thunderstorm",
        "thunder, thunder storm, thunderclap, rolling thunder, lightning",
        "Thunder cracks and rolls in a low, long, decaying rumble.",
    ),
    _class(
        "crying_baby",
        "baby crying, baby cry, baby, infant, infant crying, crying infant, crying, newborn crying",
        "A baby cries in long, high, harmonic wails separated by breaths.",
    ),
    _class(
        "sneezing",
        "sneeze, sneezes, person sneezing, person sneeze, achoo",
        "A person sneezes with a short intake of breath and one explosive burst of noise.",
    ),
    _class(
        "clapping",
        "clap, claps, applause, hand clapping, hands clapping",
        "Hands clap in short, broadband impulses, alone or as applause.",
    ),
    _class(
        "breathing",
        "breath, breaths, heavy breathing, person breathing, panting",
        "A person breathes in and out in soft, slow, alternating puffs of noise.",
    ),
    _class(
        "coughing",
        "cough, coughs, person coughing",
        "A person coughs in short, forceful, noisy bursts, often several in a row.",
    ),
    _class(
        "footsteps",
        "footstep, walking, steps, person walking, footfalls",
        "Footsteps fall as regular, separate, low thuds or crunches.",
    ),
    _class(
        "laughing",
        "laugh, laughs, laughter, person laughing, giggling",
        "A person laughs in a quick series of voiced, harmonic syllables.",
    ),
    _class(
        "brushing_teeth",
        "tooth brushing, toothbrushing, teeth brushing, toothbrush, brushing",
        "Teeth are brushed with a fast, regular, scratching noise.",
    ),
    _class(
        "snoring",
        "snore, snores, person snoring",
        "A person snores in long, low, rattling breaths at a slow rhythm.",
    ),
    _class(
        "drinking_sipping",
        "drinking, sipping, sip, slurp, slurping, gulping",
        "A person drinks with short slurps, swallows and gulps.",
    ),
    _class(
        "door_wood_knock",
        "door knock, door knocking, knock, knocking, knock on a door, knocking on a door, wooden door knock",
        "Knuckles knock on a wooden door in a few quick, hollow, regular thuds.",
    ),
    _class(
        "mouse_click",
        "mouse clicks, mouse clicking, computer mouse, clicking mouse",
        "A computer mouse is clicked with tiny, dry, isolated clicks.",
    ),
    _class(
        "keyboard_typing",
        "keyboard, typing, typing on a keyboard, computer keyboard",
        "Fingers type on a keyboard in a rapid, irregular clatter of light clicks.",
    ),
    _class(
        "door_wood_creaks",
        "door creak, door creaks, door creaking, creaking door, creaky door, creaking, creak, squeaky door",
        "A wooden door creaks in slow, scraping squeaks that glide in pitch.",
    ),
    _class(
        "can_opening",
        "opening a can, opening can, can being opened, opened can, soda can",
        "A can is opened with a sharp metallic snap and a short hiss of gas.",
    ),
    _class(
        "washing_machine",
        "washing machines, washer, laundry machine, clothes washer",
        "A washing machine runs with a steady, low, churning hum.",
    ),
    _class(
        "vacuum_cleaner",
        "vacuum, vacuum cleaners, vacuuming, hoover",
        "A vacuum cleaner runs with a loud, steady, broadband whine.",
    ),
    _class(
        "clock_alarm",
        "alarm clock, alarm clock ringing, alarm clock beeping, clock beeping",
        "An alarm clock beeps or rings in fast, regular, high-pitched repetitions.",
    ),
    _class(
        "clock_tick",
        "clock ticking, ticking clock, ticking, tick, tick-tock, tick tock",
        "A clock ticks in faint, very short clicks at exactly regular intervals.",
    ),
    _class(
        "glass_breaking",
        "breaking glass, broken glass, glass shattering, shattering glass, glass smashing, shattered glass",
        "Glass breaks with a sharp crash followed by high, ringing fragments.",
    ),
    _class(
        "helicopter",
        "helicopters, chopper, helicopter rotor, rotor blades",
        "A helicopter flies with a steady, low, rapidly repeating chop of its rotor.",
    ),
    _class(
        "chainsaw",
        "chainsaws, chain saw, chain saws, chain-saw",
        "A chainsaw roars with a loud, buzzing, harmonic whine of its motor that changes with the load.",
    ),
    _class(
        "siren",
        "sirens, police siren, ambulance siren, emergency siren",
        "A siren wails in a loud tone that sweeps up and down in pitch.",
    ),
    _class(
        "car_horn",
        "car horns, car honk, honk, honking, horn honking, vehicle horn",
        "A car horn honks in a loud, steady, harmonic chord that starts and stops abruptly.",
    ),
    _class(
        "engine",
        "engines, motor, car engine, engine running, engine idling, idling engine",
        "An engine runs with a steady, low, pulsing rumble.",
    ),
    _class(
        "train",
        "trains, railway, locomotive, train passing, passing train, train horn",
        "A train passes with a long, heavy rumble and the rhythmic clatter of wheels on rails.",
    ),
    _class(
        "church_bells",
        "church bell, bells ringing, ringing bells, bell tower, bell tolling, tolling bells",
        "Church bells ring in loud, metallic, slowly decaying tones that overlap.",
    ),
    _class(
        "airplane",
        "airplanes, aeroplane, plane, jet plane, airplane flying",
        "An airplane passes overhead with a long, slowly changing, broadband roar.",
    ),
    _class(
        "fireworks",
        "firework, firecracker, firecrackers, fireworks exploding",
        "Fireworks whistle, bang and crackle in sudden, echoing explosions.",
    ),
    _class(
        "hand_saw",
        "handsaw, hand sawing, sawing by hand, hand saws",
        "A hand saw cuts wood with a rough, rhythmic, back-and-forth rasp.",
    ),
)
"""The classes, in the order of their targets 0 to 49."""

LEGACY_FOLDERS: dict[str, str] = {
    "001 - Dog bark": "dog",
    "002 - Rain": "rain",
    "003 - Sea waves": "sea_waves",
    "004 - Baby cry": "crying_baby",
    "005 - Clock tick": "clock_tick",
    "006 - Person sneeze": "sneezing",
    "007 - Helicopter": "helicopter",
    "008 - Chainsaw": "chainsaw",
    "009 - Rooster": "rooster",
    "010 - Fire crackling": "crackling_fire",
}
"""Canonical name of each folder of the ESC-10 repository."""

ESC10: tuple[str, ...] = tuple(LEGACY_FOLDERS.values())
"""The classes of ESC-10, in the order of its folders."""

_BY_NAME = {c.name: c for c in ESC50}


def class_name(label: str) -> ClassName:
    """Say what a label is called; one that is not of ESC-50 is called what it says, without underscores and hyphens.

    >>> class_name("sea_waves").human
    'sea waves'
    >>> class_name("lung_crackle")
    ClassName(name='lung_crackle', human='lung crackle', synonyms=(), description='lung crackle')
    """
    human = _human(label)
    return _BY_NAME.get(label) or ClassName(label, human, (), human)
