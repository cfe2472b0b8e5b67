"""Types of PostgreSQL under the names that people use."""

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
    """`character varying(255)` → `varchar(255)`."""
    name, bracket, size = kind.partition("(")
    return f"{_SHORT_NAMES.get(name, name)}{bracket}{size}"
