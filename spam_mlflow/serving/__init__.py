"""The serving app: MLflow's scoring server with a store of inferences and what people say of it."""
