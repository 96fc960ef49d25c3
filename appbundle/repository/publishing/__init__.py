"""The publisher's side: a repository's folder and the metadata in it, made and renewed."""
