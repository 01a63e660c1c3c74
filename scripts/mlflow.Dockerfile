# MLflow's server with what it needs for PostgreSQL and S3; compose.yaml builds it.
FROM python:3.11-slim
COPY requirements-dev.txt /constraints.txt
RUN pip install --no-cache-dir --constraint /constraints.txt "mlflow[auth]" boto3 "psycopg[binary]"
USER 65534
