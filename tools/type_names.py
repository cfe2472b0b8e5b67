"""Short names of PostgreSQL's types."""

_SHORT_NAMES = {
    "character varying": "varchar",
    "character": "char",
    "integer": "int",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "double precision": "float",
}


def short_type(kind: str) -> str:
    """Return the short name of a type, such as `varchar(255)` for `character varying(255)`."""
    name, bracket, size = kind.partition("(")
    return f"{_SHORT_NAMES.get(name, name)}{bracket}{size}"
