"""The registry under kills, under racing promoters and against hostile releases; its servers serve tests as well."""
