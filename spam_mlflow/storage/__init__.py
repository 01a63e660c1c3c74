"""S3 stores, and exports of models to them."""
