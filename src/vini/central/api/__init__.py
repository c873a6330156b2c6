"""The REST API, one module per noun: docs/reference/rest-api.md describes it, /v1/openapi.json declares it."""
