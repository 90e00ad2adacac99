"""Audio encoders aligned with a frozen language model that read the reports."""
