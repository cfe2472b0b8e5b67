"""The warehouse in PostgreSQL: how its tables are defined, loaded, published and kept up to date."""
