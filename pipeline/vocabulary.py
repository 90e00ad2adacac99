"""The words that all datasets share: what a finding is about, and who says so."""

from typing import Literal

Concept = Literal[
    # the person
    "age",
    "sex",
    "height",
    "weight",
    "body_mass_index",
    "pregnancy",
    "smoking",
    "vaccination",
    # the recording
    "sound",
    "auscultation_site",
    "device",
    "acquisition",
    "duration",
    "recording_quality",
    "cough_detection",
    "enrolment",
    "recording_day",
    # what was heard, counted or graded in it
    "breath_phase",
    "breathing_cycle",
    "normal_breath_sound",
    "adventitious_sound",
    "label_conflict",
    "heart_rate",
    "respiratory_rate",
    "murmur",
    "murmur_site",
    "murmur_timing",
    "murmur_shape",
    "murmur_grade",
    "murmur_pitch",
    "murmur_quality",
    "cough_type",
    "sign",
    # the illness
    "symptom",
    "condition",
    "diagnosis",
    "severity",
    "clinical_outcome",
    "test_result",
    "test_method",
    "cycle_threshold",
    "lung_function",
]

# Whose word it is. publisher: the tables or names of the archive, without saying whose finding.
Authority = Literal[
    "publisher",
    "self-report",
    "annotator",
    "expert 1",
    "expert 2",
    "expert 3",
    "medical expert",
    "echocardiography",
    "laboratory test",
    "spirometry",
    "automatic detector",
    "segmentation",
]

# What tasks of several datasets ask alike, so that a head of one can be tested on another. Their
# positive classes mean the same.
Question = Literal[
    "adventitious lung sounds",
    "obstructive lung disease",
    "heart disease",
    "COVID-19 in a cough",
    "female in a cough",
]
