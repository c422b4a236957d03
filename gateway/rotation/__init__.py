"""What is known of the endpoints of a node, and which of them may serve; knows neither connections nor PostgreSQL."""
