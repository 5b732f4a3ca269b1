"""Work inside a site's virtual environment. Only this half of the engine imports Django.

`worker_main` runs one task after `site_start` has started the site and `database_guard` watches its connections:
`fixture_dump` (model by model: `model_dump`, or `fast_dump`), `fixture_load` (model by model: `model_rows`),
`model_description`, `mask_examples`, `migration_survey` and `migration_schema`. `fast_or_stock` decides how.
"""
