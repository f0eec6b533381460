"""English function words, which augmentation leaves alone: they carry the grammar, and often the label."""

_WORDS = """
a an the this that these those
i me my mine myself we us our ours ourselves you your yours yourself yourselves
he him his himself she her hers herself it its itself they them their theirs themselves
who whom whose which what when where why how
and or but nor so if because as until while than though although
of at by for with about against between into through during before after above below to from up down in out on off over
under again further upon within without
am is are was were be been being have has had having do does did doing
can could will would shall should may might must ought
not no only own same too very just now then once here there also
all any both each few more most other some such every either neither
s t d ll m re ve don didn doesn isn aren wasn weren won wouldn couldn shouldn hasn haven hadn mustn needn ain
"""

STOP_WORDS = frozenset(_WORDS.split())
"""In lower case; what is left of a contraction ("don't": don, t) is among them."""
