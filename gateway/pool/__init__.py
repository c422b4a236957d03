"""Slots, queue, leases, rotation; knows neither PostgreSQL nor HTTP nor settings."""
