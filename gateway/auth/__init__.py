"""Who calls: keys, tokens and certificates to callers. Knows neither Falcon nor PostgreSQL."""
