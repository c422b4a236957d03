"""JSON Schemas of what queries take and answer, and the OpenAPI document made of them."""
