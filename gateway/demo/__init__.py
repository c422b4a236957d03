"""The embedded cluster and the sample shop: what ``gateway demo`` and the tests against real servers stand on."""
