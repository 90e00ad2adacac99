"""Publishers' files -> verified local files -> unpacked folder; no step, no Dagster, no settings.

``remote`` opens a URL at an offset, ``download`` makes one file of it that is either finished
or resumable, ``transfer`` runs several at a time. ``volumes`` reads the pieces of a cut archive
as one, here or by Range on a server; ``zip_reader`` and ``unpack`` take it apart, and ``guard``
refuses what a hostile archive would do.
"""
