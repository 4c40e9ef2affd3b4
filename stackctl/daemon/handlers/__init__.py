"""One module per resource: decode the request, call a service of the core, encode the answer."""
