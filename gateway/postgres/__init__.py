"""PostgreSQL through psycopg2, which nothing outside this room imports."""
