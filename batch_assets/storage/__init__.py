"""Where tables, vectors and models live; each is a Dagster resource."""
