"""Declared words of medicine: units, ages, other names, contexts, and what would be invented.

What a finding is called stands in the manifests. Here stands only what the reader needs beside
them. Phrases are written as ``scan.lemmas`` leaves them: lower case, singular, hyphens as spaces.
"""

_COUNTING = """zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen twenty"""
NUMBERS = {word: float(n) for n, word in enumerate(_COUNTING.split())} | {
    "single": 1.0,
    "once": 1.0,
    "twice": 2.0,
}
# Manifest unit -> how a text writes it. The first of each is the unit's own name here.
UNITS = {
    "cm": ("cm", "centimetre", "centimeter"),
    "kg": ("kg", "kilogram", "kilo"),
    "kg/m2": ("kg/m2", "kg per m2"),
    "beats/min": ("beat/min", "beat per minute", "per minute", "bpm", "beat a minute"),
    "years": ("year old", "year of age", "year"),
    "months": ("month old", "month of age", "month"),
    "weeks": ("week old", "week of age", "week"),
    "days": ("day old", "day of age", "day"),
    "seconds": ("second", "second of sound"),
}
DAYS = {"days": 1.0, "weeks": 7.0, "months": 30.44, "years": 365.25}
BIRTH = ("on the day of birth", "on day of birth", "the day of birth")
# A part of a number's label -> words that announce the number where its unit does not.
QUANTITIES = {
    "height": ("height", "tall", "high"),
    "weight": ("weight", "weigh"),
    "body mass index": ("body mass index", "bmi"),
    "heart rate": ("heart rate",),
    "age": ("age", "aged"),
    "cycle threshold": ("mean cycle threshold", "cycle threshold", "ct", "ct value"),
    "probability": ("probability",),
}
# Ages in years, from and below, that a word for a person allows.
STAGES = {
    "newborn": (0.0, 0.08),
    "neonate": (0.0, 0.08),
    "infant": (0.0, 1.0),
    "toddler": (1.0, 4.0),
    "child": (0.0, 13.0),
    "adolescent": (12.0, 20.0),
    "teenager": (13.0, 20.0),
    "the child": (0.0, 20.0),  # refers to the patient of a children's hospital, states no age
    "girl": (0.0, 20.0),
    "boy": (0.0, 20.0),
    "adult": (18.0, 150.0),
    "woman": (18.0, 150.0),
    "man": (18.0, 150.0),
}
# Another way to say words of the manifests.
SYNONYMS = {
    "girl": ("female",),
    "woman": ("female",),
    "boy": ("male",),
    "man": ("male",),
    "young woman": ("young adult", "female"),
    "young man": ("young adult", "male"),
    "newborn": ("neonate",),
    "other auscultation site": ("another auscultation site",),
    "another site": ("another auscultation site",),
    "aortic valve": ("aortic",),
    "av": ("aortic",),
    "pulmonic": ("pulmonary",),
    "pulmonary valve": ("pulmonary",),
    "pulmonic valve": ("pulmonary",),
    "pv": ("pulmonary",),
    "tricuspid valve": ("tricuspid",),
    "tv": ("tricuspid",),
    "mitral valve": ("mitral",),
    "mv": ("mitral",),
    "phc": ("another auscultation site",),
    "pansystolic": ("holosystolic",),
    "low pitch": ("low pitched",),
    "medium pitch": ("medium pitched",),
    "high pitch": ("high pitched",),
    "low in pitch": ("low pitched",),
    "high in pitch": ("high pitched",),
    "i/vi": ("grade i/vi",),
    "ii/vi": ("grade ii/vi",),
    "iii/vi": ("grade iii/vi",),
    "i/iv": ("grade i/iv",),
    "ii/iv": ("grade ii/iv",),
    "iii/iv": ("grade iii/iv",),
    "copd": ("chronic obstructive pulmonary disease",),
    "symptom": ("symptomatic",),
    "sex as other": ("other",),
    "other sex": ("other",),
    "sex : other": ("other",),
    "never having smoked": ("never smoked",),
    "noise": ("noisy",),
    "within normal limit": ("normal",),
    "unremarkable": ("normal",),
}
# Too common to mean a finding when they stand alone.
NEVER_ALONE = ("other",)
# Both boxes are ticked where the first is.
IMPLIED = {"new continuous cough": ("a cough",)}
# Nouns that words of one finding share and that a list says once: "aortic and mitral areas".
HEADS = ("area", "chest")
# Another way to name what a flag or count is about, by its label.
TOPICS = {
    "adventitious sound": ("adventitious lung sound", "adventitious respiratory sound"),
    "other respiratory condition": ("another respiratory condition", "respiratory condition"),
    "fever or muscle pain": ("fever nor muscle pain", "fever and muscle pain"),
    "label contradict each other": ("not agree", "do not agree", "disagree", "contradict"),
    "breath sound with wheeze and crackle": ("wheeze together with crackle", "wheeze with crackle"),
    "smoking": ("smoke", "smoked"),
    "cough type": ("dry or wet",),
    "severity": ("severity of the cough",),
}
# Says yes to the first topic and, where the report is also about the second, no to that.
OTHER_THAN = {"respiratory condition other than asthma": ("other respiratory condition", "asthma")}
# One word for several counts.
UMBRELLAS = {"breath phase": ("inhalation", "exhalation")}
# Counts out of which others are counted, by label.
TOTALS = ("breathing cycle",)
# What counts are counted out of, where no finding holds the total: it is their sum.
GROUPS = ("breath sound",)
LABEL_FRAMES = ("breath sound with", "cycle with", "interval of", "number of")
LABEL_TAILS = ("annotated",)
NAME_TAILS = ("cycle", "event")
# Families of contexts. A finding is meant where the context named in its label was named last.
# family -> (part of the label, words of the text); of one family the first that fits counts.
CONTEXTS = {
    "expert": (
        (
            "expert 1",
            ("expert 1", "first expert", "expert 1 and 2", "expert 1 and 3", "all three expert"),
        ),
        (
            "expert 2",
            ("expert 2", "second expert", "expert 1 and 2", "expert 2 and 3", "all three expert"),
        ),
        (
            "expert 3",
            ("expert 3", "third expert", "expert 1 and 3", "expert 2 and 3", "all three expert"),
        ),
    ),
    "test": (
        ("influenza a", ("influenza a", "influenza a and b", "influenza a and influenza b")),
        ("influenza b", ("influenza b", "influenza a and b", "influenza a and influenza b")),
        ("sars cov 2", ("sars cov 2", "covid 19 test")),
    ),
    "phase": (
        ("diastolic", ("diastolic", "diastole")),
        ("systolic", ("systolic", "systole")),
    ),
    "place": (
        ("loudest", ("loudest", "most audible", "best heard", "most clearly heard", "most audibly",
                     "predominantly heard", "predominantly")),
        ("murmur", ("murmur", "heard", "audible", "noted", "present", "involvement", "involving",
                    "extend", "extension", "extending", "additional", "additionally", "audibility",
                    "also", "radiating", "radiation", "radiate", "spread")),
        ("auscultation site", ("recorded", "recording", "placed", "stethoscope", "taken")),
    ),
    "whole": (
        ("whole recording", ("recording as a whole", "whole recording", "overall label")),
        ("breath sound", ("breath sound",)),
    ),
    "topic": (
        ("smoking", ("smoke", "smoked", "smoking", "smoker")),
        ("symptom", ("symptom",)),
    ),
}  # fmt: skip
# Murmurs were heard in one place alone, so that is also where they are loudest.
ALONE = ("only", "confined")
# What is meant where the sentence names no context of the family.
DEFAULT_CONTEXTS = {"place": "auscultation site"}
# Every recording of the dataset has it, so no finding holds it.
CONSTANTS = {"uk_covid19": ("online survey", "the web browser of their own device")}
# Medical words that are an invention wherever no finding of the dataset means them.
MEDICAL = tuple(
    """
    murmur, wheeze, crackle, stridor, rhonchus, crepitation, rale, squawk, rub, gallop, thrill,
    click, pneumonia, asthma, copd, bronchitis, bronchiolitis, bronchiectasis, tuberculosis,
    pneumothorax, emphysema, fibrosis, effusion, pleural effusion, covid 19, covid, sars cov 2,
    influenza, infection, fever, dyspnea, dyspnoea, apnea, apnoea, hypoxia, cyanosis, edema,
    oedema, hemoptysis, chest pain, pain, fatigue, headache, cough, sputum, congestion, cold,
    septal defect, defect, heart disease, congenital heart disease, heart failure, stenosis,
    regurgitation, insufficiency, prolapse, cardiomyopathy, arrhythmia, tachycardia, bradycardia,
    hypertension, hypertrophy, ischemia, hemodynamic compromise, hemodynamic, foramen ovale,
    ductus arteriosus, diabetes, obesity, pregnancy, pregnant, smoker, allergy, cancer, death,
    normal heart sound, extra heart sound, s1, s2, s3, s4, valvular, turbulent flow, shunt,
    abnormal heart sound, heart sound are normal, heart sound were normal, heart sound is normal,
    cardiac function, heart function, cardiac rhythm, turbulence, blood flow, pathology,
    pathological, underlying, structural heart disease, healthy, severe, mild, moderate
    """.replace("\n", " ").split(",")
)
