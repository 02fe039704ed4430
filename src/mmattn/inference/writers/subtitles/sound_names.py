"""Names of sounds for subtitles: `dog barking` for AudioSet's Bark, Bow-wow and Dog."""

from __future__ import annotations

# Classes without a cue: speech is transcribed; silence, rooms and hiss are no events.
UNNAMED = frozenset(
    (
        *("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue", "Speech synthesizer"),
        *("Whispering", "Silence", "Inside, small room", "Inside, large room or hall", "Inside, public space"),
        *("Outside, urban or manmade", "Outside, rural or natural", "Reverberation", "Echo", "Noise", "Static"),
        *("Environmental noise", "Mains hum", "Distortion", "Sidetone", "Cacophony", "White noise", "Pink noise"),
        *("Throbbing", "Vibration", "Television", "Radio", "Field recording", "Sound effect", "Sine wave", "Harmonic"),
        *("Pulse", "Hum", "Wind noise (microphone)", "Effects unit", "Chorus effect", "Mechanisms", "Hands", "Liquid"),
    )
)
# Classes of many kinds, left out while one of the kinds is shown.
GENERAL = frozenset(
    (
        *("Animal", "Domestic animals, pets", "Livestock, farm animals, working animals", "Wild animals", "Vehicle"),
        *("Musical instrument", "Canidae, dogs, wolves", "Rodents, rats, mice", "Motor vehicle (road)", "Engine"),
        *("Plucked string instrument", "Bowed string instrument", "Brass instrument", "Mallet percussion", "Wood"),
        *("Wind instrument, woodwind instrument", "Keyboard (musical)", "Percussion", "Tools", "Water", "Insect"),
        *("Emergency vehicle", "Rail transport", "Aircraft", "Fowl", "Crowd", "Glass", "Alarm", "Telephone"),
    )
)
_NAMES = {
    "dog barking": ("Bark", "Bow-wow", "Yip", "Dog"),
    "dog howling": ("Howl",),
    "dog growling": ("Growling",),
    "dog whimpering": ("Whimper (dog)",),
    "cat meowing": ("Meow", "Caterwaul", "Cat"),
    "cat purring": ("Purr",),
    "horse trotting": ("Clip-clop",),
    "horse neighing": ("Neigh, whinny",),
    "cow mooing": ("Moo", "Cattle, bovinae"),
    "pig oinking": ("Oink", "Pig"),
    "sheep bleating": ("Bleat", "Sheep", "Goat"),
    "rooster crowing": ("Crowing, cock-a-doodle-doo",),
    "chicken clucking": ("Cluck", "Chicken, rooster"),
    "duck quacking": ("Quack", "Duck"),
    "birds singing": ("Bird", "Bird vocalization, bird call, bird song", "Chirp, tweet"),
    "bird squawking": ("Squawk",),
    "crow cawing": ("Caw", "Crow"),
    "owl hooting": ("Hoot", "Owl"),
    "pigeon cooing": ("Coo", "Pigeon, dove"),
    "crickets chirping": ("Cricket",),
    "bees buzzing": ("Bee, wasp, etc.", "Buzz", "Mosquito", "Fly, housefly"),
    "frog croaking": ("Croak", "Frog"),
    "laughter": ("Laughter", "Giggle", "Snicker", "Belly laugh", "Chuckle, chortle"),
    "baby laughing": ("Baby laughter",),
    "baby crying": ("Baby cry, infant cry",),
    "crying": ("Crying, sobbing", "Whimper"),
    "screaming": ("Screaming",),
    "shouting": ("Shout", "Bellow", "Whoop", "Yell"),
    "singing": ("Singing", "Child singing", "Vocal music", "A capella"),
    "coughing": ("Cough",),
    "sneezing": ("Sneeze", "Sniff"),
    "snoring": ("Snoring",),
    "footsteps": ("Walk, footsteps", "Run", "Shuffle"),
    "clapping": ("Clapping",),
    "crowd talking": ("Chatter", "Hubbub, speech noise, speech babble", "Crowd"),
    "thunder": ("Thunder", "Thunderstorm"),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "waves": ("Waves, surf", "Ocean"),
    "fire crackling": ("Fire", "Crackle"),
    "siren": ("Siren", "Police car (siren)", "Ambulance (siren)", "Fire engine, fire truck (siren)"),
    "car horn": ("Vehicle horn, car horn, honking", "Toot"),
    "door slams": ("Slam",),
    "knocking": ("Knock",),
    "phone ringing": ("Telephone bell ringing", "Ringtone", "Telephone"),
    "alarm": ("Alarm", "Alarm clock", "Fire alarm", "Smoke detector, smoke alarm", "Buzzer"),
    "gunshot": ("Gunshot, gunfire", "Machine gun", "Fusillade"),
    "explosion": ("Explosion", "Boom"),
    "glass shattering": ("Shatter", "Glass"),
    "clock ticking": ("Tick", "Tick-tock", "Clock"),
    "bell ringing": ("Bell", "Church bell", "Ding", "Ding-dong", "Doorbell"),
    "engine": ("Engine", "Idling", "Medium engine (mid frequency)", "Light engine (high frequency)"),
}
_BY_CLASS = {name: shown for shown, names in _NAMES.items() for name in names}


def shown_name(name: str) -> str:
    """The name shown for a class; for other classes in lower case up to the first comma or bracket."""
    plain = name.partition(",")[0].partition("(")[0].strip() or name
    return _BY_CLASS.get(name, plain.lower())
