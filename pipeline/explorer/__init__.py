"""A local page over the tables and parts of a corpus; read-only but for marks."""

PORT = 8765
