"""PostgreSQL mechanics of the warehouse: what is built in the database, and how it is kept up to date."""
