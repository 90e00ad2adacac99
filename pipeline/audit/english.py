"""Declared words of English: negations, uncertainty, what ends them, and words that state nothing.

Phrases are written as ``scan.lemmas`` leaves them: lower case, singular, hyphens as spaces.
"""

# Deny what follows, up to the end of the list or clause.
NEGATIONS = (
    "no", "not", "non", "never", "neither", "nor", "without", "none of", "absence of", "lack of",
    "free of", "free from", "deny", "denied", "negative for", "no evidence of", "no sign of",
    "no presence of", "absence of any", "no indication of", "devoid of", "rule out", "ruled out",
    "did not", "does not", "do not", "not associated with", "not be associated with",
    "unrelated to",
)  # fmt: skip
# These deny one noun phrase, which a comma ends: "despite the absence of murmurs, ...".
ABSENCES = ("absence of", "absence of any", "lack of", "non", "not associated with")
# A negation after one of these denies its subject: "wheezes were not annotated".
COPULAS = ("was", "were", "is", "are", "be", "been", "has been", "have been")
# Deny what stands before them.
DENIALS_AFTER = (
    "absent",
    "is absent",
    "was absent",
    "not found",
    "not present",
    "missing",
    "none",
    "none detected",
    "none found",
    "none heard",
)
# Nothing of what is counted.
NOTHING = ("nothing at all", "nothing")
# The source cannot tell. Bind the nearest thing named, the one that follows where both are near.
UNCERTAINTY = (
    "could not tell", "could not decide", "could not say", "cannot tell", "not known",
    "unable to tell", "unable to determine", "unsure", "undecided", "not clear",
    "could not be determined", "could not be assessed", "could not be told", "cannot be told",
    "cannot be determined", "could not be decided", "indeterminate", "undetermined", "unclear",
    "uncertain", "uncertainty", "inconclusive", "unknown", "not be determined", "equivocal",
    "not determined", "undecidable", "could not be established", "could not be judged",
    "was not determined", "not be established", "questionable", "unconfirmed",
    "not definitively", "may be",
)  # fmt: skip
# Say that something is not told. That denies nothing, and leaves open nothing either:
# "a murmur of unknown origin" is a murmur.
SILENCE = (
    "not provided", "not available", "not described", "not detailed", "not given", "not defined",
    "not documented", "not further specified", "not published", "not stated", "not indicated",
    "not specified", "unspecified", "undefined", "unidentified", "of unknown origin",
    "of unspecified origin", "of undetermined origin", "of unknown type", "of unknown etiology",
    "of undetermined etiology", "of unknown characteristic", "of unknown cause",
)  # fmt: skip
# End what a negation reaches.
STOPS = (
    "but", "however", "yet", "although", "though", "despite", "while", "whereas", "with",
    "indicating", "suggesting", "indicate", "suggest", "which", "who", "aside from", "except",
    "other than", "in spite of", "nevertheless", "still", "suggestive of", "consistent with",
    "indicative of", "presenting",
    "reflecting", "nonetheless",
)  # fmt: skip
JOINERS = (",", "and", "or", "nor")
# A comma or "and" before one of these begins a new statement.
STARTERS = ("the", "it", "they", "overall", "this", "there", "finding", "outcome", "their", "its")
VERBS = (
    *COPULAS, "had", "has", "have", "heard", "found", "annotated", "marked", "noted", "reported",
    "detected", "audible", "observed", "identified", "recorded", "seen", "labelled", "named",
    "mark", "note", "report", "reveal", "revealed", "appear", "contain", "contained", "showed",
    "show", "judged", "described", "called", "rated", "graded", "suspected", "considered",
)  # fmt: skip
HERE = ("at this site", "this site", "here", "at this location", "at the recorded site")
NOT_HERE = ("at other site only", "other site only", "only elsewhere", "only at other site")
ELSEWHERE = ("elsewhere", "at other site", "at another site")
# "There is a murmur" in the report of one recording is about this recording.
EXISTENTIAL = ("there is", "there are", "there is also")
APPROXIMATELY = ("about", "approximately", "around", "roughly", "nearly")
BELOW = ("less than", "under", "younger than")

ADVICE = (
    "advised", "recommended", "recommend", "warranted", "warrant", "further evaluation",
    "further investigation", "follow up", "further workup", "should be", "need to be",
    "further assessment", "further clinical",
)  # fmt: skip
SCALES = ("out of 1", "from 0 to 1", "of 1")
_SAY_NOTHING = """
a about according acquisition age aged all along also among an and annotate annotated
annotation annotator another any approximately are area around as asked at attribute
attributed audible auscultate auscultated auscultation automatic be because been being belong
belonging between body both breath breathing by call called can cardiac cause chest child
class classed classified clinical clinically clinician collection condition confined consider
considered contain containing could count counted crowdsourced cycle describe described
detected detector device diagnosed diagnosis did do does down during each echo
echocardiographic echocardiography either event every examination exhibit exhibited expert
find for found from further gave give given gives grade graded group had has have having he
hear heard heart height her here his history hold holds i if impression in include including
indicate indicated interval into is it its judge judged just known label labeled labelled
linked listed listened listener location loudest lung made mark marked may mean
measured medical member microphone might minute mode most name named namely note noted number
of old on only or other out outcome over overall participant participated patient per person
phase phonocardiogram pitch place placed position presence present probability put quality
rate rated record recorded recording region remain remained remaining report reported
respectively respiratory rest result said same say second self sent set shape she show showed
shown sit site smoke so sound source specified state stated status stethoscope subject such
summary survey suspect suspected taken tall test tested than that the their them then there
these they this those through time timing to together too total under use used using value
volunteer was weight were when where whether which while who whole whose will with within
young
"""
# Say nothing about a finding.
PLAIN = frozenset(_SAY_NOTHING.split())
