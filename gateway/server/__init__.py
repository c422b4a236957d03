"""Gunicorn's side: what it is told, the artefact its workers serve, the folder they share."""
